"""Directions over HTTP, and edits that name them. The worker's part is in tests/service/worker."""

import io
import json
import os
from collections.abc import Iterator

import numpy as np
import obstore
import pytest
from PIL import Image

from model.latents.direction import Direction, encode_directions
from model.latents.direction_names import names_path
from model.latents.latent import Edit, Latent, pack_floats
from service.gateway.routes.directions import AMOUNTS
from service.imaging.contact_sheet import cell_box
from service.queue.directions import DirectionRequests, directions_path
from service.runtime.redis_keys import DIRECTIONS_WANTED
from tests.service.gateway.routes.jobs.ordering import call
from tests.service.gateway.stand_in import RunningGateway

FOUND = [
    Direction("sefa:0", (3,), np.array([1.0]), 0.5, 20.0, 3.0, 1.0, -1.0),
    Direction("pca:0", tuple(range(9)), np.array([1.0]), 0.25, 30.0, 2.5, 2.0, 0.5),
]


@pytest.fixture
def known(gateway: RunningGateway) -> Iterator[RunningGateway]:
    """A gateway whose model ``plain`` has directions."""
    checkpoint = gateway.checkpoints["plain"]
    path, content = directions_path(checkpoint.digest), encode_directions(FOUND, checkpoint.config)
    gateway.app_state.directions._cache.clear()
    obstore.put(gateway.app_state.outputs, path, content)
    yield gateway
    gateway.app_state.directions._cache.clear()
    obstore.delete(gateway.app_state.outputs, path)


def test_they_are_listed_strongest_first(known: RunningGateway) -> None:
    answer = known.http.get("/v1/models/plain/directions").json()
    assert answer["model"] == known.checkpoints["plain"].digest
    assert [each["name"] for each in answer["directions"]] == ["pca:0", "sefa:0"]
    assert answer["directions"][1] == {
        "name": "sefa:0",
        "label": None,
        "layers": [3],
        "effect": 20.0,
        "ratio": 3.0,
        "luma": 1.0,
        "chroma": -1.0,
        "strip": f"{known.address}/v1/models/plain/directions/sefa:0.png",
    }


def test_an_edit_may_name_one(known: RunningGateway) -> None:
    edits = [
        {"direction": "sefa:0", "amount": 2},
        {"direction": "pca:0", "amount": -1, "layers": "0-1"},
        {"direction": [0.75], "amount": 1},
    ]
    assert known.post(model="plain", seed=1, edits=edits).status_code == 200
    assert known.queue.asked[0].latent.edits == (
        Edit(pack_floats([0.5]), 2, (3,)),
        Edit(pack_floats([0.25]), -1, (0, 1)),
        Edit(pack_floats([0.75]), 1),
    )


def test_a_strip_shows_what_one_changes(known: RunningGateway) -> None:
    (address,) = [
        each["strip"]
        for each in known.http.get("/v1/models/plain/directions").json()["directions"]
        if each["name"] == "sefa:0"
    ]
    response = known.http.get(address, params={"seed": 70, "width": 20, "height": 10, "psi": 0.5})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/png")
    step = pack_floats([0.5])
    expected = [Latent(seed=70, psi=0.5, edits=(Edit(step, amount, (3,)),)) for amount in AMOUNTS]
    assert [spec.latent for spec in known.queue.asked] == expected
    left, top = cell_box(4, 5, 20, 10)
    pixels = np.asarray(Image.open(io.BytesIO(response.content)))[top : top + 10, left : left + 20]
    assert set(pixels[..., 0].flat) == {70}
    assert known.http.head(address).status_code == 200


def name(known: RunningGateway, model: str, names: dict[str, str], age: int = 0) -> None:
    """Writes the file of the operator's names, ``age`` seconds ago."""
    path = names_path(known.checkpoints["plain"])
    path.write_text(json.dumps({"model": model, "names": names}))
    os.utime(path, (path.stat().st_mtime - age,) * 2)


def test_an_operator_may_name_them(known: RunningGateway) -> None:
    digest = known.checkpoints["plain"].digest
    name(known, digest, {"sefa:0": "smile"})
    listed = known.http.get("/v1/models/plain/directions").json()["directions"]
    assert {each["name"]: each["label"] for each in listed} == {"sefa:0": "smile", "pca:0": None}
    for direction in ("smile", "sefa:0"):
        assert known.post(model="plain", seed=1, edits=[{"direction": direction, "amount": 2}]).status_code == 200
    assert known.queue.asked[0] == known.queue.asked[1]
    assert known.http.get("/v1/models/plain/directions/smile.png?width=8").status_code == 200
    refused = known.post(model="plain", edits=[{"direction": "smiles", "amount": 1}])
    assert refused.json()["detail"].endswith("must be one of smile, sefa:0, pca:0, not smiles")


