"""Base of the backends that render block by block: the threads of a pool share the blocks of an image."""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import Progress, to_pixels
from kernels.block_warp import BlockWarp, Lattice, lattice_density
from kernels.line_cache import CACHE_BYTES, LineCache, host_cache
from kernels.threads import TaskGroup
from kernels.tiling import BLOCKS_PER_THREAD, Axis, Band, Output, Panel, Tiling, group_panels, is_deep
from model.config import FEATURES, RGB
from model.generator import COLUMNS, ROWS, Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles
from model.util.threads import default_threads, single_operation_pool
from model.viewport import Viewport

STYLES_KEPT = 32
"""Latents whose styles are cached: about a megabyte each for the paper's models."""

Style = TypeVar("Style")


class BlockBackend(ABC, Generic[Style]):
    """A :class:`kernels.backend.RenderBackend` that renders block by block.

    Subclasses compute one block; ``Style`` is what they prepare for a latent. The abstract methods may run in several
    threads at once and must return the same bytes for the same arguments.

    Attributes:
        packed_bytes: memory of weights in a layout of the backend's own, beside the generator's.
        clip: whether a pixel's bytes do not depend on its place in a block, so that blocks may end at the crop. Without
            it, all blocks have the same shape and place.

    Args:
        device: device that the subclass computes on.
        side: positions along each side of a block.
        threads: blocks rendered at once on a CPU; None uses the cores that torch would use.
    """

    name: str
    arithmetic: str
    clip = False
    packed_bytes = 0

    def __init__(self, generator: Generator, device: torch.device, side: int, threads: int | None = None) -> None:
        self._generator = generator.to(device)
        self._config = config = generator.config
        frequencies = generator.synthesis.input.frequencies
        self._density = lattice_density(math.ceil(config.resolution * config.max_scale), float(frequencies.abs().max()))
        self._device = device
        self._side = side
        self._threads = (threads or default_threads()) if device.type == "cpu" else 1
        self._pool = single_operation_pool(self._threads)
        shared = device.type == "cpu"
        self._cache = host_cache() if shared else LineCache(CACHE_BYTES)
        self._cache_owner = object()
        self.cache_bytes = 0 if shared else CACHE_BYTES
        self.cached_style = functools.lru_cache(STYLES_KEPT)(self.style)
        # Positions along either axis whose lines fill half the cache.
        self._line_limit = self._cache.limit // 2 // (4 * config.bundles * FEATURES * config.thickness)

    @abstractmethod
    def style(self, latent: Latent) -> Style:
        """Everything that depends on the latent alone."""

    @abstractmethod
    def block_lines(self, style: Style, positions: NDArray[np.float64], axis: int) -> Tensor:
        """Line bundles [bundles, 32, L, D] at network coordinates [L] along one axis (ROWS or COLUMNS)."""

    def seamless_lines(self, style: Style, positions: NDArray[np.float64], axis: int) -> Tensor:
        """Line bundles [bundles, 32, L, D] at positions of Viewport.line_coordinates, [L] or blended [3, L]."""
        if positions.ndim == 1:
            return self.block_lines(style, positions, axis)
        here, before, weights = positions
        lines = self.block_lines(style, here, axis)
        if weights.any():
            weight = torch.from_numpy(weights.astype(np.float32)).to(lines.device)[:, None]
            # Operation by operation, so that no part of an array is rounded otherwise.
            lines += (self.block_lines(style, before, axis) - lines) * weight
        return lines

    @abstractmethod
    def block_colours(self, style: Style, rows: Tensor, columns: Tensor) -> Tensor:
        """Colours [H, W, 3], about −1 … 1, of row lines [bundles, 32, H, D] and column lines [bundles, 32, W, D]."""

    @torch.no_grad()
    def colours(self, latent: Latent, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
        """Colours [H, W, 3] at network coordinates [H] and [W], before quantisation."""
        style = self.cached_style(latent)
        return self.block_colours(style, self.block_lines(style, rows, ROWS), self.block_lines(style, columns, COLUMNS))

    def cached_lines(self, key: tuple[Hashable, ...], compute: Callable[[], Tensor]) -> Tensor:
        """Lines from the cache, or computed and kept."""
        key = (self._cache_owner, *key)
        lines = self._cache.get(key)
        if lines is None:
            lines = compute()
            self._cache.put(key, lines)
        return lines

    def close(self) -> None:
        self._pool.shutdown()
        self._cache.remove(self._cache_owner)

    def plan(self, viewport: Viewport) -> Tiling:
        config, limit, threads = self._config, self._line_limit, self._threads
        return Tiling.plan(
            viewport, config.resolution, self._side, limit, threads, clip=self.clip, max_scale=config.max_scale
        )

    def allocate(self, height: int, width: int, *, deep: bool = False) -> Output:
        return np.empty((height, width, RGB), np.float32 if deep else np.uint8)

    def render(self, bands: Iterable[Band], progress: Progress | None) -> Iterator[Band]:
        for panels, complete in group_panels(bands, BLOCKS_PER_THREAD * self._threads, 2 * self._line_limit):
            self._render_group(panels, progress)
            yield from complete

    def warp(self, latent: Latent, viewport: Viewport, output: Output, progress: Progress | None) -> None:
        warp = BlockWarp(self, self._config, self._pool, self._threads, self._density, self._side)
        warp.render(latent, viewport, output, progress)

    @torch.no_grad()
    def warp_colours(self, style: Style, rows: Lattice, columns: Lattice) -> Tensor:
        """Colours [P, 3] of samples between lines of a lattice."""
        bundles = zip(_interpolate(rows, self._device), _interpolate(columns, self._device), strict=True)
        products = torch.stack([(y * x).view(len(y), -1, FEATURES).sum(dim=1) for y, x in bundles])  # [bundles, P, 32]
        # As lines of thickness 1: products are the columns of a single row of ones.
        ones = torch.ones(self._config.bundles, FEATURES, 1, 1, device=self._device)
        return self.block_colours(style, ones, products.transpose(1, 2)[..., None])[0]

    def styles(self, latent: Latent) -> Tensor:
        mapping = self._generator.mapping
        return self._pool.submit(layer_styles, self._config, mapping, latent).result()[0]  # in the threads of `style`

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        padded = np.pad(positions, (0, -len(positions) % self._side), mode="edge")
        style = self._pool.submit(self.cached_style, latent)
        blocks = [
            self._pool.submit(self._lines, latent, style, block, axis) for block in padded.reshape(-1, self._side)
        ]
        return torch.cat([block.result() for block in blocks], dim=2)[:, :, : len(positions)]

    def _render_group(self, panels: Sequence[Panel], progress: Progress | None) -> None:
        # Styles, then lines, then tiles: the pool starts tasks in this order, so a task only waits for started ones.
        with TaskGroup(self._pool) as tasks:
            latents = dict.fromkeys(panel.band.latent for panel in panels)
            styles = {latent: tasks.submit(0, self.cached_style, latent) for latent in latents}
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
                y, x = band.tiling.rows, band.tiling.columns
                for row, column in itertools.product(rows, columns):
                    positions = y.computed(range(row, row + 1)) * x.computed(range(column, column + 1))
                    cost = positions * self._config.pixel_macs
                    tasks.submit(cost, self._render_tile, band, style, (row, column), rows[row], columns[column])
            for cost in tasks.completed():
                if progress is not None:
                    progress(cost)

    def _request_lines(
        self, tasks: TaskGroup, axis: Axis, tile: int, latent: Latent, style: Future[Style]
    ) -> list[Future[Tensor]]:
        """The lines of each block along a tile's axis."""
        blocks = (axis.positions(tile, part) for part in range(axis.parts))
        return [
            tasks.submit(positions.shape[-1] * self._config.line_macs, self._lines, latent, style, positions, axis.axis)
            for positions in blocks
        ]

    def _lines(self, latent: Latent, style: Future[Style], positions: NDArray[np.float64], axis: int) -> Tensor:
        return self.cached_lines(
            (latent, axis, positions.tobytes()), lambda: self.seamless_lines(style.result(), positions, axis)
        )

    def _render_tile(
        self,
        band: Band,
        style: Future[Style],
        tile: tuple[int, int],
        rows: list[Future[Tensor]],
        columns: list[Future[Tensor]],
    ) -> None:
        """Render the tile (row, column) into its place in the band's output."""
        shape = len(band.tiling.rows.drawn(tile[0])), len(band.tiling.columns.drawn(tile[1]))
        colours = self._tile_colours(band.tiling, shape, style.result(), rows, columns)
        pixels = to_pixels(colours, deep=is_deep(band.output))
        (y, tile_y), (x, tile_x) = band.tiling.rows.place(tile[0]), band.tiling.columns.place(tile[1])
        top = band.tiling.rows.visible(band.rows)[0]
        band.output[y.start - top : y.stop - top, x] = pixels[tile_y, tile_x]

    def _tile_colours(
        self,
        tiling: Tiling,
        shape: tuple[int, int],
        style: Style,
        rows: list[Future[Tensor]],
        columns: list[Future[Tensor]],
    ) -> Tensor:
        """Colours [H, W, 3] of a tile of H×W pixels, each the mean of the colours at the pixel's positions."""
        (height, width), y, x = shape, tiling.rows, tiling.columns
        if y.factor == x.factor == 1:
            return self.block_colours(style, rows[0].result(), columns[0].result())
        total = torch.zeros(height, width, RGB, dtype=torch.float64, device=self._device)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                block = self.block_colours(style, row.result(), column.result())[: y.used(i), : x.used(j)]
                boxes = block.reshape(height, -1, width, block.shape[1] // width, RGB)  # [H, m_y, W, m_x, 3]
                total += boxes.sum(dim=(1, 3), dtype=torch.float64)  # [H, W, 3]
        return total / (y.factor * x.factor)


def _interpolate(lattice: Lattice, device: torch.device) -> Iterator[Tensor]:
    """The lines [P, D·32] of samples, bundle by bundle."""
    lines = torch.cat([page.flatten(2) for page in lattice.pages], dim=1)  # [bundles, L, D·32]
    taps, weights = (torch.from_numpy(x).to(device) for x in (lattice.taps, lattice.weights))
    for bundle in lines:
        yield F.embedding_bag(taps, bundle, mode="sum", per_sample_weights=weights)
