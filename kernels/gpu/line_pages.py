"""Pages of lines on a GPU: computed in batches, cached, and shared by all tiles of an image."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.gpu.cuda_graphs import LineGraphs
from kernels.gpu.line_inputs import LatentInput, LineInputs, PageInput, is_composed, pack_line_inputs
from kernels.gpu.model import PackedModel
from kernels.gpu.upload import Upload
from kernels.line_cache import CACHE_BYTES, LineCache
from kernels.tiling import Axis
from model.latents.latent import Latent
from model.util.device import to_device_async

PAGE = 256
"""Maximum number of positions in a page."""

POSITIONS = 4096
"""Maximum number of positions in a batch: 64 MiB for each activation of 1024 channels in fp16."""

STYLES = 8
"""Maximum number of latents in a batch. The modulated weights of one are 21 MB for the paper's 512 model in fp16."""

REFINEMENT_BYTES = 32 * 2**20
"""Limit of the cached weights of refinements: 224 latents in fp16."""


class Page(NamedTuple):
    """Key of a page of lines; ``positions`` are the bytes of its network coordinates, float64.

    Lines that are blended at a seam also have those of one period ``before``, and the ``weights`` of the latter.
    """

    latent: Latent
    axis: int
    positions: bytes
    before: bytes = b""
    weights: bytes = b""

    @classmethod
    def of(cls, latent: Latent, axis: int, positions: NDArray[np.float64]) -> "Page":
        """The page of positions of Viewport.line_coordinates, [L] or [3, L]."""
        if positions.ndim == 1:
            return cls(latent, axis, positions.tobytes())
        here, before, weights = (each.tobytes() for each in positions)
        return cls(latent, axis, here, before, weights) if positions[2].any() else cls(latent, axis, here)

    @property
    def parts(self) -> tuple["Page", ...]:
        """The pages that are blended; none of an ordinary page."""
        return tuple(Page(self.latent, self.axis, each) for each in (self.positions, self.before) if self.before)

    @property
    def length(self) -> int:
        """Number of positions."""
        return len(self.positions) // np.dtype(np.float64).itemsize


def pages_of(latent: Latent, axis: Axis, tiles: range) -> dict[tuple[int, int], Page]:
    """The page of each tile and part of an axis, without positions beyond the whole image."""
    return {
        (tile, part): Page.of(latent, axis.axis, axis.positions(tile, part)[..., : axis.inside(tile, part)])
        for tile, part in itertools.product(tiles, range(axis.parts))
        if axis.inside(tile, part) > 0
    }


@dataclass(frozen=True)
class _Batch:
    """Missing pages of a few latents. ``graph`` is the graph's number of positions, None without a graph."""

    latents: Sequence[Latent]
    pages: Sequence[Page]
    positions: int
    graph: int | None
    block: int


@dataclass(frozen=True)
class Lines:
    """Memory for lines and refinement weights, some of which :meth:`LinePages.compute` still has to write.

    Attributes:
        pages: fp16 [positions, bundles, D, parts, 32], padded to whole tiles.
        refinements: the refinement's modulated weights, fp16 [parts, REFINEMENT_SIZE].
        styles: w+ of composed latents.
        blended: pages that are made of others.
    """

    pages: dict[Page, Tensor]
    refinements: dict[Latent, Tensor]
    styles: dict[Latent, Tensor]
    batches: list[_Batch]
    blended: Sequence[Page]


