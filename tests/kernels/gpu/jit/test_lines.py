"""Lines of the GPU kernels, compared with model/generator.py."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.gpu.jit.lines import LINE_SCALE
from model.config import GeneratorConfig
from model.generator import COLUMNS, ROWS
from tests.kernels.kernel_runs import (
    NETWORKS,
    ON_GPU,
    PARTS,
    exact_lines,
    fast_if,
    latent_of,
    pack,
    relative_error,
    run_lines,
)
from tests.kernels.networks import TINY, random_network

TOLERANCE = {1: 1.5e-3, 2: 3e-6}
"""Relative error by fp16 parts. An fp16 number is off by up to 4.9e-4 of itself; a network of 2 to 6 layers makes
5e-4 of it. Two parts leave 3e-7 to 8e-7, which is fp32's."""


def bundles(lines: Tensor) -> Tensor:
    """Kernel lines [L, bundles, D, parts, 32] → the model's [bundles, 32, L, D]."""
    return lines.double().sum(dim=3).permute(1, 3, 0, 2) * (math.sqrt(0.5) / LINE_SCALE)


@pytest.mark.parametrize(("config", "parts"), NETWORKS)
def test_rows_and_columns_of_several_latents(config: GeneratorConfig, parts: int) -> None:
    """Of unlike lengths, in one launch a layer."""
    generator = random_network(config)
    network = pack(generator, parts)
    numbers = np.random.default_rng(0)
    lengths = (3000, 5000) if ON_GPU else (5, 33)
    wanted = [
        (latent_of(config, seed), numbers.uniform(-1, 2, length), axis)
        for seed, length, axis in ((1, lengths[0], ROWS), (2, lengths[1], COLUMNS))
    ]
    for lines, (latent, positions, axis) in zip(run_lines(network, wanted), wanted, strict=True):
        expected = exact_lines(generator, latent, positions, axis)
        assert relative_error(bundles(lines), expected) < TOLERANCE[parts]


@pytest.mark.parametrize("parts", [fast_if(parts == 1, parts) for parts in PARTS])
def test_clamps(parts: int) -> None:
    """Biases so large that every layer's clamp cuts."""
    generator = random_network(TINY)
    for block in generator.synthesis.blocks:
        for name, parameter in block.named_parameters():
            if name.endswith("bias") and "affine" not in name:
                parameter.mul_(4000)
    network = pack(generator, parts)
    positions = np.linspace(0, 1, 16)
    (lines,) = run_lines(network, [(latent_of(TINY, 1), positions, ROWS)])
    expected = exact_lines(generator, latent_of(TINY, 1), positions, ROWS)
    assert float(expected.abs().max()) > 256 * math.sqrt(0.5)
    assert relative_error(bundles(lines), expected) < TOLERANCE[parts]


@pytest.mark.skipif(len(PARTS) == 1, reason="fp16 lines of such neighbours are equal")
def test_neighbours_in_the_largest_image_differ() -> None:
    """A pixel of 262,144 is 4e-6 wide. Were f·u reduced in float32, neighbours would be equal or far apart."""
    generator = random_network(TINY)
    positions = 1.9 + np.arange(16) / 262_144
    (lines,) = run_lines(pack(generator, 2), [(latent_of(TINY, 1), positions, COLUMNS)])
    expected = exact_lines(generator, latent_of(TINY, 1), positions, COLUMNS)
    steps = (bundles(lines) - bundles(lines)[:, :, :1])[:, :, 1:]
    # The steps themselves are some 1e-3 of the lines, so that their tolerance is a thousand times wider.
    assert relative_error(steps, (expected - expected[:, :, :1])[:, :, 1:]) < 1000 * TOLERANCE[2]


@pytest.mark.parametrize("parts", [fast_if(parts == 1, parts) for parts in PARTS])
def test_a_position_has_the_same_lines_in_any_company(parts: int) -> None:
    network = pack(random_network(TINY), parts)
    positions = np.linspace(-0.5, 1.5, 24)
    latent, other = latent_of(TINY, 1), latent_of(TINY, 2)
    (alone,) = run_lines(network, [(latent, positions, ROWS)])
    *_, among = run_lines(
        network, [(other, positions, ROWS), (other, positions[3:], COLUMNS), (latent, positions, ROWS)]
    )
    (moved,) = run_lines(network, [(latent, positions[7:], ROWS)])
    assert torch.equal(alone, among)
    assert torch.equal(alone[7:], moved)
