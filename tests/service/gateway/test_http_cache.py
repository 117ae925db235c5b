"""ETag, Cache-Control, conditional requests and HEAD."""

from pathlib import Path

import httpx
import pytest

from model.config import GeneratorConfig
from service.queue.messages import WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings


def tag_of(gateway: RunningGateway) -> str:
    tag = gateway.image("plain/1.png").headers["ETag"]
    gateway.queue.asked.clear()
    return tag


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{} , "x"', "*"])
def test_an_image_that_the_client_has_is_not_drawn(gateway: RunningGateway, form: str) -> None:
    tag = tag_of(gateway)
    response = gateway.http.get("/v1/images/plain/1.png", headers={"If-None-Match": form.format(tag)})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["ETag"] == tag
    assert response.headers["Cache-Control"] == "public, max-age=300, must-revalidate"
    assert response.headers["X-Creps-Seed"] == "1"
    assert "Content-Type" not in response.headers
    assert not gateway.queue.asked


@pytest.mark.parametrize("form", ['"other"', "", "{}x", "{unquoted}"])
def test_an_image_that_the_client_has_not_is_drawn(gateway: RunningGateway, form: str) -> None:
    tag = tag_of(gateway)
    header = form.format(tag.replace('"', '"-'), unquoted=tag.strip('"'))
    response = gateway.http.get("/v1/images/plain/1.png", headers={"If-None-Match": header})
    assert response.status_code == 200
    assert len(gateway.queue.asked) == 1


def test_every_difference_is_another_tag(gateway: RunningGateway) -> None:
    addresses = [
        "plain/1.png",
        "plain/2.png",
        "plain/1.jpeg",
        "plain/1.png?psi=0.5",
        "plain/1.png?width=33",
        "plain/1.png?crop=0,0,32,31",
        "plain/1.png?grid=corners",
        "kinds/1.png?class=1",
        "kinds/1.png?class=2",
    ]
    tags = [gateway.image(address).headers["ETag"] for address in addresses]
    assert len(set(tags)) == len(addresses)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_another_checkpoint_of_the_same_name_is_another_tag(gateway: RunningGateway) -> None:
    before = tag_of(gateway)
    save_hollow_checkpoint(gateway.models, "plain", GeneratorConfig(32, thickness=4))
    assert tag_of(gateway) != before


class TestWorkersOfSeveralKinds:
    """Each image has the tag of the arithmetic that rendered it."""

    def test_have_tags_of_their_own(self, gateway: RunningGateway) -> None:
        tags = []
        for gateway.queue.arithmetic in ("fp32-avx2", "bf16x3-amx"):
            tags.append(gateway.image("plain/1.png").headers["ETag"])
        assert [tag.rpartition(".")[2] for tag in tags] == ['fp32-avx2"', 'bf16x3-amx"']
        assert len({tag.partition(".")[0] for tag in tags}) == 1

    @pytest.mark.parametrize("path", ["/v1/images/plain/1.png", "/iiif/3/plain:1/full/32,32/0/gray.png"])
    def test_agree_that_the_client_has_the_image(self, gateway: RunningGateway, path: str) -> None:
        tag = gateway.http.get(path).headers["ETag"]
        gateway.queue.arithmetic = "fp16-sm90"
        gateway.http.get("/v1/images/plain/2.png")
        gateway.queue.asked.clear()
        response = gateway.http.get(path, headers={"If-None-Match": tag})
        assert (response.status_code, response.headers["ETag"]) == (304, tag)
        assert not gateway.queue.asked

    def test_do_not_match_the_other_exactly(self, gateway: RunningGateway) -> None:
        tag = tag_of(gateway)
        gateway.queue.arithmetic = "fp16-sm90"
        response = gateway.http.get("/v1/images/plain/1.png", headers={"If-Match": tag})
        assert response.status_code == 412
        assert "fp16-sm90" in response.json()["detail"]

    def test_other_images_do_not_match(self, gateway: RunningGateway) -> None:
        tag = gateway.http.get("/iiif/3/plain:1/full/32,32/0/gray.png").headers["ETag"]
        for path in ("/iiif/3/plain:1/full/32,32/0/default.png", "/v1/images/plain/1.png?width=32"):
            assert gateway.http.get(path, headers={"If-None-Match": tag}).status_code == 200

    def test_nothing_is_said_before_the_first_image(self, tmp_path: Path) -> None:
        save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
        with run_gateway(tmp_path, settings()) as gateway:
            assert "ETag" not in gateway.http.head("/v1/images/plain/1.png").headers


def test_cache_control(gateway: RunningGateway) -> None:
    digest = gateway.checkpoints["plain"].digest
    by_digest = gateway.image(f"{digest}/1.png")
    assert by_digest.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert by_digest.headers["ETag"] == tag_of(gateway)
    assert gateway.image("plain/1.png").headers["Cache-Control"] == "public, max-age=300, must-revalidate"
    assert gateway.post(model="plain").headers["Cache-Control"] == "no-store"
    assert gateway.image("plain/1.png?width=0").headers["Cache-Control"] == "no-store"


