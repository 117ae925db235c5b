"""IIIF over HTTP: live images, documents, headers, and forwarded addresses."""

import asyncio
import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import obstore
import pytest
from PIL import Image

from model.config import GeneratorConfig
from service.gateway.iiif_sources import live_viewport
from service.jobs.repository import JobRepository
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.routes.test_iiif_conformance import store_as_job
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import eventually

LD = 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'


@pytest.fixture(scope="module")
def wide_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """With the limits that it has by default."""
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(folder, settings()) as running:
        save_hollow_checkpoint(folder, "plain", GeneratorConfig(32))
        yield running


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[RunningGateway]:
    with run_gateway(tmp_path, settings(root_path="/creps")) as running:
        save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
        yield running


def test_the_document_of_a_seed(gateway: RunningGateway) -> None:
    answer = gateway.http.get("/iiif/3/plain:7:size=4000/info.json")
    document = answer.json()
    assert answer.headers["content-type"] == LD
    assert answer.headers["access-control-allow-origin"] == "*"
    assert document["id"] == f"{gateway.address}/iiif/3/plain:7:size=4000"
    assert (document["width"], document["height"], document["profile"]) == (4000, 4000, "level2")
    assert document["maxArea"] == 1_000_000
    assert document["tiles"] == [{"width": 512, "height": 512, "scaleFactors": [1, 2, 4, 8]}]
    assert document["sizes"] == [{"width": 500, "height": 500}, {"width": 1000, "height": 1000}]
    plain = gateway.http.get("/iiif/3/plain:7:size=4000/info.json", headers={"Accept": "application/json"})
    assert plain.headers["content-type"] == "application/json"
    tag = answer.headers["etag"]
    assert tag != plain.headers["etag"]
    same = gateway.http.get("/iiif/3/plain:7:size=4000/info.json", headers={"If-None-Match": tag})
    assert (same.status_code, same.headers["vary"]) == (304, "Accept")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", LD),
        ("*/*", LD),
        ("text/html", LD),
        ("application/ld+json, application/json", LD),
        ("application/json, application/ld+json", LD),
        ("application/ld+json;q=0.4, application/json;q=0.5", "application/json"),
        ("application/ld+json;q=0, */*", "application/json"),
        ("application/json;q=0", LD),
        ("Application/JSON", "application/json"),
        ("application/jsonlines", LD),
        (f"{LD}, application/json;q=0.9", LD),
    ],
)
def test_the_document_in_the_preferred_type(gateway: RunningGateway, accept: str, media_type: str) -> None:
    answer = gateway.http.get("/iiif/3/plain:7/info.json", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == media_type


def test_all_that_the_document_promises_is_within_its_limits(tmp_path: Path) -> None:
    with run_gateway(tmp_path, settings(max_image_pixels=40_000)) as running:
        save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
        document = running.http.get("/iiif/3/plain:7/info.json").json()
        assert document["maxArea"] == 40_000
        assert document["tiles"][0]["width"] == 128
        for path in ("0,0,128,128/128,128", "full/max", "0,0,65536,1/max", "full/^max"):
            assert running.http.get(f"/iiif/3/plain:7/{path}/0/default.webp").status_code == 200, path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("turned", ["0/default", "90/default", "0/gray"])
def test_every_format_holds_the_largest_side(wide_gateway: RunningGateway, suffix: str, turned: str) -> None:
    base = "/iiif/3/plain:7"
    side = wide_gateway.http.get(f"{base}/info.json").json()["maxWidth"]
    answer = wide_gateway.http.get(f"{base}/0,0,{side},2/max/{turned}.{suffix}")
    assert answer.status_code == 200, answer.text
    assert set(Image.open(BytesIO(answer.content)).size) == {side, 2}
    assert wide_gateway.http.get(f"{base}/0,0,{side + 1},2/{side + 1},2/{turned}.{suffix}").status_code == 400


def test_an_identifier_alone_leads_to_its_document(gateway: RunningGateway) -> None:
    answer = gateway.http.get("/iiif/3/plain%3A7")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{gateway.address}/iiif/3/plain:7/info.json"


@pytest.mark.parametrize(
    ("identifier", "size", "rotation", "quality", "suffix", "sides"),
    [
        ("plain:7:size=4000", "100,", "0", "default", "jpg", (100, 75)),
        ("plain:7:size=4000", "^800,600", "0", "color", "png", (800, 600)),
        ("plain:7:size=4000", "100,", "90", "default", "webp", (75, 100)),
        ("plain:7:size=4000", "100,", "!180", "gray", "jpg", (100, 75)),
        ("plain:7:size=4000", "3,", "270", "bitonal", "png", (2, 3)),
    ],
)
def test_a_live_image_is_drawn_at_the_size_asked(
    gateway: RunningGateway,
    identifier: str,
    size: str,
    rotation: str,
    quality: str,
    suffix: str,
    sides: tuple[int, int],
) -> None:
    answer = gateway.http.get(f"/iiif/3/{identifier}/500,500,400,300/{size}/{rotation}/{quality}.{suffix}")
    assert answer.status_code == 200, answer.text
    with Image.open(BytesIO(answer.content)) as image:
        assert image.size == sides
        assert image.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[suffix]
        if quality == "bitonal":
            assert image.mode == "1"
    (asked,) = gateway.queue.asked
    w, h = asked.viewport.crop[2:]
    assert {w, h} == set(sides)
    x0, y0, x1, y1 = asked.viewport.crop_region
    assert (x0, y0, x1, y1) == pytest.approx((0.125, 0.125, 0.225, 0.2))
    assert answer.headers["x-creps-seed"] == "7"
    assert answer.headers["x-creps-digest"] == gateway.checkpoints["plain"].digest
    assert "render;dur=" in answer.headers["server-timing"]


def test_any_angle(gateway: RunningGateway) -> None:
    """The answer is as large as the turned image, which is rendered turned; its corners are white."""
    base = "/iiif/3/plain:7:size=4000/500,500,400,300/100,"
    answers = [gateway.http.get(f"{base}/{turned}/default.png") for turned in ("30", "!30", "31")]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.headers["etag"] for answer in answers}) == 3
    with Image.open(BytesIO(answers[0].content)) as image:
        assert image.size == (125, 115)
        assert image.getpixel((0, 0)) == (255, 255, 255)
    asked = gateway.queue.asked[0].viewport
    assert asked.crop == (0, 0, 125, 115)
    assert [each.kind for each in asked.transform] == ["matrix"]


