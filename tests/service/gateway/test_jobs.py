"""Jobs over HTTP: ordering, asking, watching, fetching, cancelling. The queue server is real; tests do the drawing."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import obstore
import pytest
from PIL import Image
from redis.exceptions import ConnectionError as RedisConnectionError

from model.config import GeneratorConfig
from service.consumer import Consumer
from service.gateway import events, jobs
from service.jobs.keeper import Keeper
from service.jobs.task import Tasks, TileTask
from service.outputs.order import Order
from service.outputs.store import Store, open_store
from service.queue import GROUP, TILES, WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.jobs.stand_in import expected_tiles, make_worker, pattern
from tests.service.waiting import LONG, eventually

Result = TypeVar("Result")

ORDER = {"seed": 7, "width": 300, "height": 200, "tile": 64}


@pytest.fixture(scope="module")
def gateway_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(folder, settings(max_job_pixels=2_000_000, job_limit=30)) as running:
        running.checkpoints["pattern"] = save_hollow_checkpoint(folder, "pattern", GeneratorConfig(32))
        yield running


@pytest.fixture
def gateway(gateway_of_module: RunningGateway) -> Iterator[RunningGateway]:
    """One that has no jobs before and after."""
    yield gateway_of_module
    gateway_of_module.queue.alive = []
    while jobs := gateway_of_module.http.get("/v1/jobs").json()["jobs"]:  # cancelled first, then removed
        for job in jobs:
            gateway_of_module.http.delete(f"/v1/jobs/{job['id']}")


@asynccontextmanager
async def worker_of(gateway: RunningGateway) -> AsyncIterator[None]:
    """A worker draws patterns for the gateway's jobs while the block, of the gateway's loop, runs."""
    worker = make_worker(gateway.services.jobs.redis, gateway.models, gateway.services.outputs)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


@contextmanager
def drawing(gateway: RunningGateway) -> Iterator[None]:
    """A worker draws patterns for the gateway's jobs while the block runs."""
    worker = worker_of(gateway)
    call(gateway, worker.__aenter__())
    try:
        yield
    finally:
        call(gateway, worker.__aexit__(None, None, None))


def call(gateway: RunningGateway, work: Coroutine[Any, Any, Result]) -> Result:
    """Does something in the gateway's loop."""
    return asyncio.run_coroutine_threadsafe(work, gateway.loop).result(LONG)


def settle(gateway: RunningGateway, job: str, count: int) -> list[int]:
    """Notes that so many tiles of a job are in the store, as workers do. Returns which."""

    async def take_and_settle() -> list[int]:
        redis, settled = gateway.services.jobs.redis, list[int]()
        await Consumer(redis, "worker", 1.0).join()
        while len(settled) < count:
            ((_, ((entry, fields),)),) = cast(Any, await redis.xreadgroup(GROUP, "worker", {TILES: ">"}, count=1))
            task = TileTask.from_fields(entry, fields)
            await Tasks(redis).settle(task)
            settled += [task.tile] if task.job == job else []  # else of a test before
        return settled

    return call(gateway, take_and_settle())


def order_of(gateway: RunningGateway, job: str) -> Order:
    """What the gateway has made of an order."""
    return call(gateway, gateway.services.jobs.status(job)).job.order


