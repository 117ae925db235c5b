"""Pixels of the GPU kernels, compared with model/generator.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.gpu.jit.pixels import average_colours_kernel
from kernels.gpu.launch_config import LAUNCH_CONFIGS, LaunchConfig, split_phases
from kernels.gpu.pixel_tasks import share_programs
from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.latents.latent import Latent
from service.models.catalog import DEMO
from tests.kernels.kernel_runs import (
    DEVICE,
    NETWORKS,
    ON_GPU,
    PARTS,
    Positions,
    exact_colours,
    fast_if,
    latent_of,
    narrow,
    pack,
    relative_error,
    run_pixels,
)
from tests.kernels.networks import TINY, WIDE, contrasty, random_network

TOLERANCE = {1: 1e-2, 2: 2e-5}
"""Relative error by fp16 parts. Random networks, whose conditioning varies, make 5e-4 to 8e-3 and 7e-7 to 5e-6."""


def spread(height: int, width: int) -> tuple[Positions, Positions]:
    scale = 10 if ON_GPU else 1
    return np.linspace(0.03, 0.9, height * scale), np.linspace(-0.1, 1.1, width * scale)


@pytest.mark.parametrize(("config", "parts"), [kind for kind in NETWORKS if not str(kind.id).startswith(WIDE)])
def test_every_kind_of_network(config: GeneratorConfig, parts: int) -> None:
    generator = random_network(config)
    latent, (rows, columns) = latent_of(config, 3), spread(9, 17)
    (found,) = run_pixels(pack(generator, parts), [(latent, rows, columns)])
    assert relative_error(found, exact_colours(generator, latent, rows, columns)) < TOLERANCE[parts]


@pytest.mark.parametrize("parts", [fast_if(parts == 1, parts) for parts in PARTS])
def test_trained_weights(parts: int) -> None:
    """The demo network's, where an eye is."""
    generator = Checkpoint.open(DEMO).load()
    rows, columns = np.linspace(0.35, 0.5, 160 if ON_GPU else 8), np.linspace(0.25, 0.45, 320 if ON_GPU else 16)
    latent = Latent(seed=7, psi=0.7)
    (found,) = run_pixels(pack(generator, parts), [(latent, rows, columns)])
    expected = exact_colours(generator, latent, rows, columns)
    assert float(expected.std()) > 0.1
    assert relative_error(found, expected) < TOLERANCE[parts]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("blocks", [fast_if(blocks == 9, blocks) for blocks in range(3, 10)])
def test_any_number_of_blocks(blocks: int, parts: int) -> None:
    config = replace(narrow(TINY, blocks), thickness=4 if blocks % 2 else 8)
    assert config.blocks == blocks
    generator = random_network(config)
    latent, (rows, columns) = latent_of(config, 1), spread(3, 16)
    (found,) = run_pixels(pack(generator, parts), [(latent, rows, columns)])
    # So narrow a network has features of some 1e-3, whose low parts are subnormal numbers.
    tolerance = TOLERANCE[parts] * (10 if parts == 2 else 1)
    assert relative_error(found, exact_colours(generator, latent, rows, columns)) < tolerance


@pytest.mark.parametrize(
    ("height", "width"),
    [fast_if(size in [(1, 1), (9, 17)], *size) for size in [(1, 1), (9, 17), (8, 16), (7, 15), (1, 40), (20, 1)]],
)
def test_ragged_edges(height: int, width: int) -> None:
    """Every pixel is written, and none outside the image."""
    generator = random_network(TINY)
    latent, rows, columns = latent_of(TINY, 1), np.linspace(0, 1, height), np.linspace(0, 1, width)
    (found,) = run_pixels(pack(generator, 1), [(latent, rows, columns)])
    assert relative_error(found, exact_colours(generator, latent, rows, columns)) < TOLERANCE[1]


@pytest.mark.parametrize("parts", [fast_if(parts == 1, parts) for parts in PARTS])
def test_several_images_in_one_launch(parts: int) -> None:
    """Of unlike sizes and styles, each as if it were alone."""
    generator = random_network(TINY)
    network = pack(generator, parts)
    wanted = [(latent_of(TINY, seed), *spread(3 + 5 * seed, 18 - 7 * seed)) for seed in range(3)]
    together = run_pixels(network, wanted)
    for image, (latent, rows, columns) in zip(together, wanted, strict=True):
        (alone,) = run_pixels(network, [(latent, rows, columns)])
        assert torch.equal(image, alone)
        assert relative_error(image, exact_colours(generator, latent, rows, columns)) < TOLERANCE[parts]