def test_headers_name_the_image(gateway: RunningGateway) -> None:
    path = "/iiif/3/plain:7:size=4000/0,0,4000,4000/pct:10/0.0/color.jpg"
    answer = gateway.http.get(path)
    base = f"{gateway.address}/iiif/3/plain:7:size=4000"
    assert f'<{base}/full/400,400/0/default.jpg>;rel="canonical"' in answer.headers["link"]
    assert '<http://iiif.io/api/image/3/level2.json>;rel="profile"' in answer.headers["link"]
    assert "immutable" not in answer.headers["cache-control"]
    same = gateway.http.get(
        "/iiif/3/plain:7:size=4000/full/400,/0/default.jpg", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (same.status_code, len(gateway.queue.asked)) == (304, 1)
    digest = gateway.checkpoints["plain"].digest
    assert "immutable" in gateway.http.head(f"/iiif/3/{digest}:7/full/400,/0/default.jpg").headers["cache-control"]
    others = (
        "full/400,/90/default.jpg",
        "full/400,/0/gray.jpg",
        "full/400,/0/default.png",
        "full/401,/0/default.jpg",
        "square/400,/!0/default.jpg",
    )
    tags = [gateway.http.head(f"/iiif/3/plain:7:size=4000/{other}").headers["etag"] for other in others]
    assert len({answer.headers["etag"], *tags}) == 6


def test_tiles_are_crops_of_one_whole_image() -> None:
    for level, place in ((0, 5), (1, 7), (3, 2)):
        scale, x = 2**level, place * 512 * 2**level
        viewport = live_viewport(65_536, (x, 0, 512 * scale, 512 * scale), (512, 512))
        assert (viewport.width, viewport.crop) == (65_536 // scale, (place * 512, 0, 512, 512))
    odd = live_viewport(1000, (10, 10, 300, 100), (77, 20))
    assert (odd.width, odd.height, odd.crop) == (77, 20, (0, 0, 77, 20))
    assert odd.region == pytest.approx((0.01, 0.01, 0.31, 0.11))
    deeper = live_viewport(262_144, (512, 0, 256, 256), (1024, 1024))  # of an image above the largest size
    assert deeper.crop == (0, 0, 1024, 1024)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("none:7/full/10,/0/default.jpg", 404),
        ("plain/full/10,/0/default.jpg", 404),
        ("plain:7:class=1/full/10,/0/default.jpg", 404),
        ("kinds:7/info.json", 404),
        (f"job:{'0' * 32}/info.json", 404),
        ("plain:7/full/max,/0/default.jpg", 400),
        ("plain:7:size=4000/full/2000,/0/default.jpg", 400),
        ("plain:7/full/10,/361/default.jpg", 400),
        ("plain:7/0,0,1000,1000/1000,1/89/default.jpg", 400),
        ("plain:7/full/10,/0/default.tif", 501),
        ("plain:7/full/10,/0/default.bmp", 400),
        ("plain:7/full/10,/0", 404),
    ],
)
def test_errors_can_be_read_by_any_page(gateway: RunningGateway, path: str, status: int) -> None:
    answer = gateway.http.get(f"/iiif/3/{path}")
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/problem+json"
    assert gateway.queue.asked == []


