"""Jobs over HTTP: ordering, asking, cancelling, removing."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.gateway import worker_registry
from service.gateway.routes import jobs
from service.jobs.reconciler import Reconciler
from service.queue.messages import WorkerInfo
from tests.service.gateway.routes.jobs.ordering import call, drawing, finished, order, order_of, read_events, worker_of
from tests.service.gateway.stand_in import RunningGateway
from tests.service.jobs.stand_in import expected_tiles
from tests.service.waiting import LONG, eventually


def test_an_order_is_accepted_with_its_address_and_cost(gateway: RunningGateway) -> None:
    answer = order(gateway, truncation_psi=0.5, format="jpeg", quality=80)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{gateway.address}/v1/jobs/{job['id']}" == job["links"]["self"]
    assert {
        name: job[name] for name in ("state", "output", "tile", "seed", "width", "height", "format", "quality", "bits")
    } == {
        "state": "queued",
        "output": "dzi",
        "tile": 64,
        "seed": 7,
        "width": 300,
        "height": 200,
        "format": "jpeg",
        "quality": 80,
        "bits": 8,
    }
    assert job["model"] == gateway.checkpoints["pattern"].digest
    assert job["tiles_total"] == 20 + 3 * 2 + 2 * 1 + 7  # 300×200, 150×100, 75×50, then one tile each
    assert (job["tiles_done"], job["progress"], job["links"]["iiif"]) == (0, 0, None)
    assert gateway.http.get(job["links"]["self"]).json() == job
    assert gateway.http.get("/v1/jobs").json() == {"jobs": [job], "total": 1, "next": None}


def test_the_estimate_follows_the_workers_pace_and_what_else_is_queued(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_registry, "REFRESH_SECONDS", -1.0)
    digest = gateway.checkpoints["pattern"].digest
    assert order(gateway).json()["eta_seconds"] is None  # nobody has drawn this model yet
    gateway.queue.alive = [
        WorkerInfo(name, "cpu", "idle", (digest,), {digest: rate}) for name, rate in (("one", 3000.0), ("two", 1000.0))
    ]
    pixels = sum(w * h for w, h in ((300, 200), (150, 100), (75, 50), (38, 25), (19, 13), (10, 7), (5, 4), (3, 2)))
    estimate = order(gateway, seed=8).json()["eta_seconds"]
    assert estimate == pytest.approx(2 * (pixels + 2 + 1) / 4000, abs=1.0)  # without the tile that was queued first


def test_the_same_key_is_the_same_job(gateway: RunningGateway) -> None:
    first, again = order(gateway, "a key"), order(gateway, "a key")
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert order(gateway, "another key").json()["id"] != first.json()["id"]
    assert gateway.http.get("/v1/jobs").json()["total"] == 2
    other = order(gateway, "a key", seed=8)
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"


def records(gateway: RunningGateway) -> list[str]:
    """Ids of the jobs whose records are in the store."""
    found = [found["path"] for part in obstore.list(gateway.app_state.outputs) for found in part]
    return [path.split("/")[1] for path in found if path.endswith("/job.json")]


def test_a_key_that_many_give_at_once_is_one_job(gateway: RunningGateway) -> None:
    with ThreadPoolExecutor(12) as pool:
        in_flight = list(pool.map(lambda _: order(gateway, "at once"), range(24)))
    assert {answer.status_code for answer in in_flight} == {202}
    (job,) = {answer.json()["id"] for answer in in_flight}
    assert gateway.http.get("/v1/jobs").json()["total"] == 1
    assert records(gateway) == [job]


def test_a_key_is_free_once_its_job_is_removed(gateway: RunningGateway) -> None:
    """And nothing of the removed job is taken for the new one's, by a worker that has drawn both."""
    with drawing(gateway):
        first = order(gateway, "poster", seed=1).json()["id"]
        read_events(gateway, first)
        assert gateway.http.delete(f"/v1/jobs/{first}").status_code == 200
        second = order(gateway, "poster", seed=2, width=500).json()["id"]
        assert second != first
        read_events(gateway, second)
    for name, content in expected_tiles(order_of(gateway, second)).items():
        answer = gateway.http.get(f"/v1/jobs/{second}/output/{name}")
        assert answer.content == content, name
    assert gateway.http.get(f"/v1/jobs/{first}").status_code == 404