def order(gateway: RunningGateway, key: str | None = None, **values: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return gateway.http.post("/v1/jobs", json=ORDER | values, headers=headers)


def finished(gateway: RunningGateway, **values: Any) -> dict[str, Any]:
    """A job that a worker of this test has drawn."""
    job = order(gateway, **values).json()
    with drawing(gateway):
        read_events(gateway, job["id"])
    described: dict[str, Any] = gateway.http.get(f"/v1/jobs/{job['id']}").json()
    assert described["state"] == "succeeded", described
    return described


def test_an_order_is_accepted_with_its_address_and_cost(gateway: RunningGateway) -> None:
    answer = order(gateway, truncation_psi=0.5, format="jpeg", quality=80)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{gateway.address}/v1/jobs/{job['id']}" == job["links"]["self"]
    assert {
        name: job[name] for name in ("state", "output", "tile", "seed", "width", "height", "format", "quality")
    } == {
        "state": "queued",
        "output": "dzi",
        "tile": 64,
        "seed": 7,
        "width": 300,
        "height": 200,
        "format": "jpeg",
        "quality": 80,
    }
    assert job["model"] == gateway.checkpoints["pattern"].digest
    assert job["tiles_total"] == 20 + 3 * 2 + 2 * 1 + 7  # 300×200, 150×100, 75×50, then one tile each
    assert (job["tiles_done"], job["progress"], job["links"]["iiif"]) == (0, 0, None)
    assert gateway.http.get(job["links"]["self"]).json() == job
    assert gateway.http.get("/v1/jobs").json() == {"jobs": [job], "total": 1}


def test_the_estimate_follows_the_workers_pace_and_what_else_is_queued(gateway: RunningGateway) -> None:
    digest = gateway.checkpoints["pattern"].digest
    assert order(gateway).json()["eta_seconds"] is None  # nobody has drawn this model yet
    gateway.queue.alive = [
        WorkerInfo(name, "cpu", "idle", (digest,), {digest: rate}) for name, rate in (("one", 3000.0), ("two", 1000.0))
    ]
    time.sleep(1.1)  # workers are looked at once a second
    pixels = sum(w * h for w, h in ((300, 200), (150, 100), (75, 50), (38, 25), (19, 13), (10, 7), (5, 4), (3, 2)))
    estimate = order(gateway, seed=8).json()["eta_seconds"]
    assert estimate == pytest.approx(2 * (pixels + 2 + 1) / 4000, abs=0.1)


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
    found = [found["path"] for part in obstore.list(gateway.services.outputs) for found in part]
    return [path.split("/")[1] for path in found if path.endswith("/job.json")]


def test_a_key_that_many_give_at_once_is_one_job(gateway: RunningGateway) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: order(gateway, "at once"), range(24)))
    assert {answer.status_code for answer in answers} == {202}
    (job,) = {answer.json()["id"] for answer in answers}
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
        await gateway.services.jobs.redis.flushall()

    call(gateway, empty())
    refused = order(gateway, "lost")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert "Idempotency-Key" in refused.json()["detail"]
    assert order(gateway).status_code == 202  # without a key there is nothing to be mixed up
    monkeypatch.undo()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(order, gateway, "lost")
        call(gateway, Keeper(gateway.services.jobs, gateway.services.outputs, days=1).look())
        assert waiting.result(LONG).json()["id"] == job
    assert len(records(gateway)) == 2


