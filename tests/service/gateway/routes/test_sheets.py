"""Contact sheets over HTTP."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from model.latents.latent import Edit, Latent, LayerStyles, pack_floats
from service.imaging.contact_sheet import cell_box, sheet_size
from service.queue.messages import DeadlinePassed
from tests.service.gateway.stand_in import RunningGateway

IMAGE = {"model": "plain", "width": 20, "height": 10, "seed": 5}
PSI: dict[str, Any] = {"field": "psi", "values": [0.5, 1]}
SEEDS: dict[str, Any] = {"field": "seed", "values": [60, 120, 180]}


def post(gateway: RunningGateway, x: object = PSI, y: object = SEEDS, **image: Any) -> httpx.Response:
    return gateway.http.post("/v1/sheets", json={"image": IMAGE | image, "x": x, "y": y})


def latents(gateway: RunningGateway) -> list[Latent]:
    return [spec.latent for spec in gateway.queue.asked]


def test_cells_are_the_pixels_of_their_images(gateway: RunningGateway) -> None:
    response = post(gateway)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/png"), response.text
    assert response.headers["X-Creps-Digest"] == gateway.checkpoints["plain"].digest
    expected = [Latent(seed=seed, psi=psi) for seed in SEEDS["values"] for psi in PSI["values"]]
    assert latents(gateway) == expected
    sheet = np.asarray(Image.open(io.BytesIO(response.content)))
    assert sheet.shape[1::-1] == sheet_size(6, 2, 20, 10)
    for index, latent in enumerate(expected):
        left, top = cell_box(index, 2, 20, 10)
        own = gateway.image(f"plain/{latent.seed}.png", width=20, height=10, psi=latent.psi)
        cell = sheet[top : top + 10, left : left + 20]
        assert np.array_equal(cell, np.asarray(Image.open(io.BytesIO(own.content))))


def test_fields_within_latents_styles_and_edits(gateway: RunningGateway) -> None:
    styles = [{"layers": "0-3", "latent": {"seed": 0}}]
    assert post(gateway, {"field": "styles[0].latent.seed", "values": [7]}, styles=styles).status_code == 200
    mixed = (LayerStyles((0, 1, 2, 3), Latent(seed=7)),)
    assert latents(gateway) == [Latent(seed=seed, styles=mixed) for seed in SEEDS["values"]]
    gateway.queue.asked.clear()
    edits = [{"direction": [0.5], "amount": 0}]
    assert post(gateway, {"field": "edits[0].amount", "values": [-1, 1]}, None, edits=edits).status_code == 200
    assert latents(gateway) == [Latent(seed=5, edits=(Edit(pack_floats([0.5]), amount),)) for amount in (-1, 1)]
    gateway.queue.asked.clear()
    assert post(gateway, {"field": "latent", "values": [{"w": [0.5]}, {"seed": 1}]}, None).status_code == 200
    assert latents(gateway) == [Latent(w=pack_floats([0.5])), Latent(seed=1)]
    gateway.queue.asked.clear()
    regions = {"field": "region[2]", "values": [0.5, 0.75]}
    assert post(gateway, regions, None, region=[0, 0, 1, 1]).status_code == 200
    assert [spec.viewport.region[2] for spec in gateway.queue.asked] == [0.5, 0.75]


def test_a_random_seed_is_the_same_in_all_cells(gateway: RunningGateway) -> None:
    assert gateway.http.post("/v1/sheets", json={"image": {"model": "plain"}, "x": PSI}).status_code == 200
    assert len({latent.seed for latent in latents(gateway)}) == 1


def test_labels_and_formats(gateway: RunningGateway) -> None:
    plain, labelled = post(gateway), post(gateway, PSI | {"labels": ["a", "b"]})
    assert plain.content != labelled.content
    assert post(gateway, format="webp").headers["Content-Type"] == "image/webp"


def test_the_status_tells_if_all_fail(gateway: RunningGateway) -> None:
    gateway.queue.failure = DeadlinePassed()
    assert post(gateway).status_code == 504


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"x": {"field": "width", "values": [1]}}, 422, "x.field"),
        ({"x": {"field": "seed; drop", "values": [1]}}, 422, "x.field"),
        ({"x": {"field": "styles[0].layers", "values": ["0"]}}, 422, "x.field"),
        ({"x": {"field": "seed.a", "values": [1]}}, 422, "x.field"),
        ({"x": {"field": "psi", "values": []}}, 422, "x.values"),
        ({"x": {"field": "psi", "values": [1] * 257}}, 422, "x.values"),
        ({"x": {"field": "psi", "values": [1] * 200}, "y": {"field": "seed", "values": [1] * 6}}, 422, "x.values"),
        ({"x": {"field": "psi", "values": [3]}}, 422, "image.truncation_psi"),
        ({"x": {"field": "class", "values": [3]}}, 422, "image.class_index"),
        ({"x": PSI | {"labels": ["a"]}}, 422, "x.labels"),
        ({"x": {"values": [1]}}, 422, "x.field"),
        ({}, 422, "x"),
        ({"x": PSI, "image": {"model": "plain", "width": 0}}, 422, "image.width"),
        ({"x": PSI, "image": {"model": "absent"}}, 404, "image.model"),
        ({"x": PSI, "image": {"model": "plain", "width": 900}}, 413, "x.values"),
    ],
)
def test_refused(gateway: RunningGateway, body: dict[str, Any], status: int, field: str) -> None:
    response = gateway.http.post("/v1/sheets", json={"image": {"model": "plain"}} | body)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
    assert gateway.queue.asked == []
