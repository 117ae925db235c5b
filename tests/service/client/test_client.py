"""The Python client, both ways, against a real gateway whose jobs a worker of the test draws."""

import asyncio
import io
import json
import math
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import httpx
import numpy as np
import obstore
import pytest
from PIL import Image as PillowImage

import service.client
from model.config import GeneratorConfig
from model.latents.direction import Direction, encode_directions
from model.latents.direction_names import encode_labels, names_path
from model.latents.latent import Latent
from model.spec import IMAGE_FORMATS, Encoding, RenderSpec
from model.viewport import Viewport
from service.client import AsyncClient, Client, Job, JobError, ServiceError
from service.client.values import SUFFIXES, Picture
from service.imaging.encode import MEDIA_TYPES
from service.imaging.metadata import embed
from service.jobs.projections import Projection
from service.jobs.repository import JobRepository
from service.queue.directions import directions_path
from tests.deploy.images import ROOT, canonical
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.routes.jobs.ordering import call as in_loop
from tests.service.gateway.routes.jobs.ordering import drawing
from tests.service.gateway.stand_in import RunningGateway, draw, run_gateway, settings
from tests.service.jobs.stand_in import expected_tiles, image_of
from tests.service.waiting import LONG

ORDER = {"model": "pattern", "seed": 7, "width": 300, "height": 200, "tile": 64}