def test_an_answer_of_redis_that_is_lost_costs_no_job(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job was admitted, and the gateway does not know it: its record has to stay."""
    board = gateway.services.jobs
    admit = board.admit

    async def lose(*arguments: Any) -> str:
        await admit(*arguments)
        raise RedisConnectionError("Connection closed by server.")

    monkeypatch.setattr(board, "admit", lose)
    assert order(gateway, "unlucky").status_code == 503
    monkeypatch.undo()
    again = order(gateway, "unlucky")
    assert again.status_code == 202
    assert records(gateway) == [again.json()["id"]]


def test_a_job_that_ends_while_it_is_cancelled_keeps_its_record(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order(gateway).json()["id"]
    board = gateway.services.jobs
    cancel = board.cancel

    async def end_before(job_id: str) -> bool:
        async def has_ended() -> bool:
            return (await board.status(job_id)).ended

        async with worker_of(gateway):
            await eventually(has_ended)
        return await cancel(job_id)

    monkeypatch.setattr(board, "cancel", end_before)
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
        ({"model": "none"}, 422, "model"),
        ({"width": 2000, "height": 1001}, 413, "width"),
        ({"width": 1, "height": 1, "region": [-1, -1, 2, 2], "colour": "red"}, 422, "colour"),
    ],
)
def test_orders_that_cannot_be(gateway: RunningGateway, values: dict[str, Any], status: int, field: str) -> None:
    answer = order(gateway, **values)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert gateway.http.get("/v1/jobs").json()["total"] == 0


def test_more_jobs_than_allowed_have_to_wait(gateway: RunningGateway) -> None:
    with ThreadPoolExecutor(15) as pool:  # all at once
        statuses = list(pool.map(lambda seed: order(gateway, seed=seed).status_code, range(45)))
    assert sorted(statuses) == [202] * 30 + [429] * 15
    answer = order(gateway, seed=30)
    assert answer.status_code == 429
    assert len(records(gateway)) == 30
    assert int(answer.headers["retry-after"]) > 0
    assert gateway.http.get("/v1/jobs?limit=5&offset=28").json()["total"] == 30
    assert len(gateway.http.get("/v1/jobs?limit=5&offset=28").json()["jobs"]) == 2
    assert gateway.http.get("/v1/jobs?state=running").json() == {"jobs": [], "total": 0}


def test_deep_zoom_can_be_fetched_tile_by_tile(gateway: RunningGateway) -> None:
    job = finished(gateway)
    descriptor = gateway.http.get(job["links"]["output"], follow_redirects=True)
    assert descriptor.headers["content-type"] == "application/xml"
    assert str(descriptor.url).endswith("/output/picture.dzi")
    base = str(descriptor.url).removesuffix("picture.dzi")
    wanted = expected_tiles(order_of(gateway, job["id"]))
    for name, content in wanted.items():
        answer = gateway.http.get(base + name)
        assert answer.content == content
        assert answer.headers["content-type"] == "image/png"
        assert "immutable" in answer.headers["cache-control"]
    assert job["links"]["iiif"] == f"{gateway.address}/iiif/3/job:{job['id']}/info.json"


@pytest.mark.parametrize("output", ["png", "tiff"])
def test_one_file_can_be_fetched_in_parts(gateway: RunningGateway, output: str) -> None:
    job = finished(gateway, output=output)
    address = job["links"]["output"]
    whole = gateway.http.get(address)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"].startswith("attachment")
    with Image.open(BytesIO(whole.content)) as picture:
        assert picture.size == (300, 200)
        assert picture.tobytes() == pattern(order_of(gateway, job["id"]).spec).tobytes()
    size = len(whole.content)
    for asked, start, stop in (
        ("0-99", 0, 100),
        ("100-", 100, size),
        ("-7", size - 7, size),
        (f"5-{2 * size}", 5, size),
    ):
        part = gateway.http.get(address, headers={"Range": f"bytes={asked}"})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.content == whole.content[start:stop]
    beyond = gateway.http.get(address, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    changed = gateway.http.get(address, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    for nonsense in ("bytes=9-2", "lines=0-1", "bytes=0-1,4-5", "bytes=-"):
        assert gateway.http.get(address, headers={"Range": nonsense}).content == whole.content
    head = gateway.http.head(address)
    assert (int(head.headers["content-length"]), head.content) == (size, b"")
    assert gateway.http.get(address, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_nothing_but_the_jobs_own_files_can_be_fetched(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    base = f"/v1/jobs/{job['id']}/output/"
    for path in ("picture.dzi", "picture_files/8/0_0.png"):
        assert gateway.http.get(base + path).status_code == 404  # not yet
    with drawing(gateway):
        read_events(gateway, job["id"])
    assert gateway.http.get(base + "picture.dzi").status_code == 200
    for path in (
        "job.json",
        "..%2fjob.json",
        "%2e%2e/job.json",
        "picture_files/8/0_0.jpg",
        "picture_files/8/00_0.png",
        "picture_files/9/5_0.png",
        "picture_files/10/0_0.png",
        "picture.tiff",
        "",
    ):
        assert gateway.http.get(base + path).status_code == 404, path
    assert gateway.http.get(f"/v1/jobs/{'0' * 32}").status_code == 404
    assert gateway.http.get("/v1/jobs/..%2f..%2fetc").status_code in (404, 422)


def test_a_file_that_is_removed_while_it_is_asked_for(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    job = finished(gateway)
    base = f"/v1/jobs/{job['id']}/output/"
    head = obstore.head_async

    async def head_and_remove(store: Store, path: str) -> Any:
        found = await head(store, path)
        await obstore.delete_async(store, path)
        return found

    monkeypatch.setattr(obstore, "head_async", head_and_remove)
    for name in ("picture.dzi", "picture_files/8/0_0.png"):
        answer = gateway.http.get(base + name)
        assert answer.status_code == 404
        assert answer.json()["field"] == "path"


def test_pages_of_all_sites_may_read_files(gateway: RunningGateway) -> None:
    """And nothing else of a job."""
    job = finished(gateway)
    base, stranger = f"/v1/jobs/{job['id']}", {"Origin": "https://viewer.example"}
    for name in ("picture.dzi", "picture_files/8/0_0.png"):
        answer = gateway.http.get(f"{base}/output/{name}", headers=stranger)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for other in (base, f"{base}/output", f"{base}/output/none.png"):
        assert "Access-Control-Allow-Origin" not in gateway.http.get(other, headers=stranger).headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_links_into_a_bucket_are_signed_for_their_method(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    job = finished(gateway, output="png")
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    memory = gateway.services.outputs
    object.__setattr__(gateway.services, "outputs", open_store("s3://pictures/prefix"))
    try:
        answer = gateway.http.request(method, job["links"]["output"], follow_redirects=False)
    finally:
        object.__setattr__(gateway.services, "outputs", memory)
    assert answer.status_code == 307
    link = answer.headers["Location"]
    query = dict(parse_qsl(urlsplit(link).query))
    assert query.pop("X-Amz-Signature") == sigv4(method, link, query, "secret")


def sigv4(method: str, link: str, query: dict[str, str], secret: str) -> str:
    """The signature that S3 expects in a link (AWS Signature Version 4, query parameters)."""
    parts = urlsplit(link)
    canonical = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    request = "\n".join((method, parts.path, canonical, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"))
    scope = query["X-Amz-Credential"].split("/", 1)[1]
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), "\n".join(("AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, digest))):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def watch(gateway: RunningGateway, job: str, last: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id or nothing, data) of each event until the stream ends."""
    headers = {} if last is None else {"Last-Event-ID": last}
    identifier = ""
    with gateway.http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                assert value == "progress"
            elif name == "data":
                data = json.loads(value)
            elif name == "id":
                identifier = value
            elif not line:
                yield identifier, data
                identifier = ""


def read_events(gateway: RunningGateway, job: str, last: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Every event until the job has ended."""
    return list(watch(gateway, job, last))


def test_events_tell_every_tile_once_and_can_be_resumed(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    with drawing(gateway):
        told = read_events(gateway, job["id"])
    tiles = [tuple(tile) for _, data in told for tile in data["tiles"]]
    pyramid = order_of(gateway, job["id"]).pyramid
    assert set(tiles) == {pyramid.locate(index) for index in range(pyramid.tiles)}
    assert told[-1][1]["state"] == "succeeded"
    assert told[-1][1]["progress"] == 1
    progress = [data["progress"] for _, data in told]
    assert progress == sorted(progress)
    middle = len(told) // 2
    rest = [tuple(tile) for _, data in read_events(gateway, job["id"], told[middle][0]) for tile in data["tiles"]]
    seen = [tuple(tile) for _, data in told[: middle + 1] for tile in data["tiles"]]
    assert sorted([*seen, *rest]) == sorted(tiles)
    ((last, again),) = read_events(gateway, job["id"])
    assert (last, again["state"], again["tiles"]) == (told[-1][0], "succeeded", [])  # they are all there


@pytest.mark.parametrize("last", [None, "9999999999999999999-0", "1-0"])
def test_events_that_are_not_known_are_told_from_the_beginning(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, last: str | None
) -> None:
    monkeypatch.setattr(events, "TILES_AT_ONCE", 4)
    job = order(gateway).json()

    settled = settle(gateway, job["id"], 10)
    watching = watch(gateway, job["id"], last)
    told = [next(watching) for _ in range(3)]
    gateway.http.delete(job["links"]["self"])
    *_, (_, end) = watching
    locate = order_of(gateway, job["id"]).pyramid.locate
    assert [len(data["tiles"]) for _, data in told] == [4, 4, 2]
    assert [tuple(tile) for _, data in told for tile in data["tiles"]] == [locate(tile) for tile in settled]
    # Only who has all tiles goes on after them.
    assert [identifier != "" for identifier, _ in told] == [False, False, True]
    assert end["state"] == "cancelled"


def test_an_event_that_cannot_be_is_refused(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    answer = gateway.http.get(job["links"]["events"], headers={"Last-Event-ID": "99999999999999999999-0"})
    assert (answer.status_code, answer.json()["field"]) == (422, "last-event-id")


def test_what_is_left_of_the_last_file_is_estimated(gateway: RunningGateway) -> None:
    job = order(gateway, output="tiff").json()

    settle(gateway, job["id"], job["tiles_total"])
    finishing = TileTask(b"0-1", job["id"], job["tiles_total"], tries=0)
    assert gateway.http.get(job["links"]["self"]).json()["eta_seconds"] is None
    for tiles in (5, 10):
        call(gateway, Tasks(gateway.services.jobs.redis).advance(finishing, tiles))
        time.sleep(0.2)
    described = gateway.http.get(job["links"]["self"]).json()
    assert described["eta_seconds"] >= 0.2 * (job["tiles_total"] - 10) / 5


def test_a_job_can_be_cancelled_and_an_ended_one_removed(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    cancelled = gateway.http.delete(f"/v1/jobs/{job['id']}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert gateway.http.get(f"/v1/jobs/{job['id']}").json()["finished"] is not None
    assert gateway.http.delete(f"/v1/jobs/{job['id']}").status_code == 200
    assert gateway.http.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert gateway.http.delete(f"/v1/jobs/{job['id']}").status_code == 404
    done = finished(gateway)
    gateway.http.delete(done["links"]["self"])
    assert gateway.http.get(f"{done['links']['output']}/picture.dzi").status_code == 404
    assert [found["path"] for part in obstore.list(gateway.services.outputs) for found in part] == []


def test_metrics_count_jobs(gateway: RunningGateway) -> None:
    finished(gateway)
    order(gateway)
    text = gateway.http.get("/metrics").text
    assert 'creps_jobs{state="succeeded"} 1.0' in text
    assert 'creps_jobs{state="queued"} 1.0' in text


def test_keys_are_needed_for_jobs(bare_gateway: RunningGateway) -> None:
    assert order(bare_gateway).status_code == 401
    assert bare_gateway.http.get("/v1/jobs").status_code == 401
