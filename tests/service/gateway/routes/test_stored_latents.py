"""Uploaded latents, and the numbers of seeds. The models have z and w of one number, ``plain`` has 9 styles."""

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

from model.latents.latent import Edit, Latent, LayerStyles, Weighted, pack_floats
from service.gateway.middleware.request_limits import MAX_BODY
from tests.service.gateway.routes.jobs.ordering import call
from tests.service.gateway.stand_in import RunningGateway

W_PLUS = np.arange(9, dtype=np.float32)[None, :, None]  # [1, num_ws, w_dim], as StyleGAN2-ADA writes it
NOWHERE = f"lat_{'0' * 32}"


@pytest.fixture(autouse=True)
def _forget(gateway: RunningGateway) -> Iterator[None]:
    yield
    gateway.app_state.latents._lifetime = timedelta(days=7)
    gateway.app_state.latents._cache.clear()


def upload(gateway: RunningGateway, latent: object, model: str = "plain", **query: Any) -> httpx.Response:
    """Store a latent: JSON values, or bytes of a file."""
    body: dict[str, Any] = {"json": latent}
    if isinstance(latent, bytes):
        body = {"content": latent, "headers": {"Content-Type": "application/octet-stream"}}
    return gateway.http.post("/v1/latents", params={"model": model} | query, **body)


def stored(gateway: RunningGateway, latent: object, model: str = "plain", **query: Any) -> str:
    response = upload(gateway, latent, model, **query)
    assert response.status_code == 201, response.text
    assert response.json()["model"] == gateway.checkpoints[model].digest
    return str(response.json()["id"])


def npy(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def npz(**arrays: object) -> bytes:
    file, values = io.BytesIO(), {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(file, **values)  # type: ignore[arg-type]  # the stubs lack them
    return file.getvalue()


def test_an_id_stands_wherever_a_seed_stands(gateway: RunningGateway) -> None:
    latent_id = stored(gateway, {"w": [0.5]})
    by_address = gateway.image(f"plain/{latent_id}.png", psi=0.5)
    in_body = gateway.post(model="plain", latent={"id": latent_id}, psi=0.5)
    given = gateway.post(model="plain", latent={"w": [0.5]}, psi=0.5)
    tile = gateway.http.get(f"/iiif/3/plain:{latent_id}:psi=0.5/full/32,/0/default.png")
    part = gateway.post(model="plain", latent={"mix": [{"latent": {"id": latent_id}}, {"latent": {"seed": 1}}]})
    assert [each.status_code for each in (by_address, in_body, given, tile, part)] == [200] * 5, tile.text
    assert by_address.headers["ETag"] == in_body.headers["ETag"] == given.headers["ETag"]
    assert {"X-Creps-Seed"}.isdisjoint([*by_address.headers, *tile.headers])
    w = Latent(w=pack_floats([0.5]), psi=0.5)
    assert [spec.latent for spec in gateway.queue.asked[:4]] == [w] * 4
    assert gateway.queue.asked[4].latent.mix[0].latent == Latent(w=pack_floats([0.5]))
    document = gateway.http.get(f"/iiif/3/plain:{latent_id}/info.json")
    assert document.json()["id"] == f"{gateway.address}/iiif/3/plain:{latent_id}"


def test_ids_are_digests_of_model_and_values(gateway: RunningGateway) -> None:
    first = stored(gateway, {"w": [0.5]})
    assert first == stored(gateway, {"w": [0.5]}) == stored(gateway, npy([0.5]))
    others = [stored(gateway, {"w": [0.25]}), stored(gateway, {"z": [0.5]}), stored(gateway, {"w": [0.5]}, "kinds")]
    assert len({first, *others}) == 4


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (npz(w=W_PLUS), Latent(w=pack_floats(W_PLUS))),
        (npy(W_PLUS.astype(np.float64)), Latent(w=pack_floats(W_PLUS))),
        (npz(z=[[0.5]]), Latent(z=pack_floats([0.5]))),
        (save_safetensors({"w": np.array([0.5], np.float16)}), Latent(w=pack_floats([0.5]))),
    ],
)
def test_files(gateway: RunningGateway, file: bytes, expected: Latent) -> None:
    assert gateway.post(model="plain", latent={"id": stored(gateway, file)}).status_code == 200
    assert gateway.queue.asked[0].latent == expected


