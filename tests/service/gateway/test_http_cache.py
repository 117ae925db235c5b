"""ETag, Cache-Control, conditional requests and HEAD."""

from pathlib import Path

import pytest

from model.config import GeneratorConfig
from service.queue import WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings


def tag_of(gateway: RunningGateway) -> str:
    tag = gateway.image("plain/1.png").headers["ETag"]
    gateway.queue.asked.clear()
    return tag


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{} , "x"', "*"])
def test_a_picture_that_the_client_has_is_not_drawn(gateway: RunningGateway, form: str) -> None:
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
def test_a_picture_that_the_client_has_not_is_drawn(gateway: RunningGateway, form: str) -> None:
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


def test_cache_control(gateway: RunningGateway) -> None:
    digest = gateway.checkpoints["plain"].digest
    by_digest = gateway.image(f"{digest}/1.png")
    assert by_digest.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert by_digest.headers["ETag"] == tag_of(gateway)
    assert gateway.image("plain/1.png").headers["Cache-Control"] == "public, max-age=300, must-revalidate"
    assert gateway.post(model="plain").headers["Cache-Control"] == "no-store"
    assert gateway.image("plain/1.png?width=0").headers["Cache-Control"] == "no-store"


def test_pictures_behind_keys_are_private(tmp_path: Path) -> None:
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
