"""The native kernels compute what the network says in fp64, on every kind of CPU that this one can stand in for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.accuracy import make_probes, measure
from kernels.block_warp import Lattice
from kernels.native.backend import NativeBackend
from kernels.native.compiler import compile_library, find_compiler
from kernels.native.library import Library, load_library, supported_targets
from kernels.native.targets import TARGETS, TILES
from kernels.reference import ReferenceBackend
from model.config import GeneratorConfig
from model.generator import COLUMNS, ROWS, Generator
from model.latents.latent import Latent, pack_floats
from model.latents.styles import layer_styles
from model.official.generator import convert_state_dict
from tests import golden_files
from tests.golden_files import Case
from tests.kernels.native.available import NEEDS_COMPILER
from tests.kernels.networks import TINY, VARIANTS, random_network

pytestmark = NEEDS_COMPILER

MIN_PSNR = 100.0

Positions = NDArray[np.float64]


MODEL = "amx, by a model"
"""The AMX kernels with a model of the tile instructions in place of them (tile_model.h)."""

MODEL_FLAGS = "-DCREPS_TILE_MODEL", f"-I{Path(__file__).parent}"

# In one process of the test run, which compiles the model once: that takes half a minute.
_MARKS = [pytest.mark.slow, pytest.mark.xdist_group("tile model")]
_MODEL = [pytest.param(MODEL, marks=_MARKS)] if "avx512" in supported_targets() else []

TARGETS_HERE = [*supported_targets(), *_MODEL]


@pytest.fixture(scope="module", params=TARGETS_HERE)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    if request.param != MODEL:
        return load_library(request.param)
    path = tmp_path_factory.mktemp("model") / "amx.so"
    target = replace(TARGETS["avx512"], sources=TILES)
    compile_library(find_compiler(), target, path, MODEL_FLAGS)
    return Library(str(path), "amx")


def draw(library: Library, generator: Generator, latent: Latent, rows: Positions, columns: Positions) -> Tensor:
    backend = NativeBackend(generator, library, threads=1)
    try:
        return backend.colours(latent, rows, columns)
    finally:
        backend.close()


def draw_reference(generator: Generator, latent: Latent, rows: Positions, columns: Positions) -> Tensor:
    """Colours [H, W, 3] of model.generator in fp32."""
    ws = layer_styles(generator.config, generator.mapping, latent)
    positions = torch.from_numpy(rows), torch.from_numpy(columns)
    image: Tensor = generator.synthesis(ws, *positions)
    return image[0].permute(1, 2, 0)


NETWORKS: dict[str, Callable[[], Generator]] = {
    **{name: lambda config=config: random_network(config) for name, config in VARIANTS.items()},  # type: ignore[misc]
    **{f"{k} blocks": lambda k=k: random_network(blocks(k)) for k in range(3, 10)},  # type: ignore[misc]
    "thickness 4": lambda: random_network(replace(TINY, thickness=4)),
    "odd widths": lambda: random_network(GeneratorConfig(16, 16, 24, 0, 2, channel_base=600, channel_max=70)),
    **{name: lambda name=name: golden_network(name) for name in golden_files.NETWORKS},  # type: ignore[misc]
}


def blocks(count: int) -> GeneratorConfig:
    """A network of K blocks."""
    resolution = 2 ** (count + 1)
    return replace(TINY, resolution=resolution, channel_base=16 * resolution)


def golden_network(name: str) -> Generator:
    config, state = convert_state_dict(golden_files.load(name).state)
    generator = Generator(config)
    generator.load_state_dict(state)
    return generator.eval().requires_grad_(False)


@pytest.mark.parametrize("network", NETWORKS)
def test_accuracy(network: str, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    if network != "plain":
        monkeypatch.setattr("kernels.accuracy.LATENTS", 1)  # fp64 takes most of the time
    generator = NETWORKS[network]()
    backend = NativeBackend(generator, library, threads=1)
    report = measure(library.precision, backend.colours, make_probes(generator))
    assert report.levels <= 1, str(report)
    assert report.psnr >= MIN_PSNR, str(report)


@pytest.mark.parametrize(
    ("network", "case"), golden_files.all_cases(), ids=[case.name for _, case in golden_files.all_cases()]
)
def test_golden_files(network: str, case: Case, library: Library) -> None:
    """Images of the original implementation, also of styles that are 400 times as large as any."""
    generator = golden_network(network)
    rows, columns = (positions.numpy() for positions in case.positions())
    for ws, expected in zip(case.styles(generator), case.image, strict=True):
        found = draw(library, generator, Latent(w=pack_floats(ws.flatten().numpy())), rows, columns).permute(2, 0, 1)
        assert float((found - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize(
    "name", ["input.weight", "blocks.1.fc1.bias", "blocks.2.fc0.weight", "decoders.1.layers.2.weight", "to_rgb.bias"]
)
def test_one_weight_that_is_not_a_number(name: str, library: Library) -> None:
    """It reaches the same pixels as in the network, whatever its bits."""
    generator = random_network(TINY)
    weight = generator.synthesis.get_parameter(name)
    weight.view(torch.int32)[0] = 0x7FFFFFFF
    positions = np.linspace(0, 1, 40)
    found = draw(library, generator, Latent(seed=0), positions, positions)
    expected = draw_reference(generator, Latent(seed=0), positions, positions)
    assert torch.equal(found.isnan(), expected.isnan())
    assert expected.isnan().any()


def test_a_pixel_does_not_depend_on_its_place(library: Library) -> None:
    backend = NativeBackend(random_network(TINY), library, threads=1)
    rows, columns = np.linspace(0, 1, 37), np.linspace(-0.3, 1.2, 53)
    whole = backend.colours(Latent(seed=3), rows, columns)
    numbers = np.random.default_rng(0)
    for _ in range(20):
        (y0, y1), (x0, x1) = (sorted(numbers.choice(n + 1, 2, replace=False)) for n in (37, 53))
        assert torch.equal(backend.colours(Latent(seed=3), rows[y0:y1], columns[x0:x1]), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("network", ["plain", "thickness 5", "last fusion, no decoders"])
def test_samples_between_lines(network: str, library: Library) -> None:
    """As torch computes them; and a sample does not depend on its place."""
    generator = NETWORKS[network]()
    backend = NativeBackend(generator, library, threads=1)
    style, numbers = backend.style(Latent(seed=1)), np.random.default_rng(0)
    lattices = []
    for axis in (ROWS, COLUMNS):
        lines = backend.block_lines(style, np.linspace(0, 1, 64), axis).permute(0, 2, 3, 1).contiguous()
        pages = [lines, lines.flip(1).contiguous()]
        first = numbers.integers(0, 125, 256, dtype=np.int32)
        lattices.append(Lattice(pages, first, numbers.random(256, np.float32)))
    found = backend.warp_colours(style, *lattices)
    assert found.shape == (256, 3)
    expected = ReferenceBackend(generator, torch.device("cpu"), threads=1).warp_colours(
        layer_styles(generator.config, generator.mapping, Latent(seed=1)), *lattices
    )
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    last = [each.take(np.arange(96, 112)) for each in lattices]
    assert torch.equal(backend.warp_colours(style, *last), found[96:112])


def test_lines_of_both_axes(library: Library) -> None:
    generator = random_network(TINY)
    backend, latent = NativeBackend(generator, library, threads=1), Latent(seed=1)
    positions = np.linspace(-0.2, 1.1, 41)
    ws = layer_styles(generator.config, generator.mapping, latent)
    for axis in (ROWS, COLUMNS):
        found = backend.block_lines(backend.style(latent), positions, axis)
        expected = generator.synthesis.lines(ws, torch.from_numpy(positions), axis)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_loud_networks(library: Library) -> None:
    """Biases so large that every clamp cuts."""
    generator = random_network(TINY)
    for name, parameter in generator.synthesis.named_parameters():
        if name.endswith("bias") and "affine" not in name:
            parameter.mul_(2000)
    positions = np.linspace(0, 1, 40)
    found = draw(library, generator, Latent(seed=1), positions, positions)
    expected = draw_reference(generator, Latent(seed=1), positions, positions)
    assert float(expected.abs().max()) > 250
    assert float((found - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.skipif(len(supported_targets()) < 2, reason="this CPU has one kind of vectors")
def test_all_vector_units_give_the_same_bytes() -> None:
    generator = random_network(TINY)
    positions = np.linspace(0, 1, 40)
    fused = [name for name in supported_targets() if name not in ("amx", "generic")]  # SSE2 rounds products, too
    images = [draw(load_library(name), generator, Latent(seed=1), positions, positions) for name in fused]
    assert all(torch.equal(image, images[0]) for image in images)