@pytest.mark.parametrize(
    ("identifier", "part"),
    [
        ("plain:7:psi=9", "psi: must be at most 2, not 9.0"),
        ("plain:7:cutoff=1000", "cutoff: must be at most 100, not 1000"),
        ("plain:7:cutoff=99", "cutoff: must be from 0 to 9, not 99"),
        ("plain:7:class=1", "class: this model "),
        ("kinds:7", "class: this model "),
        ("none:7", "model: 'none'"),
    ],
)
def test_errors_name_the_part_of_the_identifier(gateway: RunningGateway, identifier: str, part: str) -> None:
    problem = gateway.http.get(f"/iiif/3/{identifier}/info.json").json()
    assert problem["detail"].startswith(f"identifier: {part}")
    assert problem["field"] == "identifier"


def test_errors_that_nobody_expected_can_be_read_too(gateway: RunningGateway) -> None:
    gateway.queue.failure = ZeroDivisionError("on purpose")
    answer = gateway.http.get("/iiif/3/plain:7/full/10,/0/default.jpg")
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_browser_may_ask_first(bare_gateway: RunningGateway) -> None:
    answer = bare_gateway.http.options("/iiif/3/plain:7/full/10,/0/default.jpg", headers={"Origin": "http://elsewhere"})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "x-request-id" in answer.headers
    assert bare_gateway.http.get("/iiif/3/plain:7/info.json").status_code == 401


def test_stored_tiles_are_passed_on_and_put_together(gateway: RunningGateway) -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 700, 3), np.uint8)
    job = store_as_job(gateway, image)
    base = f"/iiif/3/job:{job}"
    document = gateway.http.get(f"{base}/info.json").json()
    assert (document["width"], document["height"], document["tiles"][0]["width"]) == (700, 600, 256)

    def fetch(path: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        answer = gateway.http.get(f"{base}/{path}")
        assert answer.status_code == 200, answer.text
        assert "immutable" in answer.headers["cache-control"]
        return np.asarray(Image.open(BytesIO(answer.content)))

    assert np.array_equal(fetch("full/max/0/default.png"), image)
    assert np.array_equal(fetch("100,200,500,300/max/0/default.png"), image[200:500, 100:600])
    tile = gateway.http.get(f"{base}/256,256,256,256/256,256/0/default.png").content
    stored = gateway.http.get(f"/v1/jobs/{job}/output/picture_files/10/1_1.png").content
    assert hashlib.sha256(tile).digest() == hashlib.sha256(stored).digest()
    turned = fetch("100,200,500,300/max/!90/default.png")
    assert np.array_equal(turned, np.rot90(image[200:500, 100:600][:, ::-1], -1))
    small = fetch("full/70,60/0/default.png").astype(float)
    means = image.reshape(60, 10, 70, 10, 3).mean(axis=(1, 3))
    assert np.abs(small - means).mean() < 6  # Lanczos against the mean of 10×10, of noise with a deviation of 74
    assert asyncio.run_coroutine_threadsafe(JobRepository.ids(gateway.app_state.jobs), gateway.loop).result(10) == {job}
    gateway.http.delete(f"/v1/jobs/{job}")


def test_stored_tiles_of_odd_sizes_are_passed_on(gateway: RunningGateway) -> None:
    image = np.random.default_rng(0).integers(0, 256, (601, 701, 3), np.uint8)
    job = store_as_job(gateway, image)
    for level, column, row, box, sides in (
        (10, 2, 2, "512,512,189,89", "189,89"),
        (9, 0, 0, "0,0,512,512", "256,256"),
        (9, 1, 1, "512,512,189,89", "95,45"),
        (8, 0, 0, "full", "176,151"),
    ):
        stored = gateway.http.get(f"/v1/jobs/{job}/output/picture_files/{level}/{column}_{row}.png").content
        assert gateway.http.get(f"/iiif/3/job:{job}/{box}/{sides}/0/default.png").content == stored
    turned = gateway.http.get(f"/iiif/3/job:{job}/512,512,189,89/189,89/180/default.png").content
    assert np.array_equal(np.asarray(Image.open(BytesIO(turned))), image[:511:-1, :511:-1])
    gateway.http.delete(f"/v1/jobs/{job}")


def test_a_distorted_part_of_a_job_reads_no_more_than_it_sends(gateway: RunningGateway) -> None:
    job = store_as_job(gateway, np.full((1500, 2000, 3), 77, np.uint8))
    store, folder = gateway.app_state.outputs, f"jobs/{job}/picture_files"
    for level in (9, 10, 11):  # of 500×375 and more
        obstore.delete(store, [found["path"] for found in obstore.list(store, f"{folder}/{level}").collect()])
    answer = gateway.http.get(f"/iiif/3/job:{job}/full/1,1400/0/default.png")
    assert Image.open(BytesIO(answer.content)).getextrema() == ((77, 77),) * 3
    assert gateway.http.get(f"/iiif/3/job:{job}/full/1000,750/0/default.png").status_code == 404
    gateway.http.delete(f"/v1/jobs/{job}")


def test_only_images_of_tiles_can_be_viewed(gateway: RunningGateway) -> None:
    job = store_as_job(gateway, np.zeros((10, 10, 3), np.uint8), kind="png")
    answer = gateway.http.get(f"/iiif/3/job:{job}/info.json")
    assert answer.status_code == 404
    assert "dzi" in answer.json()["detail"]
    gateway.http.delete(f"/v1/jobs/{job}")


def test_only_named_proxies_are_believed(gateway: RunningGateway) -> None:
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "pictures.example:8443",
        "X-Forwarded-Prefix": "/art/",
    }
    document = gateway.http.get("/iiif/3/plain:7/info.json", headers=forwarded).json()
    assert document["id"] == "https://pictures.example:8443/art/iiif/3/plain:7"  # 127.0.0.1 is a proxy by default
    evil = {"X-Forwarded-Host": 'a"b/c', "X-Forwarded-Proto": "javascript", "X-Forwarded-Prefix": "/../x y"}
    assert (
        gateway.http.get("/iiif/3/plain:7/info.json", headers=evil).json()["id"] == f"{gateway.address}/iiif/3/plain:7"
    )


