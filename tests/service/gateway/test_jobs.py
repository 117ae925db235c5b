"""Jobs over HTTP: ordering, asking, watching, fetching, cancelling. The queue server is real; tests do the drawing."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import obstore
import pytest
from PIL import Image

from model.config import GeneratorConfig
from service.jobs.board import Status
from service.outputs.order import Order
from service.outputs.store import Store, open_store
from service.queue import WorkerInfo
from service.worker import Worker
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.jobs.stand_in import expected_tiles, make_worker, pattern
from tests.service.waiting import LONG

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


@contextmanager
def drawing(gateway: RunningGateway) -> Iterator[None]:
    """A worker draws patterns for the gateway's jobs while the block runs."""

    async def start() -> tuple[Worker, "asyncio.Task[None]"]:
        worker = make_worker(gateway.services.jobs.redis, gateway.models, gateway.services.outputs)
        return worker, asyncio.create_task(worker.run())

    async def stop(worker: Worker, running: "asyncio.Task[None]") -> None:
        worker.stop()
        await running

    worker, running = asyncio.run_coroutine_threadsafe(start(), gateway.loop).result(LONG)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(stop(worker, running), gateway.loop).result(LONG)


def order_of(gateway: RunningGateway, job: str) -> Order:
    """What the gateway has made of an order."""
    found: Status = asyncio.run_coroutine_threadsafe(gateway.services.jobs.status(job), gateway.loop).result(LONG)
    return found.job.order


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
    for seed in range(30):
        assert order(gateway, seed=seed).status_code == 202
    answer = order(gateway, seed=30)
    assert answer.status_code == 429
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


def read_events(gateway: RunningGateway, job: str, last: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """(id, data) of every event until the stream ends."""
    headers = {} if last is None else {"Last-Event-ID": last}
    events, identifier = [], ""
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
                events.append((identifier, data))
    return events


def test_events_tell_every_tile_once_and_can_be_resumed(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    with drawing(gateway):
        events = read_events(gateway, job["id"])
    tiles = [tuple(tile) for _, data in events for tile in data["tiles"]]
    pyramid = order_of(gateway, job["id"]).pyramid
    assert set(tiles) == {pyramid.locate(index) for index in range(pyramid.tiles)}
    assert events[-1][1]["state"] == "succeeded"
    assert events[-1][1]["progress"] == 1
    progress = [data["progress"] for _, data in events]
    assert progress == sorted(progress)
    middle = len(events) // 2
    rest = [tuple(tile) for _, data in read_events(gateway, job["id"], events[middle][0]) for tile in data["tiles"]]
    seen = [tuple(tile) for _, data in events[: middle + 1] for tile in data["tiles"]]
    assert sorted([*seen, *rest]) == sorted(tiles)
    (again,) = read_events(gateway, job["id"])
    assert len(again[1]["tiles"]) == pyramid.tiles


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
