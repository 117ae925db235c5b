"""From a RenderSpec to 8-bit pixels: the one face of this package.

The bytes of a pixel depend on the checkpoint, the latent, the whole picture's size, region and grid, the backend and
the kind of machine; not on the crop, the band, other pictures of a batch or the number of threads.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import Backend
from kernels.cache import LineCache
from kernels.cpu import CpuBackend
from kernels.reference import ReferenceBackend
from kernels.threads import TaskGroup, default_threads, single_operation_pool
from kernels.tiles import BLOCKS_PER_THREAD, Axis, Tiling
from model.checkpoint import Checkpoint
from model.config import FEATURES, RGB
from model.device import find_device
from model.errors import InputError
from model.spec import Latent, RenderSpec

BackendName = Literal["cpu", "reference"]

Progress = Callable[[int], object]
"""Called in the caller's thread with the multiply-adds of each piece of work done; in all Renderer.cost()."""

LINE_CACHE_BYTES = 256 * 2**20
"""Half of it suffices for the columns of a picture 18,724 pixels wide of the paper's 512 model."""

STYLES_KEPT = 32
"""Latents whose styles are kept: about a megabyte each for the paper's models."""

Output = NDArray[np.uint8]


@dataclass(frozen=True)
class _Panel:
    """A part of a picture whose lines are held together while it is drawn into ``output`` [h, w, 3], the whole band."""

    latent: Latent
    tiling: Tiling
    rows: range
    columns: range
    output: Output

    @property
    def positions(self) -> int:
        """Rows and columns whose lines are held."""
        rows, columns = self.tiling.rows, self.tiling.columns
        return len(self.rows) * rows.parts * rows.block + len(self.columns) * columns.parts * columns.block

    @property
    def blocks(self) -> int:
        return len(self.rows) * self.tiling.rows.parts * len(self.columns) * self.tiling.columns.parts