@pytest.mark.parametrize(
    ("headers", "host", "client"),
    [
        (
            [("Host", "forged.example"), ("Host", "real.example"), ("For", "6.6.6.6"), ("For", "9.9.9.9")],
            "real",
            "9.9.9.9",
        ),
        ([("Host", "forged.example, real.example"), ("For", "6.6.6.6, 9.9.9.9, 127.0.0.1")], "real", "9.9.9.9"),
        ([("Host", "real.example"), ("For", 'not"an address, 127.0.0.1')], "real", "127.0.0.1"),
    ],
)
def test_of_several_values_the_nearest_proxys_counts(
    gateway: RunningGateway,
    caplog: pytest.LogCaptureFixture,
    headers: list[tuple[str, str]],
    host: str,
    client: str,
) -> None:
    given = [(f"X-Forwarded-{name}", value) for name, value in headers]
    with caplog.at_level("INFO", "service.gateway.middleware.access_log"):
        document = gateway.http.get("/iiif/3/plain:7/info.json", headers=given).json()
        asyncio.run(eventually(lambda: caplog.messages))  # a request is logged once it has been answered
    assert document["id"] == f"http://{host}.example/iiif/3/plain:7"
    assert caplog.messages[-1].startswith(f'{client} "GET ')


def test_strangers_are_not_believed(tmp_path: Path) -> None:
    with run_gateway(tmp_path, settings(trusted_proxies="10.0.0.0/8, ::1")) as running:
        save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
        document = running.http.get("/iiif/3/plain:7/info.json", headers={"X-Forwarded-Host": "evil.example"}).json()
        assert document["id"] == f"{running.address}/iiif/3/plain:7"


@pytest.mark.parametrize("prefix", ["", "/creps"])
def test_a_path_of_its_own_whether_the_proxy_cuts_it_off_or_not(proxied: RunningGateway, prefix: str) -> None:
    document = proxied.http.get(f"{prefix}/iiif/3/plain:7/info.json").json()
    assert document["id"] == f"{proxied.address}/creps/iiif/3/plain:7"
    assert proxied.http.get(f"{prefix}/livez").status_code == 200
    job = proxied.http.post(f"{prefix}/v1/jobs", json={"seed": 1}).json()
    assert job["links"]["self"].startswith(f"{proxied.address}/creps/v1/jobs/")