Call = Callable[..., Any]
"""Calls a method of a client by name."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(folder, settings("secret")) as running:
        save_hollow_checkpoint(folder, "pattern", GeneratorConfig(32))
        yield running


def test_the_client_knows_every_format() -> None:
    assert SUFFIXES.keys() == set(MEDIA_TYPES.values())
    assert set(get_args(get_type_hints(Picture)["format"])) == {*IMAGE_FORMATS, "jpg"}


def caller(kind: str, address: str, key: str | None, patience: float = 60.0) -> Call:
    """Opens a client of a kind for each call."""

    def call(method: str, *args: Any, **given: Any) -> Any:
        if kind == "sync":
            with Client(address, key, patience=patience) as client:
                result = getattr(client, method)(*args, **given)
                return list(result) if method == "progress" else result

        async def call_async() -> Any:
            async with AsyncClient(address, key, patience=patience) as client:
                result = getattr(client, method)(*args, **given)
                return [step async for step in result] if method == "progress" else await result

        return asyncio.run(call_async())

    return call


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(service.client.api, "POLL_SECONDS", 0.02)
    return cast(str, request.param)


@pytest.fixture
def call(kind: str, gateway: RunningGateway) -> Call:
    return caller(kind, gateway.address, "secret")


def test_images(call: Call, tmp_path: Path) -> None:
    image = call("image", model="pattern", seed=9, width=20, height=10, format="webp")
    assert (image.seed, image.media_type) == (9, "image/webp")
    assert len(repr(image)) < 200
    for name in ("a.png", "a"):
        with pytest.raises(ValueError, match=r"must end in \.webp"):
            image.save(tmp_path / name)
    image.save(tmp_path / "a.webp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.webp"]
    with PillowImage.open(tmp_path / "a.webp") as opened:
        assert opened.size == (20, 10)
    (model,) = call("models")
    assert (model.name, model.digest, model.resolution) == ("pattern", image.digest, 32)


def test_latents(call: Call, gateway: RunningGateway) -> None:
    values = call("latent", "pattern", 7, truncation_psi=0.5)
    assert (len(values.z), values.w, values.w_plus) == (1, [8.0], [[7.5]] * 9)  # of the stand-in for the queue
    latent_id = call("store_latent", {"w": values.w_plus}, model="pattern")
    image = call("image", model="pattern", latent={"id": latent_id}, edits=[{"direction": [0.5], "amount": 1}], width=8)
    assert image.seed is None
    latent = gateway.queue.asked[-1].latent
    assert latent.w == np.full(9, 7.5, "<f4").tobytes()
    assert [edit.amount for edit in latent.edits] == [1]
    file = io.BytesIO()
    np.save(file, np.full((9, 1), 7.5, np.float32))
    assert call("store_latent", file.getvalue(), model="pattern") == latent_id


def test_directions(call: Call, gateway: RunningGateway) -> None:
    checkpoint = gateway.app_state.models._catalog.resolve("pattern")
    found = Direction("sefa:0", (3,), np.array([1.0]), 0.5, 20.0)
    path = directions_path(checkpoint.digest)
    obstore.put(gateway.app_state.outputs, path, encode_directions([found], checkpoint.config))
    names_path(checkpoint).write_bytes(encode_labels(checkpoint, {"sefa:0": "smile"}))
    (direction,) = call("directions", "pattern")
    assert (direction.name, direction.label, direction.layers) == ("sefa:0", "smile", [3])


def test_a_projection_with_a_mask(call: Call, gateway: RunningGateway) -> None:
    file = io.BytesIO()
    PillowImage.new("L", (16, 16), 255).save(file, "png")
    repository = gateway.app_state.projections

    async def work() -> Projection:
        while (claimed := await repository.claim(60)) is None:  # noqa: ASYNC110 - a client orders it
            await asyncio.sleep(0.02)
        await repository.end(claimed[0].id, "succeeded", psnr=30.0)
        return claimed[0]

    with ThreadPoolExecutor(1) as pool:
        projecting = pool.submit(call, "project", file.getvalue(), "pattern", mask=file.getvalue(), steps=3)
        projection = in_loop(gateway, work())
        assert (projection.has_mask, projection.steps) == (True, 3)
        assert projecting.result(LONG).psnr == 30


def test_several_images(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    images = call("images", "3,0-1", model="pattern", width=8, format="jpeg")
    assert [(seed, image.seed, image.media_type) for seed, image in images.items()] == [
        (seed, seed, "image/jpeg") for seed in (3, 0, 1)
    ]
    sheet = call("sheet", {"model": "pattern", "width": 8}, {"field": "seed", "values": [1, 2]})
    assert sheet.media_type == "image/png"


def test_what_a_picture_tells(call: Call, gateway: RunningGateway) -> None:
    spec = RenderSpec("0" * 64, Latent(seed=2), Viewport.resolve(20, 10), Encoding("webp"))
    described = call("inspect", embed(draw(spec), spec))
    assert (described["spec"]["latent"], described["model_name"]) == ({"seed": 2}, None)


def test_what_is_wrong_is_named(call: Call, kind: str, gateway: RunningGateway) -> None:
    with pytest.raises(ServiceError, match="width") as caught:
        call("image", width=0, height=-1)
    assert (caught.value.status, caught.value.field) == (422, "width")
    assert [error["field"] for error in caught.value.errors] == ["width", "height"]
    assert f"(request {caught.value.request_id})" in str(caught.value)
    with pytest.raises(ServiceError, match="401"):
        caller(kind, gateway.address, None)("models")
    with pytest.raises(ValueError, match=r"^transform\.0\.rotate: must be a finite number, not nan$"):
        call("image", transform=[{"rotate": math.nan}])


def test_a_job_from_order_to_file(call: Call, gateway: RunningGateway, tmp_path: Path) -> None:
    job = call("order", **ORDER, output="tiff")
    assert (job.state, job.width, job.tiles_total) == ("queued", 300, 29)
    with pytest.raises(JobError, match="queued"):
        call("download", job, tmp_path / "a.tiff")
    with drawing(gateway):
        steps = call("progress", job)
    assert steps[-1].state == "succeeded"
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    job = call("wait", job)
    assert job == call("job", job.id)
    assert job in call("jobs", state="succeeded")
    call("download", job, tmp_path / "new" / "a.tiff")
    stored = gateway.http.get(f"/v1/jobs/{job.id}/output", headers={"X-API-Key": "secret"}).content
    assert (tmp_path / "new" / "a.tiff").read_bytes() == stored
    call("delete", job)
    with pytest.raises(ServiceError, match="404"):
        call("job", job.id)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tiff"]


def test_all_jobs_are_listed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [call("order", **ORDER | {"seed": seed}).id for seed in range(4)][::-1]
    latest = JobRepository.page
    monkeypatch.setattr(JobRepository, "page", lambda self, limit, *rest: latest(self, 2, *rest))  # short pages
    assert [job.id for job in call("jobs")][:4] == ids


def test_a_deep_zoom_is_saved_whole(call: Call, gateway: RunningGateway, tmp_path: Path) -> None:
    job = call("order", **ORDER)
    with drawing(gateway):
        job = call("wait", job)
    call("download", job, tmp_path / "a.dzi")
    assert "300" in (tmp_path / "a.dzi").read_text()
    expected = {name.removeprefix("picture_files/"): pixels for name, pixels in expected_images(gateway, job).items()}
    found = {str(path.relative_to(tmp_path / "a_files")): path for path in (tmp_path / "a_files").rglob("*.png")}
    assert found.keys() == expected.keys()
    for name, path in found.items():
        with PillowImage.open(path) as tile:
            assert np.array_equal(np.asarray(tile), expected[name])


def expected_images(gateway: RunningGateway, job: Job) -> dict[str, Any]:
    status = asyncio.run_coroutine_threadsafe(gateway.app_state.jobs.status(job.id), gateway.loop).result(60)
    tiles = expected_tiles(image_of(status.job))
    return {name: np.asarray(PillowImage.open(io.BytesIO(content))) for name, content in tiles.items()}


def test_a_cancelled_job_is_no_success(call: Call) -> None:
    job = call("order", **ORDER)
    assert call("delete", job).state == "cancelled"
    with pytest.raises(JobError, match="cancelled"):
        call("wait", job)


class Moody(ThreadingHTTPServer):
    """A service that is busy, or breaks off its answers, as it is told to."""

    daemon_threads = True
    content = bytes(range(256)) * 40

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None]] = []  # Idempotency-Key or path, and Range
        self.moods: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        moody = cast(Moody, self.server)
        moody.asked.append((self.headers.get("Idempotency-Key", self.path), self.headers.get("Range")))
        mood = moody.moods.pop(0) if moody.moods else "fine"
        if mood == "busy":
            self.send_response(503)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif mood == "gone":
            self.connection.close()
        else:
            self.answer_file(mood)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def answer_file(self, mood: str) -> None:
        content = cast(Moody, self.server).content
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if mood != "anew" else 0
        self.send_response(206 if start else 200)
        if start:
            start += mood == "another"
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", '"1"')
        part = content[start : start + 3000 if mood.endswith("breaks") else None]
        if mood.startswith("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            part = b"%x\r\n%b\r\n%b" % (len(part), part, b"" if mood.endswith("breaks") else b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moody]:
    monkeypatch.setattr(service.client.api, "MIN_PAUSE", 0.01)
    with Moody() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


SUCCEEDED = Job("f" * 32, "succeeded", None, "tiff", "d", 1, 9, 9, 64, "png", 1, 1, 1.0, None)


def test_a_busy_service_is_asked_again_for_the_same_job(kind: str, moody: Moody) -> None:
    moody.moods = ["gone", "busy"]
    with pytest.raises(json.JSONDecodeError):  # the third answer is a file, no job
        caller(kind, moody.address, None)("order", seed=1)
    assert len(moody.asked) == 3
    assert len({key for key, _ in moody.asked}) == 1


def test_patience_ends(kind: str, moody: Moody) -> None:
    moody.moods = ["busy"] * 9
    with pytest.raises(ServiceError, match="503"):
        caller(kind, moody.address, None, patience=0.0)("models")
    assert len(moody.asked) == 1


def test_nobody_is_there(kind: str, moody: Moody) -> None:
    moody.server_close()
    with pytest.raises(httpx.ConnectError, match=moody.address):
        caller(kind, moody.address, None, patience=1e9)("models")


def test_what_may_be_deleted_already_is_not_deleted_again(kind: str, moody: Moody) -> None:
    moody.moods = ["busy", "gone"]
    with pytest.raises(httpx.TransportError):
        caller(kind, moody.address, None)("delete", SUCCEEDED)
    assert len(moody.asked) == 2


def test_a_download_goes_on_where_it_broke_off(kind: str, moody: Moody, tmp_path: Path) -> None:
    moody.moods = ["breaks", "busy", "gone", "breaks", "anew"]
    caller(kind, moody.address, None)("download", SUCCEEDED, tmp_path / "a.tiff")
    assert [part for _, part in moody.asked] == [None, *["bytes=3000-"] * 3, "bytes=6000-"]
    assert (tmp_path / "a.tiff").read_bytes() == moody.content


def test_a_proxy_may_send_a_download_in_chunks(kind: str, moody: Moody, tmp_path: Path) -> None:
    moody.moods = ["chunked breaks", "chunked breaks", "chunked"]
    caller(kind, moody.address, None)("download", SUCCEEDED, tmp_path / "a.tiff")
    assert [part for _, part in moody.asked] == [None, "bytes=3000-", "bytes=6000-"]
    assert (tmp_path / "a.tiff").read_bytes() == moody.content


@pytest.mark.parametrize(
    ("mood", "error"), [("busy", ServiceError), ("gone", httpx.TransportError), ("another", httpx.TransportError)]
)
def test_a_download_that_fails_leaves_nothing(
    kind: str, moody: Moody, tmp_path: Path, mood: str, error: type[Exception]
) -> None:
    moody.moods = ["breaks", *[mood] * 99]
    with pytest.raises(error):
        caller(kind, moody.address, None, patience=0.1)("download", SUCCEEDED, tmp_path / "a.tiff")
    assert list(tmp_path.iterdir()) == []


def test_without_httpx_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['httpx'] = None; import service.client"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "service.client requires httpx: pip install 'creps-serve[client]'" in result.stderr.splitlines()[-1]


def test_it_needs_no_package_but_httpx() -> None:
    """What httpx itself requires may also be required by the gateway."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras["dependencies"] == []
    assert [canonical(line) for line in extras["optional-dependencies"]["client"]] == ["httpx"]
    script = "import sys, service.client; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True).split()
    packages = packages_distributions()
    found = {canonical(owner) for name in loaded for owner in packages.get(name.partition(".")[0], ())}
    gateway = set(map(canonical, extras["optional-dependencies"]["gateway"]))
    assert found & gateway <= {"httpcore"}