def test_mixes_and_classes_are_stored(gateway: RunningGateway) -> None:
    parts = [{"latent": {"seed": seed, "class": "dog"}} for seed in (1, 2)]
    for latent_id in (
        stored(gateway, {"mix": parts}, "kinds"),
        stored(gateway, npz(z=[[1.0]]), "kinds", **{"class": 1}),
    ):
        assert gateway.image(f"kinds/{latent_id}.png").status_code == 200
    mix, z = (spec.latent for spec in gateway.queue.asked)
    assert mix == Latent(mix=tuple(Weighted(Latent(seed=seed, class_index=2)) for seed in (1, 2)))
    assert z == Latent(z=pack_floats([1]), class_index=1)


def test_changed_latents_are_stored(gateway: RunningGateway) -> None:
    styles = [{"layers": "0", "latent": {"seed": 2}}]
    edits = [{"direction": [0.5], "amount": 2}]
    recipe = {"seed": 1, "psi": 0.5, "styles": styles, "edits": edits}
    latent_id = stored(gateway, recipe)
    inline = gateway.post(model="plain", **recipe)
    assert gateway.image(f"plain/{latent_id}.png").headers["ETag"] == inline.headers["ETag"]
    expected = Latent(
        seed=1, psi=0.5, styles=(LayerStyles((0,), Latent(seed=2, psi=0.5)),), edits=(Edit(pack_floats([0.5]), 2),)
    )
    assert gateway.image(f"plain/{latent_id}.png", psi=0.25).status_code == 200  # is truncated as a whole
    assert gateway.post(model="plain", latent={"id": latent_id}, edits=edits).status_code == 200
    assert [spec.latent for spec in gateway.queue.asked] == [
        expected,
        expected,
        Latent(mix=(Weighted(expected),), psi=0.25),
        Latent(mix=(Weighted(expected),), edits=expected.edits),
    ]


@pytest.mark.parametrize(
    ("latent", "status", "field"),
    [
        ({"w": [1, 2]}, 422, "w"),
        ({"seed": 1, "psi": 3}, 422, "psi"),
        ({"seed": 1, "styles": [{"layers": "9", "latent": {"seed": 1}}]}, 422, "styles[0].layers"),
        ({"styles": []}, 422, "latent"),
        ({"seed": 1, "class": 0}, 422, "class_index"),
        ({"mix": [{"latent": {"z": [1, 2]}}]}, 422, "mix[0].latent.z"),
        ({"id": NOWHERE}, 404, "id"),
        ({"ww": [1]}, 422, "ww"),
        ([], 422, None),
        (npy([1.0, 2.0]), 422, "latent"),
        (npy([np.inf]), 422, "latent"),
        (npz(v=[1.0], u=[1.0]), 422, "latent"),
        (b"PK\x03\x04nonsense", 422, "latent"),
        (b"", 422, "latent"),
        (bytes(MAX_BODY + 1), 413, None),
    ],
)
def test_uploads_that_are_refused(gateway: RunningGateway, latent: object, status: int, field: str | None) -> None:
    response = upload(gateway, latent)
    assert (response.status_code, response.json().get("field")) == (status, field), response.text


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"seed": 1, "seed": 2}', 422),
        ("application/json", b'{"w": [NaN]}', 422),
        ("text/plain", b'{"seed": 1}', 415),
        ("multipart/form-data", b"", 415),
    ],
)
def test_bodies_that_are_no_latents(gateway: RunningGateway, media_type: str, body: bytes, status: int) -> None:
    response = gateway.http.post("/v1/latents?model=plain", content=body, headers={"Content-Type": media_type})
    assert response.status_code == status, response.text


def test_ids_that_are_of_no_use(gateway: RunningGateway) -> None:
    unknown = gateway.image(f"plain/{NOWHERE}.png")
    assert (unknown.status_code, unknown.json()["field"]) == (404, "seed")
    assert gateway.http.get(f"/iiif/3/plain:{NOWHERE}/info.json").status_code == 404
    assert gateway.post(model="plain", latent={"id": NOWHERE}).json()["field"] == "latent.id"
    assert gateway.post(model="plain", latent={"id": "lat_0"}).status_code == 422
    of_another = gateway.post(model="kinds", latent={"id": stored(gateway, {"w": [1]})})
    assert (of_another.status_code, of_another.json()["field"]) == (422, "latent.id")
    assert "another model" in of_another.json()["detail"]
    with_class = gateway.post(model="kinds", latent={"id": stored(gateway, {"w": [1]}, "kinds"), "class": 0})
    assert with_class.json()["field"] == "latent.class_index"
    assert gateway.queue.asked == []