class LinePages:
    """Lines and refinement weights on the model's device, from the cache or computed in batches.

    Not thread-safe. All work is queued on the current stream.

    Attributes:
        limit: number of positions along either axis whose lines fill half the cache.
    """

    def __init__(self, model: PackedModel) -> None:
        self._model = model
        self._cache = LineCache(CACHE_BYTES)
        self._refinements = LineCache(REFINEMENT_BYTES)
        self._graphs = LineGraphs(model)
        self.limit = CACHE_BYTES // 2 // model.line_bytes

    def prepare(self, pages: Iterable[Page], latents: Iterable[Latent], upload: Upload) -> Lines:
        """Look up pages, and the refinement weights of latents; add the inputs of what is missing to an upload."""
        found: dict[Page, Tensor] = {}
        missing: list[Page] = []
        blended: list[Page] = []
        wanted = list(dict.fromkeys(pages))
        for page in wanted:
            if page in found:
                continue
            lines = self._cache.get(page)
            if lines is None:
                (blended if page.before else missing).append(page)
                wanted += page.parts
                size = self._padded(page)
                lines = torch.empty(size, *self._model.line_shape, dtype=torch.float16, device=self._model.device)
            found[page] = lines
        refinements: dict[Latent, Tensor] = {}
        alone: list[Latent] = []  # latents without missing pages
        computed = dict.fromkeys(page.latent for page in missing)
        for latent in dict.fromkeys([*latents, *computed]):
            weights = self._refinements.get(latent)
            if weights is None:
                weights = self._model.allocate_refinement()
                if latent not in computed:
                    alone.append(latent)
            refinements[latent] = weights
        prepared = Lines(found, refinements, {}, [], blended)
        batches = [(list(dict.fromkeys(page.latent for page in pages)), pages) for pages in self._batches(missing)]
        batches += [(alone[start : start + STYLES], []) for start in range(0, len(alone), STYLES)]
        for own, wanted in batches:
            prepared.styles.update((latent, self._model.resolve(latent)) for latent in own if is_composed(latent))
            prepared.batches.append(self._prepare_batch(own, wanted, prepared, upload))
        return prepared

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int, length: int = PAGE) -> Tensor:
        """Queue the computation of lines [L, bundles, D, parts, 32], contiguous.

        Args:
            positions: of Viewport.line_coordinates, [L] or [3, L].
            length: positions of a page that is cached.
        """
        starts = range(0, positions.shape[-1], length)
        pages = [Page.of(latent, axis, positions[..., start : start + length]) for start in starts]
        upload = Upload(self._model.device)
        lines = self.prepare(pages, [], upload)
        upload.start()
        self.compute(lines, upload)
        return torch.cat([lines.pages[page][: page.length] for page in pages])

    def compute(self, lines: Lines, upload: Upload) -> None:
        """Queue the computation of what is missing. The upload has been started."""
        model = self._model
        for batch in lines.batches:
            block = upload[batch.block]
            if batch.graph is not None:
                self._graphs.replay(batch.graph, block)
            else:
                inputs = LineInputs.view(block, len(batch.latents), batch.positions, model.config.thickness)
                if batch.pages:
                    model.compute_lines(inputs)
                else:
                    model.compute_styles(inputs)
            for page in batch.pages:
                self._cache.put(page, lines.pages[page])
            for latent in batch.latents:
                self._refinements.put(latent, lines.refinements[latent])
        for page in lines.blended:
            self._blend(page, lines.pages)
            self._cache.put(page, lines.pages[page])

    def _blend(self, page: Page, pages: dict[Page, Tensor]) -> None:
        """Queue the computation of a blended page from its parts."""
        here, before = (pages[part].float().sum(dim=3) for part in page.parts)  # [L, bundles, D, 32]
        weights = np.zeros(len(here), np.float32)
        weights[: page.length] = np.frombuffer(page.weights)
        value = here + (before - here) * to_device_async(weights, self._model.device)[:, None, None, None]
        for part in range(self._model.parts):
            pages[page][:, :, :, part] = value
            value = value - pages[page][:, :, :, part]

    @property
    def graph_sizes(self) -> list[int]:
        """Numbers of positions for which there is a graph."""
        return self._graphs.sizes

    def capture_graphs(self) -> None:
        """Capture the graphs of small images, on the current stream."""
        self._graphs.capture_all()

    def clear(self) -> None:
        """Empty the caches of lines and refinement weights."""
        self._cache.clear()
        self._refinements.clear()

    def close(self) -> None:
        """Release the graphs, too."""
        self.clear()
        self._graphs.clear()

    def _batches(self, pages: Sequence[Page]) -> Iterator[list[Page]]:
        batch: list[Page] = []
        positions, latents = 0, set[Latent]()
        for page in pages:
            positions += self._padded(page)
            latents.add(page.latent)
            if batch and (positions > POSITIONS or len(latents) > STYLES):
                yield batch
                batch, positions, latents = [], self._padded(page), {page.latent}
            batch.append(page)
        if batch:
            yield batch

    def _padded(self, page: Page) -> int:
        """Positions of a page, padded to whole tiles."""
        unit = self._model.positions_per_tile
        return -(-page.length // unit) * unit

    def _prepare_batch(self, latents: Sequence[Latent], pages: Sequence[Page], lines: Lines, upload: Upload) -> _Batch:
        positions = sum(map(self._padded, pages))
        graph = self._graphs.padded(len(latents), positions)
        index = {latent: i for i, latent in enumerate(latents)}
        block = pack_line_inputs(
            self._model.config,
            [
                LatentInput(
                    latent,
                    lines.refinements[latent].data_ptr(),
                    lines.styles[latent].data_ptr() if latent in lines.styles else 0,
                )
                for latent in latents
            ],
            [
                PageInput(index[page.latent], page.axis, np.frombuffer(page.positions), lines.pages[page].data_ptr())
                for page in pages
            ],
            positions if graph is None else graph,
            0 if graph is None else self._graphs.unread,
        )
        return _Batch(latents, pages, positions, graph, upload.add(block))
