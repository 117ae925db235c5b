"""What draws the bands of pictures: the face that a CPU's cores and a GPU show to the renderer."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kernels.tiles import Tiling
from model.spec import Latent
from model.viewport import Viewport

Progress = Callable[[int], object]
"""Called in the caller's thread with the multiply-adds of each piece of work done; in all Renderer.cost()."""

Output = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Band:
    """Some rows of a picture.

    Attributes:
        latent: the picture's.
        tiling: how the picture is cut.
        rows: tile rows that are drawn.
        output: where their visible pixels go, [h, w, 3].
    """

    latent: Latent
    tiling: Tiling
    rows: range
    output: Output


@dataclass(frozen=True, eq=False)
class Panel:
    """A part of a band, from left to right, whose lines are held together while it is drawn."""

    band: Band
    columns: range

    @property
    def positions(self) -> int:
        """Rows and columns whose lines are held."""
        rows, columns = self.band.tiling.rows, self.band.tiling.columns
        return len(self.band.rows) * rows.parts * rows.block + len(self.columns) * columns.parts * columns.block

    @property
    def supersampled(self) -> bool:
        """Whether its pixels are averages."""
        return self.band.tiling.rows.factor * self.band.tiling.columns.factor > 1

    @property
    def positions_shape(self) -> tuple[int, int]:
        """Visible rows and columns of network positions."""
        rows, columns = self.band.tiling.rows, self.band.tiling.columns
        (top, bottom), (left, right) = rows.visible(self.band.rows), columns.visible(self.columns)
        return (bottom - top) * rows.factor, (right - left) * columns.factor

    @property
    def blocks(self) -> int:
        tiling = self.band.tiling
        return len(self.band.rows) * tiling.rows.parts * len(self.columns) * tiling.columns.parts


def group_panels(bands: Iterable[Band], blocks: int, positions: int) -> Iterator[tuple[list[Panel], list[Band]]]:
    """Panels to be drawn together, and the bands that are complete with them.

    Args:
        bands: are taken as the groups are asked for.
        blocks: as many are enough for a group.
        positions: no more of them in a group of several panels.
    """
    group: list[Panel] = []
    complete: list[Band] = []
    for band in bands:
        for columns in band.tiling.panels():
            panel = Panel(band, columns)
            if group and sum(p.positions for p in [*group, panel]) > positions:
                yield group, complete
                group, complete = [], []
            group.append(panel)
            if columns.stop == band.tiling.columns.tiles.stop:
                complete.append(band)
            if sum(p.blocks for p in group) >= blocks:
                yield group, complete
                group, complete = [], []
    if group:
        yield group, complete


class Drawer(Protocol):
    """Draws with one network on one device. Its methods may be called from several threads at once."""

    name: str

    cache_bytes: int
    """Bytes of the lines that it keeps, at most."""

    def plan(self, viewport: Viewport) -> Tiling:
        """How a picture is best cut."""

    def allocate(self, height: int, width: int) -> Output:
        """Memory [height, width, 3] that bands are drawn into fast."""

    def draw(self, bands: Iterable[Band], progress: Progress | None) -> Iterator[Band]:
        """Draws bands and hands each on, in their order, when its output is complete. Takes them as it goes."""

    def warp(self, latent: Latent, coordinates: NDArray[np.float64]) -> Output:
        """Pixels [H, W, 3] at network coordinates [H, W, 2] (vertical, horizontal).

        Raises:
            InputError: this drawer draws whole rows and columns only.
        """

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        """The line bundles [bundles, 32, L, D] of network coordinates [L] along one axis, as the model scales them."""