def test_images_behind_keys_are_private(tmp_path: Path) -> None:
    digest = save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32)).digest
    with run_gateway(tmp_path, settings("key")) as gateway:
        gateway.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", ())]
        for model, expected in (
            ("plain", "private, max-age=300, must-revalidate"),
            (digest, "private, max-age=31536000, immutable"),
        ):
            response = gateway.http.get(f"/v1/images/{model}/1.png", headers={"X-API-Key": "key"})
            assert response.headers["Cache-Control"] == expected


def test_head_draws_nothing(gateway: RunningGateway) -> None:
    got = gateway.image("plain/1.jpeg")
    gateway.queue.asked.clear()
    head = gateway.http.head("/v1/images/plain/1.jpeg")
    assert head.status_code == 200
    assert head.content == b""
    assert not gateway.queue.asked
    for name in ("ETag", "Cache-Control", "Content-Type", "X-Creps-Seed", "X-Creps-Digest"):
        assert head.headers[name] == got.headers[name]
    assert "Content-Length" not in head.headers
    assert gateway.http.head("/v1/images/plain/1.jpeg?width=0").status_code == 422


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/livez", "/readyz", "/metrics", "/openapi.json", "/v1/models", "/v1/models/plain"]
)
def test_head_of_other_addresses(gateway: RunningGateway, path: str) -> None:
    got, head = gateway.http.get(path), gateway.http.head(path)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


EPOCH, LATER = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 23:59:59 GMT"

PRECONDITIONS: list[tuple[dict[str, str], int]] = [  # with {} for the entity tag
    ({"If-Match": "{}"}, 200),
    ({"If-Match": '"other", {}'}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": '"other"'}, 412),
    ({"If-Match": ""}, 412),
    ({"If-Match": "W/{}"}, 412),  # strong comparison
    ({"If-Match": "{}", "If-None-Match": "{}"}, 304),
    ({"If-Match": '"other"', "If-None-Match": "{}"}, 412),
    ({"If-None-Match": "W/{}"}, 304),
    ({"If-Unmodified-Since": LATER}, 200),
    ({"If-Unmodified-Since": "x" * 99}, 200),
    ({"If-Unmodified-Since": "Sun, 06 Nov " + "9" * 99 + " 08:49:37 GMT"}, 200),
]
"""And the status of any representation with an entity tag."""

DATES: list[tuple[dict[str, str], int]] = [
    ({"If-Unmodified-Since": EPOCH}, 412),
    ({"If-Unmodified-Since": EPOCH, "If-Match": "{}"}, 200),  # If-Match takes precedence
    ({"If-Modified-Since": LATER}, 304),
    ({"If-Modified-Since": EPOCH}, 200),
    ({"If-Modified-Since": LATER, "If-None-Match": '"other"'}, 200),  # If-None-Match takes precedence
]
"""And the status of a representation with Last-Modified, too. Without one they are ignored."""


def check_preconditions(http: httpx.Client, path: str, *, dated: bool) -> None:
    """GET and HEAD of a path hold section 13.2.2 of RFC 9110."""
    got = http.get(path)
    assert ("Last-Modified" in got.headers) == dated
    for headers, status in PRECONDITIONS + [(headers, status if dated else 200) for headers, status in DATES]:
        sent = {name: value.replace("{}", got.headers["ETag"]) for name, value in headers.items()}
        for method in ("GET", "HEAD"):
            response = http.request(method, path, headers=sent)
            assert response.status_code == status, (method, headers)
            if status == 304:
                assert response.headers["ETag"] == got.headers["ETag"]
                assert response.headers["Cache-Control"] == got.headers["Cache-Control"]
                assert response.content == b""
            if status == 412 and method == "GET":
                assert "If-" in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "dated"),
    [
        ("/v1/images/plain/1.png", False),
        ("/iiif/3/plain:1/full/32,32/0/default.png", False),
        ("/iiif/3/plain:1/info.json", False),
        ("/", False),
        ("/web/style.css", True),
    ],
)
def test_preconditions(gateway: RunningGateway, path: str, dated: bool) -> None:
    check_preconditions(gateway.http, path, dated=dated)


@pytest.mark.parametrize("asked", ["bytes=0-9", "lines=0-9", "bytes=x", "bytes=99999999-"])
def test_pages_ignore_ranges(gateway: RunningGateway, asked: str) -> None:
    whole = gateway.http.get("/web/style.css")
    assert "Accept-Ranges" not in whole.headers
    response = gateway.http.get("/web/style.css", headers={"Range": asked})
    assert (response.status_code, response.content) == (200, whole.content)