class Renderer:
    """Draws pictures of one checkpoint. Safe to use from several threads.

    Args:
        checkpoint: is loaded at once.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:0" …
        backend: None takes the fastest of the device.
        threads: pieces of work at once on a CPU; None takes the cores that torch would use.

    Raises:
        InputError: the checkpoint's tensors do not fit its config, or the device or backend is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        backend: BackendName | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError("threads", f"must be at least 1, not {threads}")
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.device = find_device(device)
        self._backend = _make_backend(checkpoint, self.device, backend)
        self._threads = (threads or default_threads()) if self.device.type == "cpu" else 1
        self._pool = single_operation_pool(self._threads)
        self._cache = LineCache(LINE_CACHE_BYTES)
        self._style = functools.lru_cache(STYLES_KEPT)(self._backend.style)
        # Positions along either axis whose lines fill half the cache.
        self._line_limit = LINE_CACHE_BYTES // 2 // (4 * self.config.bundles * FEATURES * self.config.thickness)

    @property
    def backend(self) -> str:
        """Name of the backend that draws."""
        return self._backend.name

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        """The line bundles [bundles, 32, L, D] of network coordinates [L] along one axis (ROWS or COLUMNS).

        Raises:
            InputError: the latent does not fit the network.
        """
        latent.check(self.config)
        side = self._backend.side
        padded = np.pad(positions, (0, -len(positions) % side), mode="edge")
        style = self._pool.submit(self._style, latent)
        chunks = [self._pool.submit(self._lines, latent, style, chunk, axis) for chunk in padded.reshape(-1, side)]
        return torch.cat([chunk.result() for chunk in chunks], dim=2)[:, :, : len(positions)]

    def render(self, spec: RenderSpec, progress: Progress | None = None) -> Output:
        """The picture's crop [h, w, 3]. A value that is not a number becomes 0.

        Raises:
            InputError: the latent does not fit the network.
        """
        return self.render_batch([spec], progress)[0]

    def render_batch(self, specs: Sequence[RenderSpec], progress: Progress | None = None) -> list[Output]:
        """Several pictures, whose tiles share the threads: small ones keep all cores busy together.

        Raises:
            InputError: a latent does not fit the network; nothing has been drawn then.
        """
        tilings = [self._plan(spec) for spec in specs]
        outputs = [np.empty((spec.viewport.crop[3], spec.viewport.crop[2], RGB), np.uint8) for spec in specs]
        self._draw(
            (
                _Panel(spec.latent, tiling, band, columns, output[slice(*tiling.rows.visible(band))])
                for spec, tiling, output in zip(specs, tilings, outputs, strict=True)
                for band in tiling.bands()
                for columns in tiling.panels()
            ),
            progress,
        )
        return outputs

    def bands(self, spec: RenderSpec, progress: Progress | None = None) -> Iterator[Output]:
        """The picture's crop from top to bottom, in bands [rows, w, 3], each drawn when it is asked for.

        Memory does not grow with the picture: a band is about a quarter of a megapixel for each thread, or up to 64
        megapixels where the crop is so wide that its columns' lines exceed half the cache and are computed per band.

        Raises:
            InputError: the latent does not fit the network; raised here, not by the first band.
        """
        tiling = self._plan(spec)

        def draw(band: range) -> Output:
            top, bottom = tiling.rows.visible(band)
            output = np.empty((bottom - top, spec.viewport.crop[2], RGB), np.uint8)
            self._draw((_Panel(spec.latent, tiling, band, columns, output) for columns in tiling.panels()), progress)
            return output

        return map(draw, tiling.bands())

    def cost(self, spec: RenderSpec) -> int:
        """Multiply-adds that drawing takes, those of lines that are still kept from before included.

        Raises:
            InputError: the latent does not fit the network.
        """
        tiling = self._plan(spec)
        rows, columns = tiling.rows, tiling.columns
        height, width = (len(axis.tiles) * axis.parts * axis.block for axis in (rows, columns))
        bands, panels = sum(1 for _ in tiling.bands()), sum(1 for _ in tiling.panels())
        return (height * panels + width * bands) * self.config.line_macs + height * width * self.config.pixel_macs

    def _plan(self, spec: RenderSpec) -> Tiling:
        spec.latent.check(self.config)
        side = self._backend.side
        return Tiling.plan(spec.viewport, self.config.resolution, side, self._line_limit, self._threads)

    def _draw(self, panels: Iterable[_Panel], progress: Progress | None) -> None:
        """Draws panels in groups that keep all threads busy, and whose lines are no more than the cache holds."""
        group: list[_Panel] = []
        for panel in panels:
            if group and sum(p.positions for p in [*group, panel]) > 2 * self._line_limit:
                self._draw_group(group, progress)
                group = []
            group.append(panel)
            if sum(p.blocks for p in group) >= BLOCKS_PER_THREAD * self._threads:
                self._draw_group(group, progress)
                group = []
        self._draw_group(group, progress)

    def _draw_group(self, panels: Sequence[_Panel], progress: Progress | None) -> None:
        """Submits styles, then lines, then tiles: in this order they are begun, so a task waits only for begun ones."""
        with TaskGroup(self._pool) as tasks:
            styles = {panel.latent: tasks.submit(0, self._style, panel.latent) for panel in panels}
            requested = []
            for panel in panels:
                style = styles[panel.latent]
                rows = {
                    row: self._request_lines(tasks, panel.tiling.rows, row, panel.latent, style) for row in panel.rows
                }
                columns = {
                    column: self._request_lines(tasks, panel.tiling.columns, column, panel.latent, style)
                    for column in panel.columns
                }
                requested.append((panel, style, rows, columns))
            for panel, style, rows, columns in requested:
                block_cost = panel.tiling.rows.block * panel.tiling.columns.block * self.config.pixel_macs
                for row, column in itertools.product(rows, columns):
                    cost = len(rows[row]) * len(columns[column]) * block_cost
                    tasks.submit(cost, self._draw_tile, panel, style, (row, column), rows[row], columns[column])
            for cost in tasks.completed():
                if progress is not None:
                    progress(cost)

    def _request_lines(
        self, tasks: TaskGroup, axis: Axis, tile: int, latent: Latent, style: Future[Any]
    ) -> list[Future[Tensor]]:
        """The lines of each block along a tile's axis."""
        cost = axis.block * self.config.line_macs
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
        panel: _Panel,
        style: Future[Any],
        tile: tuple[int, int],
        rows: list[Future[Tensor]],
        columns: list[Future[Tensor]],
    ) -> None:
        """Draws the tile (row, column) into its place in the panel's output."""
        pixels = _quantise(self._average(panel.tiling, style.result(), rows, columns))
        (y, tile_y), (x, tile_x) = panel.tiling.rows.place(tile[0]), panel.tiling.columns.place(tile[1])
        top = panel.tiling.rows.visible(panel.rows)[0]
        panel.output[y.start - top : y.stop - top, x] = pixels[tile_y, tile_x]

    def _average(self, tiling: Tiling, style: Any, rows: list[Future[Tensor]], columns: list[Future[Tensor]]) -> Tensor:
        """Colours [H, W, 3] of a tile, each the mean of the network's colours at the pixel's positions."""
        y, x = tiling.rows, tiling.columns
        if y.factor == x.factor == 1:
            return self._backend.pixels(style, rows[0].result(), columns[0].result())
        total = torch.zeros(y.tile, x.tile, RGB, dtype=torch.float64, device=self.device)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                block = self._backend.pixels(style, row.result(), column.result())[: y.used(i), : x.used(j)]
                boxes = block.reshape(y.tile, -1, x.tile, block.shape[1] // x.tile, RGB)  # [H, m_y, W, m_x, 3]
                total += boxes.sum(dim=(1, 3), dtype=torch.float64)
        return total / (y.factor * x.factor)


def _make_backend(checkpoint: Checkpoint, device: torch.device, name: BackendName | None) -> Backend[Any]:
    if name not in (None, *get_args(BackendName)):
        raise InputError("backend", f"must be one of {', '.join(get_args(BackendName))}, not {name!r}")
    if name == "cpu" and device.type != "cpu":
        raise InputError("backend", f"cpu does not run on {device}")
    if name == "reference" or device.type != "cpu":
        return ReferenceBackend(checkpoint.load(), device)
    return CpuBackend(checkpoint.load())


def _quantise(colours: Tensor) -> NDArray[np.uint8]:
    """Colours −1 … 1 → 0 … 255 as the original tools do: truncated, not rounded."""
    levels = colours.mul(127.5).add(128).nan_to_num(nan=0.0).clamp(0, 255)
    return levels.to(torch.uint8).cpu().numpy()
