"""Latents in request bodies: what reaches the queue, and what is refused. tests/model/latents shows their pixels.

The models have z and w of one number, and 9 (``plain``) or 11 (``kinds``) styles.
"""

import base64
from typing import Any

import numpy as np
import pytest

from model.latents.latent import Edit, Latent, LayerStyles, Weighted, pack_floats
from tests.service.gateway.stand_in import RunningGateway

ONE, NINE = pack_floats([0.5]), pack_floats(np.arange(9) - 4)
SEED = {"seed": 3}


def base64_of(values: list[float]) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


ACCEPTED: dict[str, tuple[dict[str, Any], Latent]] = {
    "a seed": ({"latent": SEED}, Latent(seed=3)),
    "z": ({"latent": {"z": [0.5]}}, Latent(z=ONE)),
    "z in base64": ({"latent": {"z": base64_of([0.5])}}, Latent(z=ONE)),
    "w": ({"latent": {"w": [0.5]}, "psi": 0.5, "cutoff": 2}, Latent(w=ONE, psi=0.5, cutoff=2)),
    "w+ flat": ({"latent": {"w": list(range(-4, 5))}}, Latent(w=NINE)),
    "w+ as rows": ({"latent": {"w": [[value] for value in range(-4, 5)]}}, Latent(w=NINE)),
    "its own truncation": ({"latent": {"w": [0.5], "psi": 0.25}, "psi": 0.5}, Latent(w=ONE, psi=0.25)),
    "a mix is truncated as a whole": (
        {"latent": {"mix": [{"latent": SEED, "weight": 3}, {"latent": {"w": [0.5], "psi": 0}}]}, "psi": 0.5},
        Latent(mix=(Weighted(Latent(seed=3), 3), Weighted(Latent(w=ONE, psi=0))), psi=0.5),
    ),
    "styles are truncated as the request": (
        {"seed": 1, "psi": 0.5, "styles": [{"layers": "3,0-1", "latent": SEED}]},
        Latent(seed=1, psi=0.5, styles=(LayerStyles((0, 1, 3), Latent(seed=3, psi=0.5)),)),
    ),
    "edits": (
        {
            "seed": 1,
            "edits": [{"direction": [0.5], "amount": -1.5}, {"direction": [0.5], "amount": 2, "layers": "8"}],
        },
        Latent(seed=1, edits=(Edit(ONE, -1.5), Edit(ONE, 2, (8,)))),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(gateway: RunningGateway, name: str) -> None:
    body, expected = ACCEPTED[name]
    response = gateway.post(model="plain", **body)
    assert response.status_code == 200, response.text
    assert gateway.queue.asked[0].latent == expected
    assert response.headers.get("X-Creps-Seed") == (None if expected.seed is None else str(expected.seed))


def test_equal_latents_are_one_image_and_others_are_not(gateway: RunningGateway) -> None:
    def tag(**body: Any) -> str:
        return gateway.post(model="plain", **body).headers["ETag"]

    assert tag(seed=3) == tag(latent=SEED) == gateway.image("plain/3.png").headers["ETag"]
    assert tag(latent={"z": [0.5]}) == tag(latent={"z": base64_of([0.5])})
    others = [
        tag(seed=3),
        tag(latent={"z": [0.5]}),
        tag(latent={"w": [0.5]}),
        tag(latent={"w": [0.25]}),
        tag(latent={"mix": [{"latent": SEED}, {"latent": {"seed": 4}}]}),
        tag(latent={"mix": [{"latent": SEED}, {"latent": {"seed": 4}, "weight": 2}]}),
        tag(seed=3, styles=[{"layers": "0", "latent": {"seed": 4}}]),
        tag(seed=3, styles=[{"layers": "1", "latent": {"seed": 4}}]),
        tag(seed=3, edits=[{"direction": [0.5], "amount": 1}]),
        tag(seed=3, edits=[{"direction": [0.5], "amount": 2}]),
    ]
    assert len(set(others)) == len(others)


def test_classes_are_those_of_the_request_unless_a_latent_has_its_own(gateway: RunningGateway) -> None:
    mix = {"mix": [{"latent": SEED}, {"latent": {"seed": 4, "class": "dog"}}]}
    assert gateway.post(model="kinds", latent=mix, **{"class": "cat"}).status_code == 200
    expected = Latent(mix=(Weighted(Latent(seed=3, class_index=1)), Weighted(Latent(seed=4, class_index=2))))
    assert gateway.queue.asked[0].latent == expected
    assert gateway.post(model="kinds", latent={"w": [1]}).status_code == 200  # w needs none
    assert gateway.post(model="kinds", latent=mix).json()["field"] == "class_index"


def test_files_are_named_after_seeds_only_where_those_tell_all(gateway: RunningGateway) -> None:
    edits = [{"direction": [0.5], "amount": 1}]
    bodies: list[dict[str, Any]] = [{"latent": SEED}, {"latent": {"w": [0.5]}}, {"seed": 3, "edits": edits}]
    names = [gateway.post(model="plain", width=8, **body).headers["Content-Disposition"] for body in bodies]
    keys = [spec.key[:12] for spec in gateway.queue.asked]
    assert names == [f'inline; filename="plain-{name}-8x8.png"' for name in ("3", *keys[1:])]


NESTED: dict[str, Any] = SEED
for _ in range(10):
    NESTED = {"mix": [{"latent": NESTED}]}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two sources": ({"seed": 1, "latent": SEED}, "latent"),
    "two sources in one": ({"latent": {"seed": 1, "w": [1]}}, "latent"),
    "no source": ({"latent": {}}, "latent"),
    "an unknown one": ({"latent": {"zz": [1]}}, "latent.zz"),
    "an unknown one and another": ({"latent": {"zz": [1]}, "colour": 1}, "latent.zz"),
    "a seed too large": ({"latent": {"seed": 2**32}}, "latent.seed"),
    "too many numbers": ({"latent": {"z": [1, 2]}}, "latent.z"),
    "too many styles": ({"latent": {"w": [1] * 10}}, "latent.w"),
    "too many for any model": ({"latent": {"w": [1] * 65_537}}, "latent.w"),
    "rows of two lengths": ({"latent": {"w": [[1], [1, 2]]}}, "latent.w"),
    "no numbers": ({"latent": {"w": []}}, "latent.w"),
    "text for numbers": ({"latent": {"w": ["1"]}}, "latent.w"),
    "truth for numbers": ({"latent": {"w": [True]}}, "latent.w"),
    "infinity": ({"latent": {"w": [float("inf")]}}, "latent.w"),
    "not a number": ({"latent": {"w": [float("nan")]}}, "latent.w"),
    "too large for float32": ({"latent": {"w": [1e300]}}, "latent.w"),
    "too large for any float": ({"latent": {"w": [10**400]}}, "latent.w"),
    "infinity in base64": ({"latent": {"w": base64_of([float("inf")])}}, "latent.w"),
    "no base64": ({"latent": {"w": "%"}}, "latent.w"),
    "half a number": ({"latent": {"w": base64.b64encode(b"123").decode()}}, "latent.w"),
    "an empty mix": ({"latent": {"mix": []}}, "latent.mix"),
    "weights without a sum": (
        {"latent": {"mix": [{"latent": SEED}, {"latent": SEED, "weight": -1}]}},
        "latent.mix",
    ),
    "a weight that is no number": (
        {"latent": {"mix": [{"latent": SEED, "weight": float("nan")}]}},
        "latent.mix[0].weight",
    ),
    "a wrong part": ({"latent": {"mix": [{"latent": SEED}, {"latent": {"z": [1, 2]}}]}}, "latent.mix[1].latent.z"),
    "too many parts": ({"latent": {"mix": [{"latent": SEED}] * 65}}, "latent.mix"),
    "too many parts of parts": (
        {"latent": {"mix": [{"latent": {"mix": [{"latent": SEED}] * 20}}] * 4}},
        "latent.mix",
    ),
    "nested too deeply": ({"latent": NESTED}, "latent" + ".mix[0].latent" * 9),
    "a cutoff above the model's": ({"latent": {"w": [1], "cutoff": 10}}, "latent.truncation_cutoff"),
    "a class without classes": ({"latent": {"seed": 1, "class": 0}}, "latent.class_index"),
    "layers of no model": ({"seed": 1, "styles": [{"layers": "a", "latent": SEED}]}, "styles[0].layers"),
    "layers out of range": ({"seed": 1, "styles": [{"layers": "0-9", "latent": SEED}]}, "styles[0].layers"),
    "styles of nothing": ({"seed": 1, "styles": [{"layers": "0", "latent": {}}]}, "styles[0].latent"),
    "too many styles of others": ({"styles": [{"layers": "0", "latent": SEED}] * 65}, "styles"),
    "an amount too large": ({"edits": [{"direction": [1], "amount": 5.5}]}, "edits[0].amount"),
    "a direction too long": ({"edits": [{"direction": [1, 2], "amount": 1}]}, "edits[0].direction"),
    "layers of an edit out of range": ({"edits": [{"direction": [1], "amount": 1, "layers": "9"}]}, "edits[0].layers"),
    "too many edits": ({"edits": [{"direction": [1], "amount": 1}] * 65}, "edits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gateway: RunningGateway, name: str) -> None:
    body, field = REFUSED[name]
    response = gateway.post(model="plain", **body)
    assert response.status_code == 422, response.text
    assert response.json()["field"] == field, response.text
    assert gateway.queue.asked == []
