"""What a latent may be, and what is refused."""

import math
from typing import Any

import pytest

from model.config import GeneratorConfig
from model.errors import InputError
from model.latents.latent import MAX_DEPTH, MAX_LATENTS, Edit, Latent, LayerStyles, Weighted, pack_floats, parse_base64
from model.latents.ranges import MAX_SEEDS, parse_layers, parse_seeds

CONFIG = GeneratorConfig(resolution=16, z_dim=2, w_dim=3, mapping_layers=1)  # seven styles
SEED = Latent(seed=1)


def nested(depth: int) -> Latent:
    latent = SEED
    for _ in range(depth):
        latent = Latent(mix=(Weighted(latent),))
    return latent


def edited(*given: Any) -> Latent:
    return Latent(seed=1, edits=(Edit(*given),))


@pytest.mark.parametrize(
    ("latent", "field"),
    [
        (Latent(seed=1, mix=(Weighted(SEED),)), "seed"),
        (Latent(mix=(Weighted(Latent(seed=-1)),)), "mix.0.latent.seed"),
        (Latent(mix=(Weighted(SEED), Weighted(Latent()))), "mix.1.latent.seed"),
        (Latent(mix=(Weighted(SEED, math.nan),)), "mix.0.weight"),
        (Latent(mix=(Weighted(SEED, 1e308), Weighted(SEED, 1e308))), "mix"),
        (Latent(mix=(Weighted(SEED, 1), Weighted(SEED, -1))), "mix"),
        (Latent(mix=(Weighted(SEED, 0),)), "mix"),
        (Latent(mix=(Weighted(SEED),) * MAX_LATENTS), "mix"),
        (nested(MAX_DEPTH + 1), "mix"),
        (Latent(seed=1, styles=(LayerStyles((), SEED),)), "styles.0.layers"),
        (Latent(seed=1, styles=(LayerStyles((0, 7), SEED),)), "styles.0.layers"),
        (Latent(seed=1, styles=(LayerStyles((0,), Latent(w=pack_floats([1.0]))),)), "styles.0.latent.w"),
        (Latent(seed=1, styles=(LayerStyles((0,), Latent(seed=1, psi=9)),)), "styles.0.latent.truncation_psi"),
        (edited("sefa:2", 5.1), "edits.0.amount"),
        (edited("sefa:2", math.nan), "edits.0.amount"),
        (edited("../../etc", 1), "edits.0.direction"),
        (edited(pack_floats([1.0]), 1), "edits.0.direction"),
        (edited(pack_floats([1.0, 2.0, math.inf]), 1), "edits.0.direction"),
        (edited("pca:0", 1, (7,)), "edits.0.layers"),
        (Latent(seed=1, edits=(Edit("pca:0", 1),) * 65), "edits"),
    ],
)
def test_refused_with_the_name_of_the_field(latent: Latent, field: str) -> None:
    with pytest.raises(InputError) as caught:
        latent.check(CONFIG)
    assert caught.value.field == field


def test_accepted() -> None:
    nested(MAX_DEPTH).check(CONFIG)
    Latent(
        mix=(Weighted(SEED, 2), Weighted(Latent(w=pack_floats([0.0] * 21), psi=0.5), -1)),
        psi=0.7,
        styles=(LayerStyles((0, 6), Latent(z=pack_floats([1, 2]))),),
        edits=(Edit("sefa:2", -5), Edit(pack_floats([0.0] * 3), 5, (1,))),
    ).check(CONFIG)


def test_layers_have_one_order() -> None:
    assert LayerStyles((3, 1, 3), SEED) == LayerStyles((1, 3), SEED)


@pytest.mark.parametrize(("text", "seeds"), [("7", (7,)), ("0-3,40", (0, 1, 2, 3, 40)), (" 5 , 5-5", (5, 5))])
def test_seeds_as_in_stylegans_tools(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds("seeds", text) == seeds


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,",
        "-1",
        "1-",
        "a",
        "3-1",
        "1.5",
        "٣",
        "4294967296",
        "0-4294967295",
        f"0-{MAX_SEEDS}",
        "1," * 9999 + "1",
    ],
)
def test_refused_seeds(text: str) -> None:
    with pytest.raises(InputError, match=r"^seeds: "):
        parse_seeds("seeds", text)


def test_layers() -> None:
    assert parse_layers("styles", "4-6,0", 7) == (0, 4, 5, 6)
    with pytest.raises(InputError, match="from 0 to 6, not 7"):
        parse_layers("styles", "0-7", 7)


def test_numbers_in_base64() -> None:
    assert parse_base64("w", "AACAPwAAAIA=") == pack_floats([1.0, 0.0])  # the second is −0.0
    for text in ("AACAP", "?", "AAAA", "AACAPwAAAIA=\n"):
        with pytest.raises(InputError, match=r"^w: "):
            parse_base64("w", text)
