"""Triton backend. While one group of bands is rendered, the previous one is copied to pinned memory.

Once a size has been rendered, the CPU only waits for copies. Without a GPU the same code runs in Triton's interpreter,
for tests.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import Progress, any_latent
from kernels.block_warp import average_samples
from kernels.gpu.cuda_graphs import CAPTURING
from kernels.gpu.jit.lines import LINE_SCALE
from kernels.gpu.line_pages import PAGE, LinePages, Lines, Page, pages_of
from kernels.gpu.model import ARITHMETIC, PackedModel
from kernels.gpu.pixel_tasks import PixelTasks
from kernels.gpu.upload import Upload
from kernels.gpu.warp import WarpedPixels
from kernels.line_cache import CACHE_BYTES
from kernels.tiling import BLOCKS_PER_THREAD, Band, Output, Panel, Tiling, group_panels, is_deep
from kernels.warp_tiles import blank, put_blocks, warp_tiles
from model.config import RGB
from model.generator import COLUMNS, ROWS
from model.latents.latent import Latent
from model.util.cpus import available_cpus
from model.viewport import Viewport

logger = logging.getLogger(__name__)

T = TypeVar("T")

PINNED_BYTES = 16 * 2**20
"""Largest output that is pinned as a whole. Pinning is slow and pinned memory is kept, so larger images are copied band
by band, through pinned memory that is used again."""

Places = dict[tuple[int, int], Page]
"""Pages by tile and part of an axis."""


@dataclass(frozen=True)
class _Group:
    """Bands that are being rendered, with the buffers that must live until they are copied.

    Attributes:
        staged: pinned memory of those bands whose output is not pinned.
    """

    bands: Sequence[Band]
    buffers: Sequence[Tensor]
    staged: dict[Band, Tensor]
    copied: torch.cuda.Event | None

    def wait(self) -> None:
        if self.copied is not None:
            self.copied.synchronize()


class TritonBackend:
    """A :class:`kernels.backend.RenderBackend` that runs the Triton kernels of a packed model."""

    name = "triton"
    cache_bytes = CACHE_BYTES

    def __init__(self, model: PackedModel) -> None:
        self._model = model
        self._config = model.config
        self._device = model.device
        self._on_gpu = self._device.type == "cuda"
        unit = "sm{}{}".format(*torch.cuda.get_device_capability(self._device)) if self._on_gpu else "interpreter"
        self.arithmetic = f"{ARITHMETIC[model.parts].replace('×', 'x')}-{unit}"
        self._stream = torch.cuda.Stream(self._device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._copies = torch.cuda.Stream(self._device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        if self._stream is not None:  # the copy of the weights may still be running
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._lock = threading.Lock()
        self._pages = LinePages(model)
        self._warped = WarpedPixels(model, self._pages)

    @property
    def graph_sizes(self) -> list[int]:
        """Numbers of rows and columns together, up to which CUDA graphs were captured."""
        return self._pages.graph_sizes

    def plan(self, viewport: Viewport) -> Tiling:
        resolution, max_scale = self._config.resolution, self._config.max_scale
        return Tiling.plan(viewport, resolution, PAGE, self._pages.limit, threads=1, max_scale=max_scale)

    def allocate(self, height: int, width: int, *, deep: bool = False) -> Output:
        dtype = torch.float32 if deep else torch.uint8
        pinned = self._on_gpu and height * width * RGB * dtype.itemsize <= PINNED_BYTES
        output: Output = torch.empty(height, width, RGB, dtype=dtype, pin_memory=pinned).numpy()
        return output

    def render(self, bands: Iterable[Band], progress: Progress | None) -> Iterator[Band]:
        pending: deque[_Group] = deque()
        buffers: dict[Band, Tensor] = {}
        try:
            for panels, complete in group_panels(bands, BLOCKS_PER_THREAD, 2 * self._pages.limit):
                pending.append(self._run(partial(self._enqueue, panels, complete, buffers)))
                while len(pending) > 1:
                    yield from self._finish(pending.popleft(), progress)
            while pending:
                yield from self._finish(pending.popleft(), progress)
        finally:  # no copy may still write to memory that the caller releases
            for group in pending:
                group.wait()

    def render_on_device(self, bands: Iterable[Band]) -> list[Tensor]:
        """Render bands in the order of the current stream and leave them on the device: uint8 [h, w, 3] each.

        Of the bands' outputs only the shapes are used.
        """
        buffers: dict[Band, Tensor] = {}
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        for panels, _ in group_panels(bands, BLOCKS_PER_THREAD, 2 * self._pages.limit):
            self._run(partial(self._enqueue, panels, [], buffers))
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for buffer in buffers.values():
                buffer.record_stream(current)
        return list(buffers.values())

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        def compute() -> Tensor:
            parts = self._pages.lines(latent, positions, axis)  # [L, bundles, D, parts, 32]
            lines: Tensor = parts.float().sum(dim=3).permute(1, 3, 0, 2) * (0.5**0.5 / LINE_SCALE)
            return lines  # [bundles, 32, L, D]

        return self._run_synchronously(compute)

    def styles(self, latent: Latent) -> Tensor:
        return self._run_synchronously(lambda: self._model.resolve(latent))

    def colours(self, latent: Latent, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
        """Colours [H, W, 3] in fp32 at network coordinates [H] and [W], at most one page of each."""

        def compute() -> Tensor:
            pages = [Page(latent, axis, own.tobytes()) for axis, own in ((ROWS, rows), (COLUMNS, columns))]
            upload, tasks = Upload(self._device), PixelTasks(self._model)
            lines = self._pages.prepare(pages, [latent], upload)
            # NaN, so that a pixel which is not written is noticed.
            colours = torch.full((len(rows), len(columns), RGB), torch.nan, device=self._device)
            row_lines, column_lines = (lines.pages[page] for page in pages)
            output, shape = (colours.data_ptr(), len(columns)), (len(rows), len(columns))
            tasks.add((row_lines, 0), (column_lines, 0), lines.refinements[latent], output, shape)
            tasks.prepare(upload)
            upload.start()
            self._pages.compute(lines, upload)
            tasks.launch(upload, quantise=False)
            return colours

        return self._run_synchronously(compute)

    def warp(self, latent: Latent, viewport: Viewport, output: Output, progress: Progress | None) -> None:
        for tile in warp_tiles(viewport, self._config.resolution, PAGE, self._config.max_scale):
            pixels, deep = blank(tile.side, output), is_deep(output)
            for samples in tile.sample(visible=True):
                coordinates = samples.coordinates.reshape(-1, *samples.coordinates.shape[2:])
                colours = self.warp_colours(latent, coordinates, viewport).reshape(-1, RGB)
                put_blocks(samples, average_samples(colours, samples, deep=deep), pixels)
            tile.place(pixels, output)
            if progress is not None:
                progress(tile.pixels * self._config.pixel_macs)

    def warp_colours(self, latent: Latent, coordinates: NDArray[np.float64], viewport: Viewport) -> Tensor:
        """Colours [H, W, 3] in fp32 at network coordinates [H, W, 2] (vertical, horizontal).

        Of ``viewport`` only counts where lines are blended.
        """
        return self._run_synchronously(lambda: self._warped.colours(latent, coordinates, viewport))

    def close(self) -> None:
        self._pages.close()
        self.release_caches()

    def release_caches(self) -> None:
        """Release all memory that only speeds up later images."""
        with self._lock:
            self._release()

    def compile_kernels(self) -> None:
        """Compile the kernels of :meth:`colours` and of ordinary images in as many threads as there are CPUs.

        One after another they would take a minute on the first start.
        """
        positions = np.zeros(PAGE)
        with self._model.compile_only(available_cpus()):
            self.colours(any_latent(self._config), positions, positions)
            self._render_ordinary_images()
        self.release_caches()  # lines that were never computed

    def warm_up(self) -> None:
        """Capture graphs and render ordinary images, so that the first request does not wait."""
        self._run(self._pages.capture_graphs)
        self._render_ordinary_images()

    def _render_ordinary_images(self) -> None:
        latent = any_latent(self._config)
        for side in (self._config.resolution, self._config.resolution // 2):  # the smaller one is supersampled
            tiling = self.plan(Viewport.resolve(side, side))
            for _ in self.render([Band(latent, tiling, tiling.rows.tiles, self.allocate(side, side))], None):
                pass

    def _run_synchronously(self, work: Callable[[], Tensor]) -> Tensor:
        """Run work on the backend's stream and wait for its result, which the current stream may use."""
        result = self._run(work)
        if self._stream is not None:
            self._stream.synchronize()
            result.record_stream(torch.cuda.current_stream(self._device))
        return result

    def _run(self, work: Callable[[], T]) -> T:
        """Queue work on the backend's stream. If memory runs out, release the caches and try once more."""
        with self._lock, torch.cuda.stream(self._stream):  # also selects the stream's device; None changes nothing
            try:
                return work()
            except RuntimeError as error:  # CUDA and Triton raise it without torch.OutOfMemoryError
                if "out of memory" not in str(error):
                    raise
            # After the except block, because the exception keeps allocations alive.
            logger.warning("GPU memory is full: releasing the line cache and trying again")
            self._release()
            return work()

    def _finish(self, group: _Group, progress: Progress | None) -> Iterator[Band]:
        group.wait()
        for band in group.bands:
            if (staged := group.staged.get(band)) is not None:
                torch.from_numpy(band.output).copy_(staged)
            if progress is not None:
                progress(band.tiling.macs(self._config, band.rows))
            yield band

    def _enqueue(self, panels: Sequence[Panel], complete: Sequence[Band], buffers: dict[Band, Tensor]) -> _Group:
        """Queue panels and the copies of the bands that they complete."""
        for panel in panels:
            if panel.band not in buffers:
                dtype = torch.float32 if is_deep(panel.band.output) else torch.uint8
                buffers[panel.band] = torch.empty(panel.band.output.shape, dtype=dtype, device=self._device)
        upload = Upload(self._device)
        places = [_pages_of_panel(panel) for panel in panels]
        pages = [page for place in places for axis in place for page in axis.values()]
        lines = self._pages.prepare(pages, [panel.band.latent for panel in panels], upload)
        levels, colours = PixelTasks(self._model), PixelTasks(self._model)
        averages = []
        for panel, place in zip(panels, places, strict=True):
            buffer, rows, columns = buffers[panel.band], panel.band.tiling.rows, panel.band.tiling.columns
            left, right = columns.visible(panel.columns)
            if rows.factor * columns.factor > 1:
                shape = len(buffer) * rows.factor, (right - left) * columns.factor, RGB
                samples = torch.empty(shape, device=self._device)
                self._add(colours, panel, place, lines, samples.data_ptr(), samples)
                averages.append((samples, buffer, (left, right), (rows.factor, columns.factor)))
            else:
                first = buffer.data_ptr() + left * RGB * buffer.element_size()
                self._add(colours if is_deep(panel.band.output) else levels, panel, place, lines, first, buffer)
        levels.prepare(upload)
        colours.prepare(upload)
        upload.start()
        self._pages.compute(lines, upload)
        levels.launch(upload, quantise=True)
        colours.launch(upload, quantise=False)
        for average in averages:
            self._model.average_colours(*average)
        return self._copy(complete, [buffers.pop(band) for band in complete])

    def _add(
        self,
        tasks: PixelTasks,
        panel: Panel,
        places: tuple[Places, Places],
        lines: Lines,
        address: int,
        output: Tensor,
    ) -> None:
        """Add a task for each pair of a row page and a column page. ``address`` is that of the panel's first pixel."""
        tiling, (row_pages, column_pages) = panel.band.tiling, places
        refinement, stride = lines.refinements[panel.band.latent], output.shape[1]
        columns = list(tiling.columns.pieces(panel.columns))
        for y in tiling.rows.pieces(panel.band.rows):
            rows = lines.pages[row_pages[y.tile, y.part]], y.begin
            for x in columns:
                first = address + (y.place * stride + x.place) * RGB * output.element_size()
                page = lines.pages[column_pages[x.tile, x.part]]
                tasks.add(rows, (page, x.begin), refinement, (first, stride), (y.length, x.length))

    def _copy(self, bands: Sequence[Band], buffers: Sequence[Tensor]) -> _Group:
        """Start to copy complete bands to their outputs, or to pinned memory."""
        staged: dict[Band, Tensor] = {}
        if self._copies is not None and self._stream is not None:
            self._copies.wait_stream(self._stream)
        with torch.cuda.stream(self._copies):
            for band, buffer in zip(bands, buffers, strict=True):
                target = torch.from_numpy(band.output)
                if not (self._on_gpu and target.is_pinned()):
                    target = torch.empty(buffer.shape, dtype=buffer.dtype, pin_memory=self._on_gpu)
                    staged[band] = target
                target.copy_(buffer, non_blocking=True)
        return _Group(bands, buffers, staged, None if self._copies is None else self._copies.record_event())

    def _release(self) -> None:
        self._pages.clear()
        if self._on_gpu:
            with CAPTURING:  # synchronizing would break a graph capture of another thread
                torch.cuda.synchronize(self._device)
                torch.cuda.empty_cache()


def _pages_of_panel(panel: Panel) -> tuple[Places, Places]:
    """The pages of the rows and of the columns, by tile and part."""
    latent, tiling = panel.band.latent, panel.band.tiling
    return pages_of(latent, tiling.rows, panel.band.rows), pages_of(latent, tiling.columns, panel.columns)
