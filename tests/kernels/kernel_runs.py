"""Runs the GPU kernels: on a GPU if there is one, else interpreted on the CPU."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from numpy.typing import NDArray
from torch import Tensor

from kernels.gpu.launch_config import LAUNCH_CONFIGS, LaunchConfig, get_launch_configs
from kernels.gpu.line_inputs import LatentInput, LineInputs, PageInput, pack_line_inputs
from kernels.gpu.model import PackedModel
from kernels.gpu.pixel_tasks import PixelTasks
from kernels.gpu.upload import Upload
from model.config import RGB, GeneratorConfig
from model.generator import COLUMNS, ROWS, Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles
from tests.kernels.networks import VARIANTS

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")

DEVICE_CONFIGS = get_launch_configs(*torch.cuda.get_device_capability()) if ON_GPU else LAUNCH_CONFIGS[90]

PARTS = range(1, len(DEVICE_CONFIGS) + 1)


def fast_if(condition: bool, *values: object, id: str | None = None) -> ParameterSet:  # noqa: A002 - pytest's name
    """Parameters of a test, which is slow unless the condition holds."""
    return pytest.param(*values, id=id, marks=[] if condition else pytest.mark.slow)


FAST_NETWORKS = "plain", "thickness 5", "last fusion, no decoders", "conditional"

NETWORKS = [
    fast_if(name == "plain" or (parts == 1 and name in FAST_NETWORKS), config, parts, id=f"{name}-{parts}")
    for name, config in VARIANTS.items()
    for parts in PARTS
]
"""Every kind of network in both precisions."""

Positions = NDArray[np.float64]


class PoisonedModel(PackedModel):
    """Features that no phase has written are NaN."""

    def allocate_workspace(self, tiles: int) -> Tensor:
        return super().allocate_workspace(tiles).fill_(torch.nan)


def pack(generator: Generator, parts: int, configs: Sequence[LaunchConfig] = DEVICE_CONFIGS) -> PackedModel:
    return PoisonedModel(generator.to(DEVICE), configs[parts - 1], parts)


def latent_of(config: GeneratorConfig, seed: int) -> Latent:
    return Latent(seed=seed, class_index=seed % config.classes if config.classes else None)


def exact_lines(generator: Generator, latent: Latent, positions: Positions, axis: int) -> Tensor:
    """The model's line bundles [bundles, 32, L, D] in fp64."""
    ws = layer_styles(generator.config, generator.mapping, latent).double()
    synthesis = copy.deepcopy(generator.synthesis).double()
    return synthesis.lines(ws, torch.from_numpy(positions).to(DEVICE), axis)[0]


def exact_colours(generator: Generator, latent: Latent, rows: Positions, columns: Positions) -> Tensor:
    """The model's colours [H, W, 3] in fp64."""
    ws = layer_styles(generator.config, generator.mapping, latent).double()
    lines = exact_lines(generator, latent, rows, ROWS), exact_lines(generator, latent, columns, COLUMNS)
    synthesis = copy.deepcopy(generator.synthesis).double()
    return synthesis.pixels(ws, lines[0][None], lines[1][None])[0].permute(1, 2, 0)


Wanted = tuple[Latent, Positions, int]


def run_lines(network: PackedModel, wanted: Sequence[Wanted]) -> list[Tensor]:
    """Pages of lines, computed together, in memory that was NaN before."""
    return _run_lines(network, wanted)[0]


def _run_lines(network: PackedModel, wanted: Sequence[Wanted]) -> tuple[list[Tensor], list[Tensor]]:
    """Pages of lines, and the refinement weights of each one's latent."""
    unit, config = network.positions_per_tile, network.config
    pages, latents, inputs, size = [], [], [], 0
    for i, (latent, own, axis) in enumerate(wanted):
        padded = -(-len(own) // unit) * unit
        size += padded
        pages.append(torch.full((padded, *network.line_shape), torch.nan, dtype=torch.float16, device=DEVICE))
        latents.append((latent, network.allocate_refinement()))
        inputs.append(PageInput(i, axis, own, pages[-1].data_ptr()))
    addresses = [LatentInput(latent, weights.data_ptr()) for latent, weights in latents]
    block = torch.from_numpy(pack_line_inputs(config, addresses, inputs, size)).to(DEVICE)
    network.compute_lines(LineInputs.view(block, len(wanted), size, config.thickness))
    lines = [page[: len(own)] for page, (_, own, _) in zip(pages, wanted, strict=True)]
    return lines, [weights for _, weights in latents]


def run_pixels(
    network: PackedModel, wanted: Sequence[tuple[Latent, Positions, Positions]], *, quantise: bool = False
) -> list[Tensor]:
    """Colours [H, W, 3] of several images in one launch, in memory that was NaN, or 77, before."""
    rows, refinements = _run_lines(network, [(latent, rows, ROWS) for latent, rows, _ in wanted])
    columns = run_lines(network, [(latent, columns, COLUMNS) for latent, _, columns in wanted])
    tasks, upload, outputs = PixelTasks(network), Upload(DEVICE), []
    for i in range(len(wanted)):
        shape = len(rows[i]), len(columns[i])
        kind = {"fill_value": 77, "dtype": torch.uint8} if quantise else {"fill_value": torch.nan}
        outputs.append(torch.full((*shape, RGB), device=DEVICE, **kind))
        tasks.add((rows[i], 0), (columns[i], 0), refinements[i], (outputs[-1].data_ptr(), shape[1]), shape)
    tasks.prepare(upload)
    upload.start()
    tasks.launch(upload, quantise=quantise)
    return outputs


def relative_error(found: Tensor, expected: Tensor) -> float:
    """‖a − b‖ / ‖b‖; NaN if anything is NaN."""
    assert found.shape == expected.shape
    return float(torch.linalg.vector_norm(found.double() - expected) / torch.linalg.vector_norm(expected))


def narrow(config: GeneratorConfig, blocks: int) -> GeneratorConfig:
    """A network of K blocks of minimal width."""
    resolution = 2 ** (blocks + 1)
    return replace(config, resolution=resolution, channel_base=16 * resolution, channel_max=16)
