"""Drawing on a GPU. While one group of bands is drawn, the one before is copied to pinned memory.

Once a size has been drawn, the program waits for copies alone. On a CPU the same code runs in Triton's interpreter, for
tests.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import upload
from kernels.drawer import Band, Output, Panel, Progress, group_panels
from kernels.gather import line_density, sample
from kernels.graphs import CAPTURING
from kernels.lines import LINE_SCALE
from kernels.network import GpuNetwork
from kernels.pages import CACHE_BYTES, PAGE, LinePages, Page, pages_of
from kernels.tasks import LAUNCH_PIXELS, Scratch, Tasks
from kernels.tiles import BLOCKS_PER_THREAD, Tiling
from model.config import RGB
from model.generator import COLUMNS, ROWS
from model.spec import Latent
from model.viewport import Viewport

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class _Group:
    """Bands whose drawing has been begun, and what must live until they are copied."""

    bands: Sequence[Band]
    buffers: Sequence[Tensor]
    copied: torch.cuda.Event | None


class GpuDrawer:
    """Draws with the kernels of one network."""

    name = "triton"
    cache_bytes = CACHE_BYTES

    def __init__(self, network: GpuNetwork) -> None:
        self._network = network
        self._config = network.config
        self._device = network.device
        self._on_gpu = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._copies = torch.cuda.Stream(self._device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        if self._stream is not None:  # the network's weights may still be on their way
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._lock = threading.Lock()
        self._pages = LinePages(network)
        self._scratch = Scratch(network)
        self._density = line_density(network.config.resolution, network.highest_frequency)

    def plan(self, viewport: Viewport) -> Tiling:
        return Tiling.plan(viewport, self._config.resolution, PAGE, self._pages.limit, threads=1)

    def allocate(self, height: int, width: int) -> Output:
        """Pinned memory, to which a GPU copies while it computes."""
        output: Output = torch.empty(height, width, RGB, dtype=torch.uint8, pin_memory=self._on_gpu).numpy()
        return output

    def draw(self, bands: Iterable[Band], progress: Progress | None) -> Iterator[Band]:
        waiting: deque[_Group] = deque()
        buffers: dict[Band, Tensor] = {}
        try:
            for panels, complete in group_panels(bands, BLOCKS_PER_THREAD, 2 * self._pages.limit):
                waiting.append(self._begin(panels, complete, buffers))
                while len(waiting) > 1:
                    yield from self._finish(waiting.popleft(), progress)
            while waiting:
                yield from self._finish(waiting.popleft(), progress)
        finally:  # nothing may be written to memory that the caller gives up
            for group in waiting:
                _wait(group)

    def draw_on_device(self, bands: Iterable[Band]) -> list[Tensor]:
        """Draws bands in the order of the current stream, and leaves them on the device: uint8 [h, w, 3] each.

        Of the bands' outputs only the shapes matter.
        """
        buffers: dict[Band, Tensor] = {}
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        for panels, _ in group_panels(bands, BLOCKS_PER_THREAD, 2 * self._pages.limit):
            self._begin(panels, [], buffers)
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for buffer in buffers.values():
                buffer.record_stream(current)
        return list(buffers.values())

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        def draw() -> Tensor:
            with self._computing():
                parts = self._lines(latent, positions, axis)
                lines: Tensor = parts.float().sum(dim=3).permute(1, 3, 0, 2) * (0.5**0.5 / LINE_SCALE)
                return lines

        return self._hand_over(self._with_memory(draw))

    def colours(self, latent: Latent, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
        """Colours [H, W, 3] in fp32, of network coordinates [H] and [W]: at most a page of each."""

        def draw() -> Tensor:
            with self._computing():
                lines = self._lines(latent, rows, ROWS), self._lines(latent, columns, COLUMNS)
                # Not a number, so that a pixel which is not drawn would be noticed.
                colours = torch.full((len(rows), len(columns), RGB), torch.nan, device=self._device)
                tasks, output = Tasks(self._network), (colours.data_ptr(), len(columns))
                tasks.add((lines[0], 0), (lines[1], 0), self._pages.style(latent), output, (len(rows), len(columns)))
                tasks.draw(self._scratch, quantise=False)
                return colours

        return self._hand_over(self._with_memory(draw))

    def warp(self, latent: Latent, coordinates: NDArray[np.float64]) -> Output:
        """Pixels [H, W, 3] at network coordinates [H, W, 2] (vertical, horizontal), between densely sampled lines."""
        height, width, _ = coordinates.shape
        output = self.allocate(height, width)
        buffer = self._with_memory(lambda: self._warp(latent, coordinates))
        torch.from_numpy(output).copy_(self._hand_over(buffer))
        return output

    def _warp(self, latent: Latent, coordinates: NDArray[np.float64]) -> Tensor:
        height, width, _ = coordinates.shape
        places = np.empty(coordinates.shape, np.float32)
        with self._computing():
            lines = []
            for axis in (ROWS, COLUMNS):
                positions, places[..., axis] = sample(coordinates[..., axis], self._density)
                lines.append(self._lines(latent, positions, axis))
            uploaded = upload(places, self._device)
            buffer = torch.empty(height, width, RGB, dtype=torch.uint8, device=self._device)
            tasks, style = Tasks(self._network), self._pages.style(latent)
            step = max(LAUNCH_PIXELS // width, 1)  # whole rows, because coordinates are dense
            for top in range(0, height, step):
                part, first = uploaded[top : top + step], buffer[top].data_ptr()
                tasks.add((lines[ROWS], 0), (lines[COLUMNS], 0), style, (first, width), part)
            tasks.draw(self._scratch, quantise=True, gather=True)
        return buffer

    def _lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        """Lines [L, bundles, D, parts, 32] of network coordinates [L], in one piece."""
        pages = [
            Page(latent, axis, positions[start : start + PAGE].tobytes()) for start in range(0, len(positions), PAGE)
        ]
        made = self._pages.make(pages)
        return torch.cat([made[page][: page.length] for page in pages])

    def _hand_over(self, tensor: Tensor) -> Tensor:
        """A finished tensor, for use on the current stream."""
        if self._stream is not None:
            self._stream.synchronize()
            tensor.record_stream(torch.cuda.current_stream(self._device))
        return tensor

    def warm_up(self) -> None:
        """Compiles what pictures need, so that the first one does not wait for it. Nothing to do on a CPU."""
        if not self._on_gpu:
            return
        latent = Latent(seed=0, class_index=0 if self._config.classes else None)
        for side in (self._config.resolution, self._config.resolution // 2):  # the smaller one is averaged
            tiling = self.plan(Viewport.resolve(side, side))
            for _ in self.draw([Band(latent, tiling, tiling.rows.tiles, self.allocate(side, side))], None):
                pass

    def _begin(self, panels: Sequence[Panel], complete: Sequence[Band], buffers: dict[Band, Tensor]) -> _Group:
        """Begins to draw panels and, where bands are complete with them, to copy those."""
        return self._with_memory(lambda: self._enqueue(panels, complete, buffers))

    def _with_memory(self, work: Callable[[], T]) -> T:
        """Does work on the device; where memory is short, once more without what is kept for later."""
        with self._lock:
            try:
                return work()
            except RuntimeError as error:  # also what CUDA and Triton raise, which is no torch.OutOfMemoryError
                if "out of memory" not in str(error):
                    raise
            # After the exception, which keeps alive what had been allocated.
            logger.warning("the GPU's memory is full: its cache of lines is given up, and the work tried again")
            self._release()
            return work()

    def _finish(self, group: _Group, progress: Progress | None) -> Iterator[Band]:
        _wait(group)
        for band in group.bands:
            if progress is not None:
                progress(band.tiling.macs(self._config, band.rows))
            yield band

    def _enqueue(self, panels: Sequence[Panel], complete: Sequence[Band], buffers: dict[Band, Tensor]) -> _Group:
        with self._computing():
            for panel in panels:
                if panel.band not in buffers:
                    buffers[panel.band] = torch.empty(panel.band.output.shape, dtype=torch.uint8, device=self._device)
            lines = self._pages.make(itertools.chain.from_iterable(map(_pages_of_panel, panels)))
            exact, supersampled = Tasks(self._network), Tasks(self._network)
            averages = []
            for panel in panels:
                buffer, left = buffers[panel.band], panel.band.tiling.columns.visible(panel.columns)[0]
                if panel.supersampled:
                    colours = torch.empty(*panel.positions_shape, RGB, device=self._device)
                    self._add(supersampled, panel, lines, colours.data_ptr(), colours)
                    averages.append((panel, colours, buffer))
                else:
                    self._add(exact, panel, lines, buffer.data_ptr() + left * RGB, buffer)
            exact.draw(self._scratch, quantise=True)
            supersampled.draw(self._scratch, quantise=False)
            for panel, colours, buffer in averages:
                self._average(panel, colours, buffer)
        finished = [buffers.pop(band) for band in complete]
        return _Group(complete, finished, self._copy(complete, finished))

    def _add(self, tasks: Tasks, panel: Panel, lines: dict[Page, Tensor], address: int, output: Tensor) -> None:
        """One task for every page of rows and page of columns. ``address`` is that of the panel's first pixel."""
        latent, tiling = panel.band.latent, panel.band.tiling
        row_pages = pages_of(latent, tiling.rows, panel.band.rows)
        column_pages = pages_of(latent, tiling.columns, panel.columns)
        style, stride = self._pages.style(latent), output.shape[1]
        columns = list(tiling.columns.pieces(panel.columns))
        for y in tiling.rows.pieces(panel.band.rows):
            rows = lines[row_pages[y.tile, y.part]], y.begin
            for x in columns:
                first = address + (y.place * stride + x.place) * RGB * output.element_size()
                page = lines[column_pages[x.tile, x.part]]
                tasks.add(rows, (page, x.begin), style, (first, stride), (y.length, x.length))

    def _average(self, panel: Panel, colours: Tensor, buffer: Tensor) -> None:
        rows, columns = panel.band.tiling.rows, panel.band.tiling.columns
        left, right = columns.visible(panel.columns)
        self._network.average(colours, buffer, (left, right), (rows.factor, columns.factor))

    def _copy(self, bands: Sequence[Band], buffers: Sequence[Tensor]) -> torch.cuda.Event | None:
        """Begins to copy complete bands to where their callers want them."""
        if self._copies is None or self._stream is None:
            for band, buffer in zip(bands, buffers, strict=True):
                torch.from_numpy(band.output).copy_(buffer)
            return None
        self._copies.wait_stream(self._stream)
        with torch.cuda.stream(self._copies):
            for band, buffer in zip(bands, buffers, strict=True):
                torch.from_numpy(band.output).copy_(buffer, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._copies)
        return copied

    def _computing(self) -> ExitStack:
        """Work begun inside goes to the drawer's own stream of its device."""
        stack = ExitStack()
        if self._stream is not None:
            stack.enter_context(torch.cuda.device(self._device))
            stack.enter_context(torch.cuda.stream(self._stream))
        return stack

    def _release(self) -> None:
        """Gives back all memory that only makes the next picture faster."""
        self._pages.clear()
        self._scratch.clear()
        if self._on_gpu:
            with CAPTURING:  # a graph that is captured in another thread would be spoilt
                torch.cuda.synchronize(self._device)
                torch.cuda.empty_cache()


def _wait(group: _Group) -> None:
    if group.copied is not None:
        group.copied.synchronize()


def _pages_of_panel(panel: Panel) -> Iterator[Page]:
    latent, tiling = panel.band.latent, panel.band.tiling
    yield from pages_of(latent, tiling.rows, panel.band.rows).values()
    yield from pages_of(latent, tiling.columns, panel.columns).values()
