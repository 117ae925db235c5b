"""Drawing block by block: the threads of a pool share a picture's blocks, and a backend draws each."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import Backend
from kernels.cache import LineCache
from kernels.drawer import Band, Output, Panel, Progress, group_panels
from kernels.threads import TaskGroup, default_threads, single_operation_pool
from kernels.tiles import BLOCKS_PER_THREAD, Axis, Tiling
from model.config import FEATURES, RGB, GeneratorConfig
from model.errors import InputError
from model.spec import Latent
from model.viewport import Viewport

LINE_CACHE_BYTES = 256 * 2**20
"""Half of it suffices for the columns of a picture 18,724 pixels wide of the paper's 512 model."""

STYLES_KEPT = 32
"""Latents whose styles are kept: about a megabyte each for the paper's models."""


class BlockDrawer:
    """Cuts bands into blocks of fixed shape and place, so that a pixel's bytes do not depend on what is drawn.

    Args:
        backend: draws the blocks.
        config: the network's.
        device: where the backend computes.
        threads: blocks drawn at once on a CPU; None takes the cores that torch would use.
    """

    def __init__(
        self, backend: Backend[Any], config: GeneratorConfig, device: torch.device, threads: int | None = None
    ) -> None:
        self.name = backend.name
        self.cache_bytes = LINE_CACHE_BYTES
        self._backend = backend
        self._config = config
        self._device = device
        self._threads = (threads or default_threads()) if device.type == "cpu" else 1
        self._pool = single_operation_pool(self._threads)
        self._cache = LineCache(LINE_CACHE_BYTES)
        self._style = functools.lru_cache(STYLES_KEPT)(backend.style)
        # Positions along either axis whose lines fill half the cache.
        self._line_limit = LINE_CACHE_BYTES // 2 // (4 * config.bundles * FEATURES * config.thickness)

    def close(self) -> None:
        """Ends its threads, which hold what they drew with last."""
        self._pool.shutdown()

    def plan(self, viewport: Viewport) -> Tiling:
        side = self._backend.side
        return Tiling.plan(viewport, self._config.resolution, side, self._line_limit, self._threads)

    def allocate(self, height: int, width: int) -> Output:
        return np.empty((height, width, RGB), np.uint8)

    def draw(self, bands: Iterable[Band], progress: Progress | None) -> Iterator[Band]:
        """Draws panels in groups that keep all threads busy, and whose lines are no more than the cache holds."""
        for panels, complete in group_panels(bands, BLOCKS_PER_THREAD * self._threads, 2 * self._line_limit):
            self._draw_group(panels, progress)
            yield from complete

    def warp(self, latent: Latent, coordinates: NDArray[np.float64]) -> Output:
        """Raises InputError: blocks are whole rows and columns."""
        raise InputError("backend", f"{self.name} draws whole rows and columns only; triton draws at any coordinates")

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        side = self._backend.side
        padded = np.pad(positions, (0, -len(positions) % side), mode="edge")
        style = self._pool.submit(self._style, latent)
        chunks = [self._pool.submit(self._lines, latent, style, chunk, axis) for chunk in padded.reshape(-1, side)]
        return torch.cat([chunk.result() for chunk in chunks], dim=2)[:, :, : len(positions)]

    def _draw_group(self, panels: Sequence[Panel], progress: Progress | None) -> None:
        """Submits styles, then lines, then tiles: in this order they are begun, so a task waits only for begun ones."""
        with TaskGroup(self._pool) as tasks:
            latents = dict.fromkeys(panel.band.latent for panel in panels)
            styles = {latent: tasks.submit(0, self._style, latent) for latent in latents}
            requested = []
            for panel in panels:
                latent, tiling = panel.band.latent, panel.band.tiling
                style = styles[latent]
                rows = {row: self._request_lines(tasks, tiling.rows, row, latent, style) for row in panel.band.rows}
                columns = {
                    column: self._request_lines(tasks, tiling.columns, column, latent, style)
                    for column in panel.columns
                }
                requested.append((panel.band, style, rows, columns))
            for band, style, rows, columns in requested:
                block_cost = band.tiling.rows.block * band.tiling.columns.block * self._config.pixel_macs
                for row, column in itertools.product(rows, columns):
                    cost = len(rows[row]) * len(columns[column]) * block_cost
                    tasks.submit(cost, self._draw_tile, band, style, (row, column), rows[row], columns[column])
            for cost in tasks.completed():
                if progress is not None:
                    progress(cost)

    def _request_lines(
        self, tasks: TaskGroup, axis: Axis, tile: int, latent: Latent, style: Future[Any]
    ) -> list[Future[Tensor]]:
        """The lines of each block along a tile's axis."""
        cost = axis.block * self._config.line_macs
        blocks = (axis.positions(tile, part) for part in range(axis.parts))
        return [tasks.submit(cost, self._lines, latent, style, positions, axis.axis) for positions in blocks]

    def _lines(self, latent: Latent, style: Future[Any], positions: NDArray[np.float64], axis: int) -> Tensor:
        key = (latent, axis, positions.tobytes())
        lines = self._cache.get(key)
        if lines is None:
            lines = self._backend.lines(style.result(), positions, axis)
            self._cache.put(key, lines)
        return lines

    def _draw_tile(
        self,
        band: Band,
        style: Future[Any],
        tile: tuple[int, int],
        rows: list[Future[Tensor]],
        columns: list[Future[Tensor]],
    ) -> None:
        """Draws the tile (row, column) into its place in the band's output."""
        pixels = _quantise(self._average(band.tiling, style.result(), rows, columns))
        (y, tile_y), (x, tile_x) = band.tiling.rows.place(tile[0]), band.tiling.columns.place(tile[1])
        top = band.tiling.rows.visible(band.rows)[0]
        band.output[y.start - top : y.stop - top, x] = pixels[tile_y, tile_x]

    def _average(self, tiling: Tiling, style: Any, rows: list[Future[Tensor]], columns: list[Future[Tensor]]) -> Tensor:
        """Colours [H, W, 3] of a tile, each the mean of the network's colours at the pixel's positions."""
        y, x = tiling.rows, tiling.columns
        if y.factor == x.factor == 1:
            return self._backend.pixels(style, rows[0].result(), columns[0].result())
        total = torch.zeros(y.tile, x.tile, RGB, dtype=torch.float64, device=self._device)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                block = self._backend.pixels(style, row.result(), column.result())[: y.used(i), : x.used(j)]
                boxes = block.reshape(y.tile, -1, x.tile, block.shape[1] // x.tile, RGB)  # [H, m_y, W, m_x, 3]
                total += boxes.sum(dim=(1, 3), dtype=torch.float64)
        return total / (y.factor * x.factor)


def _quantise(colours: Tensor) -> NDArray[np.uint8]:
    """Colours −1 … 1 → 0 … 255 as the original tools do: truncated, not rounded."""
    levels = colours.mul(127.5).add(128).nan_to_num(nan=0.0).clamp(0, 255)
    return levels.to(torch.uint8).cpu().numpy()
