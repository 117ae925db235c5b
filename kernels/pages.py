"""Pages of lines on a GPU: made together, kept, and shared by all tiles of a picture."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernels.backend import upload
from kernels.cache import LineCache
from kernels.graphs import LineGraphs
from kernels.lines import TILE
from kernels.network import GpuNetwork
from kernels.tiles import Axis
from model.spec import Latent

PAGE = 256
"""Most positions in a page."""

POSITIONS = 4096
"""Positions whose lines are made at once: 64 MiB for each activation of 1024 channels in fp16."""

STYLES = 8
"""Latents in that: each has its own modulated weights, 21 MB for the paper's 512 model in fp16."""

CACHE_BYTES = 256 * 2**20
"""Half of it holds the columns of a picture 37,449 pixels wide of the paper's 512 model in fp16."""

STYLES_KEPT = 256
"""Latents whose styles are kept: 0.2 MB each for the paper's models."""


class Page(NamedTuple):
    """What a page of lines is made of; ``positions`` are the bytes of its network coordinates, float64."""

    latent: Latent
    axis: int
    positions: bytes

    @property
    def length(self) -> int:
        """How many positions it has."""
        return len(self.positions) // np.dtype(np.float64).itemsize


def pages_of(latent: Latent, axis: Axis, tiles: range) -> dict[tuple[int, int], Page]:
    """The page of each tile and part of an axis, without positions beyond the whole picture."""
    return {
        (tile, part): Page(latent, axis.axis, axis.positions(tile, part)[: axis.inside(tile, part)].tobytes())
        for tile, part in itertools.product(tiles, range(axis.parts))
        if axis.inside(tile, part) > 0
    }


class LinePages:
    """The lines of pages, fp16 [positions, bundles, D, parts, 32] on the network's device, filled up to whole tiles.

    Not for several threads at once. All work goes to the current stream.

    Attributes:
        style: the style of a latent; those last used are kept.
        limit: positions along either axis whose lines fill half the cache.
    """

    def __init__(self, network: GpuNetwork) -> None:
        self._network = network
        self._cache = LineCache(CACHE_BYTES)
        self._graphs = LineGraphs(network)
        self.style = functools.lru_cache(STYLES_KEPT)(network.style)
        self.limit = CACHE_BYTES // 2 // network.line_bytes

    def make(self, pages: Iterable[Page]) -> dict[Page, Tensor]:
        """Lines from the cache, or drawn, as many pages together as is good."""
        made: dict[Page, Tensor] = {}
        missing: list[Page] = []
        for page in dict.fromkeys(pages):
            if (lines := self._cache.get(page)) is not None:
                made[page] = lines
            else:
                missing.append(page)
        for batch in self._batches(missing):
            for page, lines in zip(batch, self._draw(batch), strict=True):
                made[page] = lines
                self._cache.put(page, lines)
        return made

    def clear(self) -> None:
        """Gives up all that is kept."""
        self._cache.clear()
        self._graphs.clear()
        self.style.cache_clear()

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
        """Positions of a page, filled up to whole tiles."""
        unit = self._network.positions_per_tile
        return -(-page.length // unit) * unit

    def _draw(self, pages: Sequence[Page]) -> list[Tensor]:
        network = self._network
        latents = {latent: i for i, latent in enumerate(dict.fromkeys(page.latent for page in pages))}
        vectors = torch.stack([self.style(latent).vector for latent in latents])
        drawn, positions, axes, tiles = [], [], [], []
        for page in pages:
            size = self._padded(page)
            lines = torch.empty(size, *network.line_shape, dtype=torch.float16, device=network.device)
            positions.append(np.pad(np.frombuffer(page.positions), (0, size - page.length), mode="edge"))
            axes.append(np.full(size, page.axis, np.int32))
            rows = range(0, size * network.config.thickness, TILE)
            tiles += [(latents[page.latent], lines.data_ptr(), row) for row in rows]
            drawn.append(lines)
        self._graphs.draw_lines(
            vectors,
            upload(np.concatenate(positions), network.device),
            upload(np.concatenate(axes), network.device),
            upload(np.array(tiles, np.int64), network.device),
        )
        return drawn
