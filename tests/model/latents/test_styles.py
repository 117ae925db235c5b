"""Latents that stand for equal styles, and what mixing, truncation and edits make of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.renderer import Renderer
from model.latents.latent import Edit, Latent, LayerStyles, Weighted, pack_floats
from model.latents.styles import layer_styles
from model.spec import RenderSpec
from model.viewport import Viewport
from tests.kernels.networks import TINY, random_checkpoint, random_network

NETWORK = random_network(TINY)
SEED, OTHER = Latent(seed=3, psi=0.7), Latent(seed=4)
WS = layer_styles(TINY, NETWORK.mapping, SEED)  # [1, num_ws, w_dim]
OTHER_WS = layer_styles(TINY, NETWORK.mapping, OTHER)
PLAIN_WS = layer_styles(TINY, NETWORK.mapping, Latent(seed=3))
VECTOR = np.arange(TINY.w_dim, dtype=np.float32)

EQUAL = {
    "z": Latent(z=pack_floats(SEED.sample_z(TINY.z_dim)), psi=0.7),
    "truncated w": Latent(w=pack_floats(PLAIN_WS[0, 0]), psi=0.7),
    "w": Latent(w=pack_floats(WS[0, 0])),
    "w+": Latent(w=pack_floats(WS)),
    "mix of one": Latent(mix=(Weighted(SEED, 0.3),)),
    "mix with itself": Latent(mix=(Weighted(SEED, 0.3), Weighted(SEED, 0.9))),
    "mix with a weight of 0": Latent(mix=(Weighted(SEED, 1), Weighted(OTHER, 0))),
    "styles of itself": Latent(seed=3, psi=0.7, styles=(LayerStyles((0, 2), SEED),)),
    "all styles of another": Latent(seed=4, styles=(LayerStyles(tuple(range(TINY.num_ws)), SEED),)),
    "edit of 0": Latent(seed=3, psi=0.7, edits=(Edit(pack_floats(VECTOR), 0),)),
    "edits that cancel": Latent(w=pack_floats(WS), edits=(Edit(pack_floats(0 * VECTOR), 5, (1,)),)),
}


def styles_of(latent: Latent) -> Tensor:
    latent.check(TINY)
    return layer_styles(TINY, NETWORK.mapping, latent)


def test_equal_latents_are_equal_pixels(tmp_path: Path) -> None:
    renderer = Renderer(random_checkpoint(tmp_path), "cpu", threads=1)
    viewport = Viewport.resolve(20, 20)
    equal = EQUAL | {"the renderer's styles": Latent(w=pack_floats(renderer.styles(SEED)))}
    first, *others = renderer.render_batch([RenderSpec("m", latent, viewport) for latent in (SEED, *equal.values())])
    assert first.std() > 2
    for name, image in zip(equal, others, strict=True):
        np.testing.assert_array_equal(image, first, err_msg=name)


def test_a_mix_is_a_weighted_mean() -> None:
    found = styles_of(Latent(mix=(Weighted(SEED, 3), Weighted(OTHER, 1))))
    torch.testing.assert_close(found, 0.75 * WS + 0.25 * OTHER_WS)


def test_a_mix_is_truncated_as_a_whole() -> None:
    found = styles_of(Latent(mix=(Weighted(Latent(seed=3)), Weighted(OTHER)), psi=0.5, cutoff=2))
    mean = (PLAIN_WS + OTHER_WS) / 2
    torch.testing.assert_close(found[:, :2], (mean[:, :2] + NETWORK.mapping.w_avg) / 2)
    torch.testing.assert_close(found[:, 2:], mean[:, 2:])


def test_styles_are_truncated_on_their_own_and_later_ones_win() -> None:
    found = styles_of(Latent(seed=4, styles=(LayerStyles((0, 1), SEED), LayerStyles((1,), Latent(seed=3)))))
    expected = torch.cat([WS[:, :1], PLAIN_WS[:, 1:2], OTHER_WS[:, 2:]], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("layers", "changed"), [(None, list(range(TINY.num_ws))), ((1, 4), [1, 4])])
def test_an_edit_adds_its_direction(layers: tuple[int, ...] | None, changed: list[int]) -> None:
    difference = styles_of(Latent(seed=4, edits=(Edit(pack_floats(VECTOR), -0.5, layers),))) - OTHER_WS
    expected = torch.zeros_like(difference)
    expected[:, changed] = -0.5 * torch.from_numpy(VECTOR)
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)
