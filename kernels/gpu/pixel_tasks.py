"""Tasks for the pixel kernels: rectangles of pixels, collected and then drawn in as few launches as is good."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import upload
from kernels.network import GpuNetwork, Style
from kernels.pixels import TASK_FIELDS

LAUNCH_PIXELS = 1 << 19
"""Pixels of one launch: their features, 64 bytes each in fp16, stay in the L2 cache from one phase to the next."""


class Scratch:
    """Room for features between two phases, used by one launch after the other on one stream."""

    def __init__(self, network: GpuNetwork) -> None:
        self._network = network
        self._features: Tensor | None = None

    def of(self, tiles: int) -> Tensor:
        """Room for so many tiles of pixels."""
        if self._features is None or len(self._features) < tiles:
            self._features = self._network.scratch(tiles)
        return self._features

    def clear(self) -> None:
        """Gives it up."""
        self._features = None


class Tasks:
    """Rectangles of pixels of one network. Whoever adds one keeps what it names until :meth:`draw` has returned."""

    def __init__(self, network: GpuNetwork) -> None:
        self._network = network
        self._rows: list[tuple[int, ...]] = []
        self._tiles: list[int] = []

    def add(
        self,
        rows: tuple[Tensor, int],
        columns: tuple[Tensor, int],
        style: Style,
        output: tuple[int, int],
        shape: tuple[int, int] | Tensor,
    ) -> None:
        """One rectangle.

        Args:
            rows, columns: lines [L, bundles, D, parts, 32], and the first of them that is used.
            style: of the refinement.
            output: address of the first pixel, and pixels from one row to the next.
            shape: height and width of a rectangle of whole rows and columns; or, to gather them, fp32 coordinates
                [height, width, 2], counted in lines.
        """
        (row_lines, row), (column_lines, column), size = rows, columns, self._network.line_bytes
        addresses = row_lines.data_ptr() + row * size, column_lines.data_ptr() + column * size
        gathered = (0, 0, 0)
        if isinstance(shape, Tensor):
            gathered = shape.data_ptr(), len(row_lines), len(column_lines)
            shape = shape.shape[0], shape.shape[1]
        self._rows.append((*addresses, style.refinement.data_ptr(), *output, *shape, 0, *gathered, 0))
        tile_width, tile_height = self._network.pixel_tile
        self._tiles.append(-(-shape[0] // tile_height) * -(-shape[1] // tile_width))

    def draw(self, scratch: Scratch, *, quantise: bool, gather: bool = False) -> None:
        """Begins to draw all of them, as uint8 or as fp32 colours."""
        if not self._rows:
            return
        width, height = self._network.pixel_tile
        table = np.array(self._rows, np.int64).reshape(-1, TASK_FIELDS)
        edges, tiles_before = [0], 0
        for i, tiles in enumerate(self._tiles):
            if i > edges[-1] and (tiles_before + tiles) * width * height > LAUNCH_PIXELS:
                edges.append(i)
                tiles_before = 0
            table[i, 7] = tiles_before
            tiles_before += tiles
        uploaded = upload(table, self._network.device)
        for start, stop in itertools.pairwise([*edges, len(table)]):
            launched = self._tiles[start:stop]
            programs = upload(share_programs(launched, self._network.programs), self._network.device)
            features = scratch.of(sum(launched))
            self._network.draw_pixels(uploaded[start:stop], programs, features, quantise=quantise, gather=gather)


def share_programs(tiles: Sequence[int], limit: int) -> NDArray[np.int32]:
    """Programs for tasks of so many tiles each: int32 [programs, PROGRAM_FIELDS].

    There are no more of them than the GPU has room for, ``limit``, unless there are more tasks, and each draws tiles of
    one task. The most that any draws is as few as can be.
    """
    low, high = 1, max(tiles)
    while low < high:
        middle = (low + high) // 2
        if sum(-(-count // middle) for count in tiles) <= limit:
            high = middle
        else:
            low = middle + 1
    shares = (-(-count // high) for count in tiles)
    return np.array([(task, i, share) for task, share in enumerate(shares) for i in range(share)], np.int32)