@pytest.mark.skipif(ON_GPU, reason="a GPU has one launch config")
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 86, 100])
def test_every_launch_config(capability: int) -> None:
    """The number of phases does not change the bytes. Other capabilities have the phases of 86 or 90."""
    config = narrow(TINY, 9)
    generator = random_network(config)
    latent, (rows, columns) = latent_of(config, 1), spread(5, 16)
    (found,) = run_pixels(pack(generator, 1, LAUNCH_CONFIGS[capability]), [(latent, rows, columns)])
    (expected,) = run_pixels(pack(generator, 1), [(latent, rows, columns)])
    assert torch.equal(found, expected)


def test_levels_are_truncated_like_the_originals() -> None:
    generator = contrasty(3)  # colours beyond −1 … 1
    generator.synthesis.to_rgb.bias.sub_(1.5)
    network = pack(generator, 1)
    wanted = [(latent_of(TINY, 1), *spread(8, 16))]
    (colours,), (levels,) = run_pixels(network, wanted), run_pixels(network, wanted, quantise=True)
    assert colours.min() < -1
    assert colours.max() > 1
    assert are_cut(levels, colours)


def are_cut(levels: Tensor, colours: Tensor) -> bool:
    """Whether levels are those of colours, cut; either of two where rounding may decide."""
    exact = (colours.double() * 127.5 + 128).clamp(0, 255)
    return bool(((levels == (exact - 1e-4).floor()) | (levels == (exact + 1e-4).floor())).all())


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_nan_becomes_black() -> None:
    generator = random_network(TINY)
    for decoder in generator.synthesis.decoders:
        for parameter in decoder.parameters():
            parameter.mul_(1e4)
    (levels,) = run_pixels(pack(generator, 1), [(Latent(seed=1), *spread(4, 4))], quantise=True)
    assert not levels.any()


@pytest.mark.parametrize(("down", "across"), [(2, 1), (3, 5)])
def test_averages(down: int, across: int) -> None:
    """Only the given columns of a wider image are written."""
    height, width, stride, left = 2, 70, 90, 6
    colours = torch.randn(height * down, width * across, 3, device=DEVICE)
    output = torch.full((height, stride, 3), 77, dtype=torch.uint8, device=DEVICE)
    average_colours_kernel[(height, 2)](
        colours, output.view(-1)[left * 3 :], width, width * across, stride, across, down, BLOCK=64, QUANTISE=True
    )
    mean = colours.double().reshape(height, down, width, across, 3).mean(dim=(1, 3))
    assert are_cut(output[:, left : left + width], mean)
    assert bool((output[:, :left] == 77).all())
    assert bool((output[:, left + width :] == 77).all())


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("config", [LaunchConfig(128, 64, *counts) for counts in ((4, 3), (2, 0), (1, 0))])
def test_phases_run_every_decoder_once_and_in_order(config: LaunchConfig, parts: int) -> None:
    for decoders in range(11):
        phases = split_phases(decoders, config, parts)
        assert [k for phase in phases for k in range(phase.first, phase.last)] == list(range(decoders))
        assert [phase.start for phase in phases] == [True] + [False] * (len(phases) - 1)
        assert [phase.head for phase in phases] == [False] * (len(phases) - 1) + [True]
        for phase in phases:
            assert phase.last - phase.first <= (config.head_decoders if phase.head else config.decoders)
        assert len(phases) > 1 or parts == 1


@settings(max_examples=30)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=200), st.integers(1, 150))
def test_programs_share_the_tiles_of_all_tasks(tiles: list[int], multiprocessors: int) -> None:
    programs = share_programs(tiles, multiprocessors)
    drawn = sorted((task, tile) for task, first, step in programs for tile in range(first, tiles[task], step))
    assert drawn == [(task, tile) for task, count in enumerate(tiles) for tile in range(count)]
    assert len(programs) <= max(multiprocessors, len(tiles))
    if len(tiles) <= multiprocessors:
        # One tile fewer for each program, and there would be too few programs.
        most = max(len(range(first, tiles[task], step)) for task, first, step in programs)
        assert most == 1 or sum(-(-count // (most - 1)) for count in tiles) > multiprocessors
