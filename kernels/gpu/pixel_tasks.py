"""Tasks of the pixel kernel: rectangles of pixels, collected and then rendered in as few launches as possible."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kernels.gpu.jit.pixels import TASK_FIELDS
from kernels.gpu.model import PackedModel
from kernels.gpu.upload import Upload

LAUNCH_PIXELS = 1 << 19
"""Pixels per launch. Their features, 64 bytes each in fp16, stay in the L2 cache from one phase to the next."""


class Between(NamedTuple):
    """Where pixels lie between lines, vertically and horizontally.

    Attributes:
        first: the first of four lines, int32 [height, width, 2].
        fraction: the place between the second line and the third, fp32 [height, width, 2].
    """

    first: Tensor
    fraction: Tensor


class PixelTasks:
    """Rectangles of pixels of one model. The caller keeps their tensors alive until :meth:`launch` has returned.

    Call :meth:`add` for each, then :meth:`prepare`, start the upload, then :meth:`launch`.
    """

    def __init__(self, model: PackedModel) -> None:
        self._model = model
        self._tasks: list[tuple[int, ...]] = []
        self._tiles: list[int] = []
        self._launches: list[tuple[int, int, int]] = []

    def add(
        self,
        rows: tuple[Tensor, int],
        columns: tuple[Tensor, int],
        refinement: Tensor,
        output: tuple[int, int],
        places: tuple[int, int] | Between,
    ) -> None:
        """Add one rectangle.

        Args:
            rows, columns: lines [L, bundles, D, parts, 32], and the index of the first line.
            refinement: its modulated weights, fp16 [parts, REFINEMENT_SIZE].
            output: address of the first pixel, and row stride in pixels.
            places: height and width for whole rows and columns; or each pixel's place between lines.
        """
        (row_lines, row), (column_lines, column), size = rows, columns, self._model.line_bytes
        addresses = row_lines.data_ptr() + row * size, column_lines.data_ptr() + column * size
        between = (0, 0)
        if isinstance(places, Between):
            between = places.first.data_ptr(), places.fraction.data_ptr()
            places = places.first.shape[0], places.first.shape[1]
        self._tasks.append((*addresses, refinement.data_ptr(), *output, *places, 0, *between))
        tile_width, tile_height = self._model.pixel_tile
        self._tiles.append(-(-places[0] // tile_height) * -(-places[1] // tile_width))

    def prepare(self, upload: Upload) -> None:
        """Divide the tasks into launches and add their tables to an upload."""
        if not self._tasks:
            return
        width, height = self._model.pixel_tile
        table = np.array(self._tasks, np.int64).reshape(-1, TASK_FIELDS)
        edges, tiles_before = [0], 0
        for i, count in enumerate(self._tiles):
            if i > edges[-1] and (tiles_before + count) * width * height > LAUNCH_PIXELS:
                edges.append(i)
                tiles_before = 0
            table[i, 7] = tiles_before
            tiles_before += count
        for start, stop in itertools.pairwise([*edges, len(table)]):
            tiles = self._tiles[start:stop]
            programs = share_programs(tiles, self._model.programs)
            self._launches.append((upload.add(table[start:stop]), upload.add(programs), sum(tiles)))

    def launch(self, upload: Upload, *, quantise: bool, warp: bool = False) -> None:
        """Queue all tasks on the current stream; options are those of :meth:`PackedModel.render_pixels`."""
        if not self._launches:
            return
        workspace = self._model.allocate_workspace(max(tiles for *_, tiles in self._launches))
        for tasks, programs, _ in self._launches:
            self._model.render_pixels(upload[tasks], upload[programs], workspace, quantise=quantise, warp=warp)


def share_programs(tiles: Sequence[int], limit: int) -> NDArray[np.int32]:
    """Distribute tasks over programs, so that the largest number of tiles of a program is as small as possible.

    Args:
        tiles: number of tiles of each task.
        limit: number of programs that fit the GPU; exceeded only if there are more tasks.

    Returns:
        int32 [programs, PROGRAM_FIELDS]. Each program renders tiles of one task.
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
