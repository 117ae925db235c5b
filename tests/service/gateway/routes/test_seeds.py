"""Several seeds in one request: as a zip, as parts and as a sheet."""

import io
import json
import zipfile
from email import message_from_bytes
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from model.spec import RenderSpec
from service.imaging.contact_sheet import MARGIN, cell_box, sheet_size
from service.queue.messages import DeadlinePassed, Priority, QueueFull, RenderResult, Wanted
from tests.service.gateway.stand_in import RunningGateway, draw

BODY = {"model": "plain", "width": 20, "height": 10, "seeds": "3,0-1"}


def post(gateway: RunningGateway, accept: str = "*/*", **body: Any) -> httpx.Response:
    return gateway.http.post("/v1/images", json=BODY | body, headers={"Accept": accept})


def unzip(response: httpx.Response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def fail_for(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, *failures: tuple[int, Exception]) -> None:
    """Fail once for each of some seeds."""
    left = list(failures)

    async def render(
        spec: RenderSpec,
        timeout: float,  # noqa: ASYNC109
        priority: Priority = "interactive",
        wanted: Wanted = "image",
    ) -> RenderResult:
        for failure in left:
            if failure[0] == spec.latent.seed:
                left.remove(failure)
                raise failure[1]
        return RenderResult(draw(spec), 0, 0, 0, "fp32")

    monkeypatch.setattr(gateway.queue, "render", render)


@pytest.mark.parametrize("accept", ["*/*", "application/zip", "application/zip;q=0.9, image/*;q=0.1", "text/html"])
def test_a_zip_with_a_manifest(gateway: RunningGateway, accept: str) -> None:
    response = post(gateway, accept, format="webp", seeds="3,0-1,3")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/zip"), response.text
    assert response.headers["X-Creps-Digest"] == gateway.checkpoints["plain"].digest
    files = unzip(response)
    manifest = json.loads(files.pop("manifest.json"))
    names = ["seed0003.webp", "seed0000.webp", "seed0001.webp"]
    assert manifest == {"images": [{"seed": seed, "file": name} for seed, name in zip((3, 0, 1), names, strict=True)]}
    assert list(files) == names
    for seed, name in zip((3, 0, 1), names, strict=True):
        assert files[name] == gateway.image(f"plain/{seed}.webp", width=20, height=10).content


@pytest.mark.parametrize("seeds", ["3,0-1", [3, 0, 1], [3.0, 0, 1, 3]])
def test_seeds_are_a_list_or_ranges(gateway: RunningGateway, seeds: Any) -> None:
    manifest = json.loads(unzip(post(gateway, seeds=seeds))["manifest.json"])
    assert [entry["seed"] for entry in manifest["images"]] == [3, 0, 1]


@pytest.mark.parametrize(
    ("seeds", "detail"),
    [
        ([1, "2-3"], "must be integers from 0 to 4294967295, not '2-3'"),
        ([], "must be a list of 1 to 4096 seeds, not 0"),
        (3, "must be a list of seeds, or numbers and ranges in a string like 0-3,7"),
        ("5-2", "has a range that ends before it begins: 5-2"),
    ],
)
def test_the_error_tells_what_seeds_may_be(gateway: RunningGateway, seeds: Any, detail: str) -> None:
    assert detail in post(gateway, seeds=seeds).json()["detail"]


def test_parts(gateway: RunningGateway) -> None:
    response = post(gateway, "multipart/mixed")
    message = message_from_bytes(
        f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode() + response.content
    )
    *images, manifest = message.walk() if not message.is_multipart() else list(message.walk())[1:]
    assert [part.get_filename() for part in images] == ["seed0003.png", "seed0000.png", "seed0001.png"]
    assert {part.get_content_type() for part in images} == {"image/png"}
    for part, seed in zip(images, (3, 0, 1), strict=True):
        assert part.get_payload(decode=True) == gateway.image(f"plain/{seed}.png", width=20, height=10).content
    assert len(json.loads(str(manifest.get_payload()))["images"]) == 3


@pytest.mark.parametrize(("accept", "media_type"), [("image/*", "image/png"), ("image/jpeg", "image/jpeg")])
def test_a_sheet(gateway: RunningGateway, accept: str, media_type: str) -> None:
    response = post(gateway, accept, seeds="250,100,200")
    assert (response.status_code, response.headers["Content-Type"]) == (200, media_type), response.text
    sheet = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).astype(int)
    assert sheet.shape[1::-1] == sheet_size(3, 2, 20, 10)
    for index, seed in enumerate((250, 100, 200)):
        left, top = cell_box(index, 2, 20, 10)
        cell = sheet[top + 2 : top + 8, left + 8 : left + 12]  # the red of `draw`, away from JPEG's edges
        assert np.abs(cell - np.asarray(Image.open(io.BytesIO(draw(gateway.queue.asked[index]))))[0, 0]).max() < 20
        assert gateway.queue.asked[index].latent.seed == seed
    assert sheet[: MARGIN - 1].min() > 200  # white