@pytest.mark.parametrize(
    ("model", "names", "problem"),
    [
        ("own", {"sefa:7": "smile"}, "no direction sefa:7; it has sefa:0, pca:0"),
        ("own", {"sefa:0": "smile", "pca:0": "smile"}, "sefa:0: must have a name of its own: pca:0 is called smile"),
        ("own", {"sefa:0": "pca:0"}, "not 'pca:0'"),
        ("own", {"sefa:0": "a b"}, "not 'a b'"),
        ("own", {"smile": "sefa:0"}, "smile: must be the name of a direction"),
        ("other", {"sefa:0": "smile"}, "the checkpoint with digest other"),
    ],
)
def test_names_that_cannot_be_used_are_logged(
    known: RunningGateway, model: str, names: dict[str, str], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    digest = known.checkpoints["plain"].digest
    name(known, digest if model == "own" else model, names, age=5)
    for _ in range(2):
        listed = known.http.get("/v1/models/plain/directions").json()["directions"]
        assert [each["label"] for each in listed] == [None, None]
    assert [problem in message for message in caplog.messages if "names" in message] == [True]
    name(known, digest, {"sefa:0": "smile"})
    listed = known.http.get("/v1/models/plain/directions").json()["directions"]
    assert [each["label"] for each in listed] == [None, "smile"]


def test_unknown_ones(known: RunningGateway) -> None:
    refused = known.post(model="plain", edits=[{"direction": "sefa:1", "amount": 1}])
    assert (refused.status_code, refused.json()["field"]) == (422, "edits[0].direction")
    assert "sefa:0, pca:0" in refused.json()["detail"]
    assert known.http.get("/v1/models/plain/directions/sefa:1.png").status_code == 404
    assert known.http.get("/v1/models/plain/directions/other.png").status_code == 404
    assert known.http.get("/v1/models/plain/directions/o:1.png").status_code == 422
    assert known.http.get("/v1/models/absent/directions").status_code == 404
    too_large = known.http.get("/v1/models/plain/directions/sefa:0.png", params={"width": 900})
    assert (too_large.status_code, too_large.json()["field"]) == (413, "width")


def test_a_worker_looks_for_those_that_are_not_known(gateway: RunningGateway) -> None:
    redis, digest = gateway.app_state.jobs.redis, gateway.checkpoints["kinds"].digest
    call(gateway, redis.delete(DIRECTIONS_WANTED))
    for response in (
        gateway.http.get("/v1/models/kinds/directions"),
        gateway.post(model="kinds", seed=1, edits=[{"direction": "sefa:0", "amount": 1}], **{"class": 0}),
    ):
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
    assert call(gateway, redis.hgetall(DIRECTIONS_WANTED)) == {digest.encode(): b"0"}
    assert gateway.queue.asked == []


def test_those_that_cannot_be_found_are_not_looked_for_at_once(gateway: RunningGateway) -> None:
    redis, digest = gateway.app_state.jobs.redis, gateway.checkpoints["kinds"].digest
    requests = DirectionRequests(redis, "worker")
    call(gateway, redis.delete(DIRECTIONS_WANTED))
    gateway.http.get("/v1/models/kinds/directions")
    assert call(gateway, requests.claim(60)) == digest
    assert call(gateway, requests.claim(60)) is None
    call(gateway, requests.finish(digest, failed=True))
    response = gateway.http.get("/v1/models/kinds/directions")
    assert (response.status_code, "could not be found" in response.json()["detail"]) == (503, True)
    assert call(gateway, requests.claim(60)) is None


def test_one_that_kills_workers_is_given_up(gateway: RunningGateway) -> None:
    redis, digest = gateway.app_state.jobs.redis, "0" * 64
    requests = DirectionRequests(redis, "worker")
    call(gateway, redis.delete(DIRECTIONS_WANTED))
    call(gateway, requests.add(digest))
    for _ in range(3):
        assert call(gateway, requests.claim(0.001)) == digest
        call(gateway, redis.delete(f"creps:directions:lock:{digest}"))  # as if it had expired
    assert call(gateway, requests.claim(60)) is None
    assert not call(gateway, requests.add(digest))


def test_damaged_files_are_looked_for_again(known: RunningGateway) -> None:
    path = directions_path(known.checkpoints["plain"].digest)
    obstore.put(known.app_state.outputs, path, b"damaged")
    assert known.http.get("/v1/models/plain/directions").status_code == 503
    obstore.put(known.app_state.outputs, path, b"")  # for the fixture, which deletes it
