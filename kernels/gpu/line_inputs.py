"""Inputs of the styles and lines of a batch of latents, packed in one block of bytes for one copy."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.gpu.jit.lines import TILE, TILE_FIELDS
from kernels.gpu.jit.styles import LATENT_FIELDS
from kernels.gpu.upload import aligned
from model.config import GeneratorConfig
from model.latents.latent import Latent, unpack_floats


@dataclass(frozen=True)
class LineInputs:
    """Arguments of :meth:`kernels.gpu.model.PackedModel.compute_lines`, on its device.

    Attributes:
        latents: int64 [S, LATENT_FIELDS], see :data:`kernels.gpu.jit.styles.LATENT_FIELDS`.
        values: fp32, z or w of all latents.
        positions: network coordinates, fp64 [L], L a multiple of PackedModel.positions_per_tile.
        axes: int32 [L], ROWS or COLUMNS.
        tiles: int64 [L·D / TILE, TILE_FIELDS], see :data:`kernels.gpu.jit.lines.TILE_FIELDS`.
    """

    latents: Tensor
    values: Tensor
    positions: Tensor
    axes: Tensor
    tiles: Tensor

    @classmethod
    def view(cls, block: Tensor, latents: int, positions: int, thickness: int) -> "LineInputs":
        """The inputs in a block of :func:`pack_line_inputs` for S latents and L positions, which is on the device."""
        parts = [block[part] for part in _layout(latents, positions, thickness)]
        return cls(
            positions=parts[0].view(torch.float64),
            latents=parts[1].view(torch.int64).view(-1, LATENT_FIELDS),
            tiles=parts[2].view(torch.int64).view(-1, TILE_FIELDS),
            axes=parts[3].view(torch.int32),
            values=parts[4].view(torch.float32),
        )


@dataclass(frozen=True)
class LatentInput:
    """A latent, the address for its refinement's modulated weights, and that of its w+ if it is composed.

    A latent is composed if it is more than a truncated z, w or w+; see :func:`is_composed`.
    """

    latent: Latent
    refinement: int
    styles: int = 0


@dataclass(frozen=True)
class PageInput:
    """A page of lines to compute: index of its latent, its axis, fp64 positions, and address of its lines."""

    latent: int
    axis: int
    positions: NDArray[np.float64]
    address: int


def pack_line_inputs(
    config: GeneratorConfig,
    latents: Sequence[LatentInput],
    pages: Sequence[PageInput],
    size: int,
    unread: int = 0,
) -> NDArray[np.uint8]:
    """One block of bytes with the inputs of a batch.

    Args:
        pages: positions are padded to whole tiles by repeating the last one.
        size: L, at least the number of padded positions of all pages.
        unread: address of a page for the lines of the remaining positions.
    """
    values = [_values(config, latent) for latent in latents]
    places = list(itertools.accumulate((len(own) for own in values), initial=0))
    layout = _layout(len(latents), size, config.thickness)
    block = np.zeros(layout[-1].start + 4 * places[-1], np.uint8)
    positions = block[layout[0]].view(np.float64)
    tiles = block[layout[2]].view(np.int64).reshape(-1, TILE_FIELDS)
    axes = block[layout[3]].view(np.int32)
    rows = [_row(config, latent, place) for latent, place in zip(latents, places, strict=False)]
    block[layout[1]].view(np.int64)[:] = np.array(rows, np.int64).reshape(-1)
    block[layout[4]].view(np.float32)[:] = np.concatenate(values)
    start, unit = 0, positions_per_tile(config)
    for page in pages:
        stop = start + -(-len(page.positions) // unit) * unit
        positions[start:stop] = page.positions[-1]
        positions[start : start + len(page.positions)] = page.positions
        axes[start:stop] = page.axis
        own = tiles[start * config.thickness // TILE : stop * config.thickness // TILE]
        own[:, 0], own[:, 1], own[:, 2] = page.latent, page.address, np.arange(len(own)) * TILE
        start = stop
    tiles[start * config.thickness // TILE :, 1] = unread
    return block


def max_block(config: GeneratorConfig, positions: int) -> int:
    """Bytes of the largest block for one latent and at most a number of positions."""
    values = max(config.z_dim, config.num_ws * config.w_dim)
    place: int = _layout(1, positions, config.thickness)[-1].start
    return place + 4 * values


def positions_per_tile(config: GeneratorConfig) -> int:
    """Pages are padded to a multiple of this number of positions, so that they consist of whole tiles."""
    return TILE // math.gcd(TILE, config.thickness)


def _layout(latents: int, positions: int, thickness: int) -> list[slice]:
    """Where positions, latents, tiles, axes and values are in a block."""
    tiles = positions * thickness // TILE
    sizes = 8 * positions, 8 * LATENT_FIELDS * latents, 8 * TILE_FIELDS * tiles, 4 * positions
    starts = list(itertools.accumulate(map(aligned, sizes), initial=0))
    return [*(slice(start, start + size) for start, size in zip(starts, sizes, strict=False)), slice(starts[-1], None)]


def is_composed(latent: Latent) -> bool:
    """Whether model.latents.styles.layer_styles must resolve a latent."""
    return bool(latent.mix or latent.styles or latent.edits)


def _values(config: GeneratorConfig, given: LatentInput) -> NDArray[np.float32]:
    if given.styles:
        return np.empty(0, np.float32)
    latent = given.latent
    return latent.sample_z(config.z_dim)[0] if latent.w is None else unpack_floats(latent.w)


def _row(config: GeneratorConfig, given: LatentInput, place: int) -> tuple[int, ...]:
    """The fields of a latent; see LATENT_FIELDS."""
    latent = given.latent
    if given.styles:
        return place, 0, config.w_dim, given.refinement, 0, 0, given.styles
    distance = -1
    if latent.w is not None:
        distance = 0 if len(latent.w) == 4 * config.w_dim else config.w_dim
    cutoff = config.num_ws if latent.cutoff is None else latent.cutoff
    bits = int(np.float32(latent.psi).view(np.int32))
    return place, latent.class_index or 0, distance, given.refinement, 0 if latent.psi == 1 else cutoff, bits, 0