def test_a_key_makes_no_second_job_while_redis_does_not_know_the_first(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SETTLING_SECONDS", 0.0)
    job = order(gateway, "lost").json()["id"]

    async def empty() -> None:
        await gateway.app_state.jobs.redis.flushall()

    call(gateway, empty())
    refused = order(gateway, "lost")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert "Idempotency-Key" in refused.json()["detail"]
    assert order(gateway).status_code == 202  # without a key there is nothing to be mixed up
    monkeypatch.setattr(jobs, "SETTLING_SECONDS", LONG)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(order, gateway, "lost")
        call(gateway, Reconciler(gateway.app_state.jobs, gateway.app_state.outputs, days=1).reconcile())
        assert waiting.result(LONG).json()["id"] == job
    assert len(records(gateway)) == 2


def test_an_answer_of_redis_that_is_lost_costs_no_job(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job was admitted, and the gateway does not know it: its record has to stay."""
    repository = gateway.app_state.jobs
    admit = repository.create

    async def lose(*arguments: Any) -> str:
        await admit(*arguments)
        raise RedisConnectionError("Connection closed by server.")

    monkeypatch.setattr(repository, "create", lose)
    assert order(gateway, "unlucky").status_code == 503
    monkeypatch.undo()
    again = order(gateway, "unlucky")
    assert again.status_code == 202
    assert records(gateway) == [again.json()["id"]]


def test_a_job_that_ends_while_it_is_cancelled_keeps_its_record(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order(gateway).json()["id"]
    repository = gateway.app_state.jobs
    cancel = repository.cancel

    async def end_before(job_id: str) -> bool:
        async def has_ended() -> bool:
            return (await repository.status(job_id)).ended

        async with worker_of(gateway):
            await eventually(has_ended)
        return await cancel(job_id)

    monkeypatch.setattr(repository, "cancel", end_before)
    answer = gateway.http.delete(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert records(gateway) == [job]


def test_the_same_key_draws_the_same_seed(gateway: RunningGateway) -> None:
    first, again = order(gateway, "seedless", seed=None), order(gateway, "seedless", seed=None)
    assert (first.status_code, first.json()["id"]) == (202, again.json()["id"])
    assert first.json()["seed"] == again.json()["seed"]


@pytest.mark.parametrize(
    ("values", "status", "field"),
    [
        ({"tile": 63}, 422, "tile"),
        ({"tile": 100}, 422, "tile"),
        ({"output": "bmp"}, 422, "output"),
        ({"output": "png", "format": "jpeg"}, 422, "format"),
        ({"output": "tiff", "format": "webp"}, 422, "format"),
        ({"width": 262_145}, 422, "width"),
        ({"class_index": 1}, 422, "class_index"),
        ({"crop": [290, 0, 20, 20]}, 422, "crop"),
        ({"model": "none"}, 404, "model"),
        ({"width": 2000, "height": 1001}, 413, "width"),
        ({"width": 1, "height": 1, "region": [-1, -1, 2, 2], "colour": "red"}, 422, "colour"),
    ],
)
def test_orders_that_cannot_be(gateway: RunningGateway, values: dict[str, Any], status: int, field: str) -> None:
    answer = order(gateway, **values)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert gateway.http.get("/v1/jobs").json()["total"] == 0


def test_more_jobs_than_allowed_have_to_wait(gateway: RunningGateway) -> None:
    small: dict[str, Any] = {"width": 64, "height": 64, "output": "png"}
    with ThreadPoolExecutor(15) as pool:  # all at once
        statuses = list(pool.map(lambda seed: order(gateway, seed=seed, **small).status_code, range(45)))
    assert sorted(statuses) == [202] * 30 + [429] * 15
    answer = order(gateway, seed=30)
    assert answer.status_code == 429
    assert len(records(gateway)) == 30
    assert int(answer.headers["retry-after"]) > 0
    assert gateway.http.get("/v1/jobs?limit=5&offset=28").json()["total"] == 30
    assert len(gateway.http.get("/v1/jobs?limit=5&offset=28").json()["jobs"]) == 2
    assert gateway.http.get("/v1/jobs?state=running").json() == {"jobs": [], "total": 0, "next": None}


def test_a_job_can_be_cancelled_and_an_ended_one_removed(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service.gateway.audit")
    job = order(gateway).json()
    cancelled = gateway.http.delete(f"/v1/jobs/{job['id']}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert gateway.http.get(f"/v1/jobs/{job['id']}").json()["finished"] is not None
    assert gateway.http.delete(f"/v1/jobs/{job['id']}").status_code == 200
    assert gateway.http.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert gateway.http.delete(f"/v1/jobs/{job['id']}").status_code == 404
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"job {job['id']} was {action} by 127.0.0.1" for action in ("cancelled", "removed")]
    done = finished(gateway)
    gateway.http.delete(done["links"]["self"])
    assert gateway.http.get(f"{done['links']['output']}/picture.dzi").status_code == 404
    assert [found["path"] for part in obstore.list(gateway.app_state.outputs) for found in part] == []


@pytest.mark.parametrize("path", ["xx", "xx/events", "xx/output.zip", "xx/output/picture.dzi", "A" * 32, "0" * 31])
def test_an_id_of_another_form_is_that_of_no_job(gateway: RunningGateway, path: str) -> None:
    answer = gateway.http.get(f"/v1/jobs/{path}")
    assert (answer.status_code, answer.json()["field"]) == (404, "job")


def test_metrics_count_jobs(gateway: RunningGateway) -> None:
    finished(gateway)
    order(gateway)
    text = gateway.http.get("/metrics").text
    assert 'creps_jobs{state="succeeded"} 1.0' in text
    assert 'creps_jobs{state="queued"} 1.0' in text


def test_keys_are_needed_for_jobs(bare_gateway: RunningGateway) -> None:
    assert order(bare_gateway).status_code == 401
    assert bare_gateway.http.get("/v1/jobs").status_code == 401


def test_pages_lose_no_job_when_others_are_deleted(gateway: RunningGateway) -> None:
    small: dict[str, Any] = {"width": 64, "height": 64, "output": "png"}
    ids = [order(gateway, seed=seed, **small).json()["id"] for seed in range(7)][::-1]
    first = gateway.http.get("/v1/jobs?limit=3").json()
    for job in ids[1:3]:  # of the first page, the last of which the cursor names
        for _ in ("cancel", "remove"):
            gateway.http.delete(f"/v1/jobs/{job}")
    second = gateway.http.get("/v1/jobs", params={"limit": 3, "after": first["next"]}).json()
    third = gateway.http.get("/v1/jobs", params={"limit": 3, "after": second["next"]}).json()
    assert [job["id"] for page in (first, second, third) for job in page["jobs"]] == ids
    assert third["next"] is None
    for query in ("after=1", "after=1-2", f"offset=1&after={first['next']}"):
        assert gateway.http.get(f"/v1/jobs?{query}").status_code == 422
