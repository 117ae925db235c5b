"""Jobs belong to the owner of the API key that ordered them; labels and names that jobs are given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.config import GeneratorConfig
from service.jobs.job import Job
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.keyed import as_key, write_keys
from tests.service.gateway.routes.jobs.ordering import ORDER, call, drawing, order
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import eventually

KEYS: dict[str, dict[str, Any]] = {
    "ann-2026": {"owner": "ann"},
    "ann-2027": {"owner": "ann"},
    "bob": {},
    "operator": {"all_jobs": True},
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with a job of ann, which is done."""
    folder = tmp_path_factory.mktemp("keyed")
    write_keys(folder / "keys.toml", KEYS)
    with run_gateway(folder, settings(api_keys_file=folder / "keys.toml")) as running:
        save_hollow_checkpoint(folder, "pattern", GeneratorConfig(32))
        yield running


def order_as(gateway: RunningGateway, headers: dict[str, str], **values: Any) -> httpx.Response:
    return gateway.http.post("/v1/jobs", json=ORDER | values, headers=headers)


@pytest.fixture(scope="module")
def done(keyed: RunningGateway) -> str:
    """The id of a finished job of ann."""
    job: str = order_as(keyed, as_key("ann-2026")).json()["id"]

    async def succeeded() -> bool:
        return (await keyed.app_state.jobs.status(job)).state == "succeeded"

    with drawing(keyed):
        call(keyed, eventually(succeeded))
    return job


def addresses(job: str) -> list[str]:
    root = f"/v1/jobs/{job}"
    files = [f"{root}/output/picture.dzi", f"{root}/output/picture_files/0/0_0.png", f"{root}/output.zip"]
    iiif = f"/iiif/3/job:{job}"
    return [root, f"{root}/events", f"{root}/output", *files, f"{iiif}/info.json", f"{iiif}/full/max/0/default.png"]


def test_only_the_owner_finds_a_job(keyed: RunningGateway, done: str) -> None:
    unknown = keyed.http.get(f"/v1/jobs/{'0' * 32}", headers=as_key("bob")).json()
    for address in addresses(done):
        for name, status in {"ann-2026": 200, "ann-2027": 200, "operator": 200, "bob": 404}.items():
            headers = as_key(name)
            answer = keyed.http.get(address, headers=headers, follow_redirects=True)
            assert answer.status_code == status, (address, name)
            if status == 404:
                assert answer.json() == unknown
        etag = keyed.http.get(address, headers=as_key("ann-2026"), follow_redirects=True).headers.get("ETag", '"a"')
        assert keyed.http.get(address, headers=as_key("bob") | {"If-None-Match": etag}).status_code == 404
    assert keyed.http.delete(f"/v1/jobs/{done}", headers=as_key("bob")).status_code == 404
    assert keyed.http.get(f"/v1/jobs/{done}", headers=as_key("ann-2027")).status_code == 200


def test_lists_have_the_jobs_of_the_owner(keyed: RunningGateway, done: str) -> None:
    other = order_as(keyed, as_key("bob")).json()["id"]

    def listed(name: str, **query: Any) -> list[str]:
        page = keyed.http.get("/v1/jobs", params=query, headers=as_key(name)).json()
        assert page["total"] == len(page["jobs"]) + query.get("offset", 0)
        return [job["id"] for job in page["jobs"]]

    assert listed("ann-2027") == listed("ann-2026", state="succeeded") == [done]
    assert listed("bob") == listed("bob", state="queued") == [other]
    assert listed("bob", state="succeeded") == listed("bob", offset=1) == []
    assert listed("operator") == [other, done]
    assert keyed.http.delete(f"/v1/jobs/{other}", headers=as_key("operator")).json()["state"] == "cancelled"
    assert keyed.http.delete(f"/v1/jobs/{other}", headers=as_key("bob")).status_code == 200
    assert listed("bob") == []


def test_idempotency_keys_of_owners_are_independent(keyed: RunningGateway) -> None:
    retried = {"Idempotency-Key": "poster"}
    first, again, other = (
        order_as(keyed, as_key(name) | retried).json()["id"] for name in ("ann-2026", "ann-2027", "bob")
    )
    assert first == again != other
    for job in (first, other):
        keyed.http.delete(f"/v1/jobs/{job}", headers=as_key("operator"))


def test_jobs_without_an_owner_are_found_by_their_ids(keyed: RunningGateway, done: str) -> None:
    """They were ordered by a gateway that needed no key, or that knew no owners."""

    async def forget_owner() -> Job:
        redis = keyed.app_state.jobs.redis
        await redis.hdel(f"creps:job:{job}", "owner", "details")
        return (await keyed.app_state.jobs.status(job)).job

    job: str = order_as(keyed, as_key("ann-2026")).json()["id"]
    assert call(keyed, forget_owner()).owner is None
    described = keyed.http.get(f"/v1/jobs/{job}", headers=as_key("bob"))
    assert (described.status_code, described.json()["model_name"], described.json()["labels"]) == (200, None, {})
    keyed.http.delete(f"/v1/jobs/{job}", headers=as_key("ann-2026"))


@pytest.mark.parametrize("shared", [False, True])
def test_plain_keys_own_their_jobs_wherever_they_stand(tmp_path: Path, shared: bool) -> None:
    save_hollow_checkpoint(tmp_path, "pattern", GeneratorConfig(32))
    with run_gateway(tmp_path, settings("one", "two", shared_jobs=shared)) as running:
        job = order_as(running, {"X-API-Key": "one"}).json()["id"]
        statuses = [
            running.http.get(f"/v1/jobs/{job}", headers={"X-API-Key": key}).status_code for key in ("one", "two")
        ]
        total = running.http.get("/v1/jobs", headers={"X-API-Key": "two"}).json()["total"]
        owner = call(running, running.app_state.jobs.status(job)).job.owner
    assert (statuses, total) == (([200, 200], 1) if shared else ([200, 404], 0))
    assert owner is not None
    assert "one" not in owner
    assert not owner.endswith(":1")  # its place may be another key's tomorrow


def test_labels_and_the_models_name(gateway: RunningGateway) -> None:
    labels = {"project": "posters", "room.2": "Küche"}
    job = order(gateway, "labelled", labels=labels).json()
    assert (job["model_name"], job["labels"]) == ("pattern", labels)
    assert gateway.http.get(f"/v1/jobs/{job['id']}").json()["labels"] == labels
    assert order(gateway, "labelled", labels=labels).json()["id"] == job["id"]
    assert order(gateway, "labelled", labels={}).json()["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("labels", "field", "limit"),
    [
        ({f"n{number}": "" for number in range(17)}, "labels", "16"),
        ({"a b": ""}, "labels.a b.[key]", "63"),
        ({"name": "x" * 256}, "labels.name", "255"),
        ({"name": "a\nb"}, "labels.name", "printable"),
        ({"name": 1}, "labels.name", "string"),
        (["name"], "labels", "dictionary"),
    ],
)
def test_bad_labels(gateway: RunningGateway, labels: Any, field: str, limit: str) -> None:
    problem = order(gateway, labels=labels).json()
    assert (problem["status"], problem["field"]) == (422, field)
    assert limit in problem["detail"]


def test_a_misspelt_parameter_of_a_list_is_refused(gateway: RunningGateway) -> None:
    problem = gateway.http.get("/v1/jobs?stat=running").json()
    assert (problem["status"], problem["detail"]) == (422, "stat: is unknown; did you mean state?")
