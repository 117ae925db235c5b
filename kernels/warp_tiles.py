"""Division of a warped image into tiles, and the network coordinates of their samples.

Tiles and blocks are aligned to the whole image, and a tile's coordinates are computed in arrays of the same shape
wherever the crop begins: a pixel is sampled alike in every part of the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.tiling import Output
from model.config import RGB
from model.geometry.maps import PullBack, is_affine, pull_back
from model.geometry.sampling import BLOCK, sample_counts
from model.viewport import Crop, Viewport

FILL = -1.0
"""Colour of samples that show no picture: black."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of blocks that all have m × m per pixel.

    Attributes:
        corners: top and left of each block in the tile, [n, 2] pixels.
        coordinates: network coordinates (vertical, horizontal), [n, 16·m, 16·m, 2]; those without a picture are 0.
        filled: samples without a picture, [n, 16·m, 16·m].
    """

    corners: NDArray[np.int64]
    coordinates: NDArray[np.float64]
    filled: NDArray[np.bool_]

    @property
    def factor(self) -> int:
        """m."""
        return int(self.filled.shape[1] // BLOCK)


@dataclass(frozen=True)
class WarpTile:
    """A square of ``side`` pixels of a warped image; ``row`` and ``column`` count tiles of the whole image.

    Attributes:
        pull_back: of the viewport's transforms.
        uniform_samples: per axis of every pixel, where they are the same everywhere; otherwise None.
    """

    viewport: Viewport
    resolution: int
    side: int
    row: int
    column: int
    max_scale: float
    pull_back: PullBack
    uniform_samples: int | None

    @property
    def crop(self) -> tuple[slice, slice]:
        """Rows and columns of the tile that the image's crop shows."""
        return self._overlap(self.viewport.crop)

    @property
    def pixels(self) -> int:
        """Pixels of the tile that the image's crop shows."""
        rows, columns = self.crop
        return int((rows.stop - rows.start) * (columns.stop - columns.start))

    def sample(self, *, visible: bool) -> list[Samples]:
        """The samples of all blocks of the whole image, or only of those that the crop shows, one entry for each m."""
        counts = self._counts()
        chosen = np.zeros(counts.shape, bool)
        whole = 0, 0, self.viewport.width, self.viewport.height
        rows, columns = self._overlap(self.viewport.crop if visible else whole)
        chosen[rows.start // BLOCK : -(-rows.stop // BLOCK), columns.start // BLOCK : -(-columns.stop // BLOCK)] = True
        return [
            self._sample(np.argwhere(chosen & (counts == m)) * BLOCK, int(m))
            for m in np.unique(counts[chosen]).tolist()
        ]

    def place(self, pixels: Output, output: Output) -> None:
        """Copy the visible part of the tile's pixels [side, side, 3] into the image's crop."""
        rows, columns = self.crop
        x, y, _, _ = self.viewport.crop
        top, left = self.row * self.side - y + rows.start, self.column * self.side - x + columns.start
        output[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start] = pixels[rows, columns]

    def _overlap(self, box: Crop) -> tuple[slice, slice]:
        """Rows and columns of the tile that belong to a box x, y, w, h of the whole image."""
        x, y, w, h = box
        top, left = self.row * self.side, self.column * self.side
        return (
            slice(max(y - top, 0), min(y + h - top, self.side)),
            slice(max(x - left, 0), min(x + w - left, self.side)),
        )

    def _counts(self) -> NDArray[np.int64]:
        if self.uniform_samples is not None:
            return np.full((self.side // BLOCK, self.side // BLOCK), self.uniform_samples)
        x, y = (
            self.viewport.edges(index * self.side, (index + 1) * self.side, axis)
            for axis, index in ((0, self.column), (1, self.row))
        )
        return sample_counts(self.pull_back, x, y, self.resolution, self.max_scale)

    def _sample(self, corners: NDArray[np.int64], m: int) -> Samples:
        x, y = (
            self.viewport.plane(index * self.side * m, (index + 1) * self.side * m, axis, m)
            for axis, index in ((0, self.column), (1, self.row))
        )
        steps = np.arange(BLOCK * m)
        rows = y[corners[:, :1] * m + steps][:, :, None] - 0.5  # [n, 16·m, 1]
        columns = x[corners[:, 1:] * m + steps][:, None, :] - 0.5  # [n, 1, 16·m]
        u, v = self.pull_back(*np.broadcast_arrays(columns, rows))
        locate = self.viewport.network_coordinates
        vertical, horizontal = locate(v + 0.5, 1, self.resolution), locate(u + 0.5, 0, self.resolution)
        filled = np.isnan(vertical) | np.isnan(horizontal)
        coordinates = np.stack([vertical, horizontal], axis=-1)  # [n, 16·m, 16·m, 2]
        coordinates[filled] = 0.0
        return Samples(corners, coordinates, filled)


def warp_tiles(viewport: Viewport, resolution: int, side: int, max_scale: float = 1.0) -> Iterator[WarpTile]:
    """The tiles that an image's crop touches. ``side`` is a multiple of BLOCK."""
    pull = pull_back(viewport.transform)
    samples = _uniform_samples(viewport, pull, resolution, max_scale)
    x, y, w, h = viewport.crop
    for row in range(y // side, -(-(y + h) // side)):
        for column in range(x // side, -(-(x + w) // side)):
            yield WarpTile(viewport, resolution, side, row, column, max_scale, pull, samples)


def _uniform_samples(viewport: Viewport, pull: PullBack, resolution: int, max_scale: float) -> int | None:
    """Samples per axis of every pixel, if the transforms have the same Jacobian everywhere."""
    if viewport.grid == "corners":
        return 1
    if not is_affine(viewport.transform):
        return None
    x, y = (viewport.edges(0, BLOCK, axis) for axis in (0, 1))
    return int(sample_counts(pull, x, y, resolution, max_scale)[0, 0])


def blank(side: int, output: Output) -> Output:
    """Pixels [side, side, 3] of a tile of ``output``, to be written block by block."""
    return np.zeros((side, side, RGB), output.dtype)


def put_blocks(samples: Samples, blocks: Output, tile: Output) -> None:
    """Write blocks [n, 16, 16, 3] into a tile."""
    for (top, left), block in zip(samples.corners.tolist(), blocks, strict=True):
        tile[top : top + BLOCK, left : left + BLOCK] = block