def test_they_expire_after_the_last_upload(gateway: RunningGateway) -> None:
    latents, latent_id = gateway.app_state.latents, stored(gateway, {"w": [0.75]})
    assert gateway.image(f"plain/{latent_id}.png").status_code == 200
    call(gateway, latents.sweep())
    latents._cache.clear()
    assert gateway.image(f"plain/{latent_id}.png").status_code == 200
    latents._lifetime = timedelta(0)
    latents._cache.clear()
    expired = gateway.image(f"plain/{latent_id}.png")
    assert (expired.status_code, expired.json()["field"]) == (404, "seed")
    call(gateway, latents.sweep())
    latents._lifetime = timedelta(days=7)
    assert "unknown" in gateway.image(f"plain/{latent_id}.png").json()["detail"]
    assert stored(gateway, {"w": [0.75]}) == latent_id
    assert gateway.image(f"plain/{latent_id}.png").status_code == 200


def values_of(gateway: RunningGateway, path: str, accept: str = "*/*", **query: Any) -> httpx.Response:
    return gateway.http.get(f"/v1/models/{path}", params=query, headers={"Accept": accept})


def test_the_numbers_of_a_seed(gateway: RunningGateway) -> None:
    response = values_of(gateway, "plain/latents/7", psi=0.5)
    z = np.random.RandomState(7).randn(1).astype(np.float32)
    assert response.status_code == 200, response.text
    assert (response.headers["X-Creps-Seed"], response.headers["Vary"]) == ("7", "Accept, Origin")
    values = response.json()
    assert np.array(values["z"], np.float32) == z
    assert (values["w"], values["w_plus"]) == ([8], [[7.5]] * 9)  # of the stand-in: the seed plus ψ
    assert (
        "immutable" in values_of(gateway, f"{gateway.checkpoints['plain'].digest}/latents/7").headers["Cache-Control"]
    )


def test_the_numbers_as_files(gateway: RunningGateway) -> None:
    for accept in ("application/x-npz", "application/zip"):
        response = values_of(gateway, "plain/latents/7", accept)
        assert response.headers["Content-Type"] == accept
        with np.load(io.BytesIO(response.content)) as arrays:
            assert {name: arrays[name].shape for name in arrays} == {"w": (1, 9, 1), "z": (1, 1)}
        assert gateway.post(model="plain", latent={"id": stored(gateway, response.content)}).status_code == 200
    assert gateway.queue.asked[-1].latent == Latent(w=pack_floats([8] * 9))
    response = values_of(gateway, "plain/latents/7", "application/x-npy")
    assert np.load(io.BytesIO(response.content)).shape == (1, 9, 1)


def test_the_numbers_of_a_stored_latent(gateway: RunningGateway) -> None:
    z, w = (stored(gateway, {name: [0.5]}) for name in "zw")
    assert values_of(gateway, f"plain/latents/{z}").json()["z"] == [0.5]
    assert values_of(gateway, f"plain/latents/{w}").json()["z"] is None


def test_a_head_asks_no_worker(gateway: RunningGateway) -> None:
    response = gateway.http.head("/v1/models/plain/latents/7")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert gateway.queue.asked == []


@pytest.mark.parametrize(
    ("path", "query", "status", "field"),
    [
        ("absent/latents/7", {}, 404, "model"),
        ("plain/latents/x", {}, 422, "seed"),
        ("plain/latents/4294967296", {}, 422, "seed"),
        (f"plain/latents/{NOWHERE}", {}, 404, "seed"),
        ("plain/latents/7", {"class": 0}, 422, "class"),
        ("plain/latents/7", {"cutoff": 10}, 422, "cutoff"),
        ("plain/latents/7", {"width": 10}, 422, "width"),
        ("kinds/latents/7", {}, 422, "class"),
    ],
)
def test_numbers_that_there_are_not(
    gateway: RunningGateway, path: str, query: dict[str, Any], status: int, field: str
) -> None:
    response = values_of(gateway, path, **query)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
