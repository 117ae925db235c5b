"""Runs the GPU kernels on a network: on a GPU where there is one, else interpreted on the CPU."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import layer_styles, upload
from kernels.lines import TILE
from kernels.network import GpuNetwork
from kernels.plans import PLANS, LaunchPlan, find_plan
from kernels.tasks import Scratch, Tasks
from model.config import RGB, GeneratorConfig
from model.generator import COLUMNS, ROWS, Generator
from model.spec import Latent

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")

PLAN = find_plan(*torch.cuda.get_device_capability()) if ON_GPU else PLANS[90]

PARTS = [1, 2] if PLAN.of(2) else [1]

Positions = NDArray[np.float64]


def make_network(generator: Generator, parts: int, plan: LaunchPlan = PLAN) -> GpuNetwork:
    return GpuNetwork(generator.to(DEVICE), plan, parts)


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


def run_lines(network: GpuNetwork, wanted: Sequence[tuple[Latent, Positions, int]]) -> list[Tensor]:
    """Pages of lines, made in one go, in memory that was not a number before."""
    unit = network.positions_per_tile
    vectors = torch.stack([network.style(latent).vector for latent, _, _ in wanted])
    positions, axes, tiles, pages = [], [], [], []
    for i, (_, own, axis) in enumerate(wanted):
        size = -(-len(own) // unit) * unit
        page = torch.full((size, *network.line_shape), torch.nan, dtype=torch.float16, device=DEVICE)
        positions.append(np.pad(own, (0, size - len(own)), mode="edge"))
        axes.append(np.full(size, axis, np.int32))
        tiles += [(i, page.data_ptr(), row) for row in range(0, size * network.config.thickness, TILE)]
        pages.append(page)
    network.draw_lines(
        vectors,
        upload(np.concatenate(positions), DEVICE),
        upload(np.concatenate(axes), DEVICE),
        upload(np.array(tiles, np.int64), DEVICE),
    )
    return [page[: len(own)] for page, (_, own, _) in zip(pages, wanted, strict=True)]


def run_pixels(
    network: GpuNetwork, wanted: Sequence[tuple[Latent, Positions, Positions]], *, quantise: bool = False
) -> list[Tensor]:
    """Colours [H, W, 3] of several pictures in one launch, in memory that was not a number, or 77, before."""
    lines = run_lines(network, [(latent, rows, ROWS) for latent, rows, _ in wanted])
    lines += run_lines(network, [(latent, columns, COLUMNS) for latent, _, columns in wanted])
    tasks, outputs, styles = Tasks(network), [], []
    for i, (latent, rows, columns) in enumerate(wanted):
        shape = len(rows), len(columns)
        kind = {"fill_value": 77, "dtype": torch.uint8} if quantise else {"fill_value": torch.nan}
        outputs.append(torch.full((*shape, RGB), device=DEVICE, **kind))
        styles.append(network.style(latent))
        output = outputs[-1].data_ptr(), len(columns)
        tasks.add((lines[i], 0), (lines[len(wanted) + i], 0), styles[-1], output, shape)
    tasks.draw(PoisonedScratch(network), quantise=quantise)
    return outputs


class PoisonedScratch(Scratch):
    """Features that no phase has written are not numbers."""

    def of(self, tiles: int) -> Tensor:
        return super().of(tiles).fill_(torch.nan)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """‖a − b‖ / ‖b‖; not a number where anything is not."""
    assert found.shape == expected.shape
    return float(torch.linalg.vector_norm(found.double() - expected) / torch.linalg.vector_norm(expected))


def narrow(config: GeneratorConfig, blocks: int) -> GeneratorConfig:
    """A network of K blocks that are no wider than they must be."""
    resolution = 2 ** (blocks + 1)
    return replace(config, resolution=resolution, channel_base=16 * resolution, channel_max=16)
