"""Projections over HTTP, and files that tell how they were made. The worker's part is in tests/service/worker."""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import obstore
import pytest
from PIL import Image

from model.latents.latent import Latent, pack_floats
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.gateway.middleware.request_limits import MAX_UPLOAD
from service.gateway.routes import projections as routes
from service.imaging.metadata import embed
from service.imaging.object_store import exists
from service.jobs.projections import ProjectionRepository
from tests.service.gateway.routes.jobs.ordering import call
from tests.service.gateway.stand_in import RunningGateway


def picture(width: int = 20, height: int = 10, image_format: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), 100).save(file, image_format)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG whose header announces a billion pixels."""
    size = struct.pack(">II", 32_000, 32_000)
    header = b"IHDR" + size + picture()[24:29]
    return picture()[:12] + header + struct.pack(">I", zlib.crc32(header)) + picture()[33:]


@pytest.fixture(autouse=True)
def _tidy(gateway: RunningGateway) -> Iterator[None]:
    yield
    call(gateway, gateway.app_state.jobs.redis.delete("creps:projections"))


def post(
    gateway: RunningGateway, content: bytes, query: str = "?model=plain", media_type: str = "image/png"
) -> httpx.Response:
    return gateway.http.post(f"/v1/projections{query}", content=content, headers={"Content-Type": media_type})


def work_on(gateway: RunningGateway) -> tuple[ProjectionRepository, str]:
    """Claim the oldest projection, as a worker does."""
    repository = gateway.app_state.projections
    claimed = call(gateway, repository.claim(60))
    assert claimed is not None
    return repository, claimed[0].id


def test_from_order_to_latent(gateway: RunningGateway) -> None:
    accepted = post(gateway, picture(), "?model=plain&steps=40")
    projection = accepted.json()
    assert accepted.status_code == 202, accepted.text
    assert accepted.headers["Location"] == f"{gateway.address}/v1/projections/{projection['id']}"
    assert (projection["state"], projection["steps"], projection["steps_done"]) == ("queued", 40, 0)
    assert projection["model"] == gateway.checkpoints["plain"].digest
    address = f"/v1/projections/{projection['id']}"
    assert gateway.http.get(address).json() == projection
    repository, claimed = work_on(gateway)
    assert claimed == projection["id"]
    stored = obstore.get(gateway.app_state.outputs, f"projections/{claimed}").bytes()
    assert bytes(stored) == picture()
    latent = Latent(w=pack_floats([0.5]))
    latent_id, _ = call(gateway, gateway.app_state.latents.put(latent, projection["model"]))
    call(gateway, repository.report(claimed, 10, latent_id))
    running = gateway.http.get(address).json()
    assert (running["state"], running["steps_done"], running["latent"]) == ("running", 10, latent_id)
    call(gateway, repository.report(claimed, 40, None))
    assert call(gateway, repository.end(claimed, "succeeded", psnr_w=20.5, psnr=31.25))
    ended = gateway.http.get(address).json()
    assert (ended["state"], ended["psnr_w"], ended["psnr"], ended["latent"]) == ("succeeded", 20.5, 31.25, latent_id)
    assert gateway.http.delete(address).json() == ended  # which is no cancellation
    assert gateway.image(f"plain/{latent_id}.png").status_code == 200
    assert gateway.queue.asked[-1].latent == latent


def test_events_tell_every_change(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "POLL_SECONDS", 0.01)
    projection = post(gateway, picture()).json()["id"]
    told: list[tuple[str, int]] = []
    with gateway.http.stream("GET", f"/v1/projections/{projection}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                told.append((event["state"], event["steps_done"]))
                if len(told) == 1:
                    repository, _ = work_on(gateway)
                    call(gateway, repository.report(projection, 7, None))
                elif told[-1] == ("running", 7):
                    call(gateway, repository.end(projection, "failed", error="picture: cannot be read"))
    assert (told[0], told[-1]) == (("queued", 0), ("failed", 7))
    assert ("running", 7) in told
    assert gateway.http.get(f"/v1/projections/{projection}").json()["error"] == "picture: cannot be read"
    assert gateway.http.head(f"/v1/projections/{projection}/events").status_code == 200


def test_a_projection_can_be_cancelled(gateway: RunningGateway) -> None:
    projection = post(gateway, picture()).json()["id"]
    repository, _ = work_on(gateway)
    assert call(gateway, repository.keep(projection, 60))
    cancelled = gateway.http.delete(f"/v1/projections/{projection}").json()
    assert cancelled["state"] == "cancelled"
    assert not call(gateway, repository.keep(projection, 60))
    assert not call(gateway, repository.end(projection, "succeeded", psnr=1.0))
    assert gateway.http.get(f"/v1/projections/{projection}").json() == cancelled
    assert not call(gateway, exists(gateway.app_state.outputs, f"projections/{projection}"))
    assert call(gateway, repository.claim(60)) is None


def test_one_that_a_stopping_worker_leaves_is_claimed_again(gateway: RunningGateway) -> None:
    projection = post(gateway, picture()).json()["id"]
    for _ in range(5):
        repository, claimed = work_on(gateway)
        assert claimed == projection
        call(gateway, repository.release(projection))


@pytest.mark.parametrize(
    ("content", "query", "media_type", "status", "field"),
    [
        (picture(1, 1), "?model=plain", "image/png", 422, "picture"),
        (picture(2000, 1000), "?model=plain", "image/png", 413, "picture"),
        (bomb(), "?model=plain", "image/png", 413, "picture"),
        (b"", "?model=plain", "image/png", 422, "picture"),
        (b"no picture", "?model=plain", "image/png", 422, "picture"),
        (picture(), "?model=plain", "image/jpeg", 422, "picture"),
        (picture(), "?model=plain", "image/tiff", 415, None),
        (b"{}", "?model=plain", "application/json", 415, None),
        (picture(), "?model=absent", "image/png", 404, "model"),
        (picture(), "", "image/png", 422, "model"),
        (picture(), "?model=plain&steps=0", "image/png", 422, "steps"),
        (picture(), "?model=plain&steps=2001", "image/png", 422, "steps"),
        (picture(), "?model=plain&class=1", "image/png", 422, "class_index"),
        (picture(), "?model=kinds&class=cow", "image/png", 422, "class_index"),
        (picture(), "?model=plain&pixels=1", "image/png", 422, "pixels"),
        (bytes(MAX_UPLOAD + 1), "?model=plain", "image/png", 413, None),
    ],
)
def test_refused(
    gateway: RunningGateway, content: bytes, query: str, media_type: str, status: int, field: str | None
) -> None:
    response = post(gateway, content, query, media_type)
    assert (response.status_code, response.json().get("field")) == (status, field), response.text
    assert call(gateway, gateway.app_state.projections.claim(60)) is None


def turned(width: int, height: int) -> bytes:
    """A JPEG that is to be turned by 90°."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (width, height), 255).save(file, "jpeg", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("mask", [picture(), picture(image_format="webp"), turned(10, 20)])