def test_one_that_fails_does_not_fail_the_others(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_for(gateway, monkeypatch, (3, DeadlinePassed()), (0, DeadlinePassed()))
    files = unzip(post(gateway))
    manifest = json.loads(files.pop("manifest.json"))["images"]
    assert list(files) == ["seed0001.png"]
    assert [(entry["seed"], entry.get("problem", {}).get("status")) for entry in manifest] == [
        (3, 504),
        (0, 504),
        (1, None),
    ]
    fail_for(gateway, monkeypatch, (3, DeadlinePassed()))
    sheet = np.asarray(Image.open(io.BytesIO(post(gateway, "image/png").content)))
    left, top = cell_box(0, 2, 20, 10)
    assert set(sheet[top : top + 10, left : left + 20].flat) == {224}
    fail_for(gateway, monkeypatch, (0, DeadlinePassed()))
    parts = post(gateway, "multipart/mixed").text
    assert 'filename="seed0000.png.json"' in parts
    assert "Content-Type: application/problem+json" in parts


def test_the_status_tells_if_all_fail(gateway: RunningGateway) -> None:
    gateway.queue.failure = DeadlinePassed()
    for accept in ("*/*", "multipart/mixed", "image/png"):
        assert post(gateway, accept).status_code == 504


def test_a_full_queue_is_waited_for(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_for(gateway, monkeypatch, *[(0, QueueFull(0))] * 3)
    assert [*unzip(post(gateway))] == ["seed0003.png", "seed0000.png", "seed0001.png", "manifest.json"]


def test_more_than_wait_at_once(gateway: RunningGateway) -> None:
    files = unzip(post(gateway, seeds="0-99", width=1, height=1, region=[0, 0, 0.03, 0.03]))
    assert len(files) == 101


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"seed": 1}, 422, "seeds"),
        ({"latent": {"seed": 1}}, 422, "seeds"),
        ({"seeds": ""}, 422, "seeds"),
        ({"seeds": "1-"}, 422, "seeds"),
        ({"seeds": "3-1"}, 422, "seeds"),
        ({"seeds": "0-1000000"}, 422, "seeds"),
        ({"seeds": "4294967296"}, 422, "seeds"),
        ({"seeds": []}, 422, "seeds"),
        ({"seeds": [1, -2]}, 422, "seeds"),
        ({"seeds": [1, 2**32]}, 422, "seeds"),
        ({"seeds": [1, "2-3"]}, 422, "seeds"),
        ({"seeds": [1, True]}, 422, "seeds"),
        ({"seeds": [1, 2.5]}, 422, "seeds"),
        ({"seeds": [1] * 4097}, 422, "seeds"),
        ({"seeds": 3}, 422, "seeds"),
        ({"seeds": {"from": 0}}, 422, "seeds"),
        ({"class": 1}, 422, "class"),
        ({"seeds": "0-3", "width": 600, "height": 600}, 413, "seeds"),
    ],
)
def test_refused(gateway: RunningGateway, body: dict[str, Any], status: int, field: str) -> None:
    response = post(gateway, **body)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
    assert gateway.queue.asked == []


def test_jobs_take_no_seeds(gateway: RunningGateway) -> None:
    assert gateway.http.post("/v1/jobs", json=BODY).json()["field"] == "seeds"