def test_a_mask(gateway: RunningGateway, mask: bytes) -> None:
    files = {"picture": ("a.png", picture()), "mask": ("b", mask)}
    accepted = gateway.http.post("/v1/projections?model=plain", files=files)
    assert accepted.status_code == 202, accepted.text
    claimed = call(gateway, gateway.app_state.projections.claim(60))
    assert claimed is not None
    stored = {name: obstore.get(gateway.app_state.outputs, path).bytes() for name, path in claimed[0].files.items()}
    assert {name: bytes(content) for name, content in stored.items()} == {"picture": picture(), "mask": mask}
    gateway.http.delete(f"/v1/projections/{claimed[0].id}")
    for path in claimed[0].files.values():
        assert not call(gateway, exists(gateway.app_state.outputs, path))


def file(content: bytes) -> tuple[str, bytes]:
    return "file", content


@pytest.mark.parametrize(
    ("form", "status", "field"),
    [
        ([("mask", file(picture()))], 422, "picture"),
        ([("picture", file(picture())), ("mask", file(picture(21, 10)))], 422, "mask"),
        ([("picture", file(picture())), ("mask", file(b"no picture"))], 422, "mask"),
        ([("picture", file(picture())), ("mask", file(picture(2000, 1000)))], 413, "mask"),
        ([("picture", file(picture())), ("mask", (None, "text"))], 422, "mask"),
        ([("picture", file(picture())), ("picture", file(picture()))], 422, "picture"),
        ([("picture", file(picture())), ("other", file(picture()))], 422, "other"),
        ([("picture", file(picture())), ("mask", file(picture())), ("mask", file(picture()))], 422, "mask"),
        ([("picture", file(bytes(MAX_UPLOAD)))], 413, None),
    ],
)
def test_forms_that_are_refused(gateway: RunningGateway, form: list[Any], status: int, field: str | None) -> None:
    response = gateway.http.post("/v1/projections?model=plain", files=form)
    assert (response.status_code, response.json().get("field")) == (status, field), response.text
    assert call(gateway, gateway.app_state.projections.claim(60)) is None


@pytest.mark.parametrize("media_type", ["multipart/form-data", "multipart/form-data; boundary=b"])
def test_no_form(gateway: RunningGateway, media_type: str) -> None:
    assert post(gateway, picture(), media_type=media_type).status_code == 400


def test_more_than_can_wait_are_refused(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_UNFINISHED", 1)
    assert post(gateway, picture()).status_code == 202
    assert post(gateway, picture()).status_code == 429


def test_unknown_ones(gateway: RunningGateway) -> None:
    for method in ("GET", "DELETE"):
        assert gateway.http.request(method, f"/v1/projections/{'0' * 32}").status_code == 404
        assert gateway.http.request(method, "/v1/projections/x").status_code == 422


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_a_file_tells_how_it_was_made(gateway: RunningGateway, image_format: str) -> None:
    digest = gateway.checkpoints["plain"].digest
    spec = RenderSpec(digest, Latent(seed=2), Viewport.resolve(20, 10), Encoding(image_format))  # type: ignore[arg-type]
    content = embed(picture(image_format=image_format), spec)
    headers = {"Content-Type": f"image/{image_format}"}
    described = gateway.http.post("/v1/inspect", content=content, headers=headers).json()
    assert (described["model_name"], described["key"]) == ("plain", spec.key)
    assert described["spec"] == json.loads(spec.to_json())
    plain = gateway.http.post("/v1/inspect", content=picture(image_format=image_format), headers=headers)
    assert (plain.status_code, plain.json()["field"]) == (422, "picture")
    assert gateway.http.post("/v1/inspect", content=content, headers={"Content-Type": "text/plain"}).status_code == 415
