"""Check of an image as it is served, after the check of single pixels in kernels/accuracy.py.

The served kernels quantise, and each of their programs renders many tiles, one after another. Such an image must be
near fp64, the same in every rendering, and the same in a crop.
"""

import copy
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.accuracy import MAX_LEVELS, to_levels
from kernels.backend import any_latent
from kernels.gpu.renderer import TritonBackend
from kernels.tiling import Band, Output
from model.generator import COLUMNS, ROWS, Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles
from model.viewport import Viewport

SIDE = 512
"""Side of the checked image in pixels: four tiles or more for every program of an H200."""

STEP_Y, STEP_X = 5, 3
"""Every fifth row and every third column is compared with fp64: pixels at every place of a tile."""

_seeds = itertools.count(1)
"""One for each check: memory that was not written to may still hold the image of an earlier one."""


@dataclass(frozen=True)
class ImageCheck:
    """How an image differs from what it should be.

    Attributes:
        side: its width and height.
        levels: largest difference from fp64, in 8-bit levels.
        unrepeatable: number of 8-bit values that a second rendering changed.
        crop: number of 8-bit values that differ in a crop.
    """

    side: int
    levels: int
    unrepeatable: int
    crop: int

    @property
    def passes(self) -> bool:
        return self.levels <= MAX_LEVELS and not self.unrepeatable and not self.crop

    def __str__(self) -> str:
        return (
            f"{self.side}×{self.side} image: at most {self.levels} of 255 levels from fp64, "
            f"{self.unrepeatable} values changed by rendering it again, {self.crop} by a crop"
        )


@torch.no_grad()
def check_image(backend: TritonBackend, generator: Generator, side: int = SIDE) -> ImageCheck:
    """Render the middle of a large image and compare it.

    Args:
        backend: its caches are released.
        generator: the network in fp32, on the backend's device.
    """
    resolution, latent = generator.config.resolution, any_latent(generator.config, next(_seeds))
    whole = max(side, resolution)  # so that it is not supersampled
    left = top = (whole - side) // 2
    image = _render(backend, latent, whole, (left, top, side, side))
    again = _render(backend, latent, whole, (left, top, side, side))
    x, y, width, height = side // 3, side // 5, side // 2, side // 4
    crop = _render(backend, latent, whole, (left + x, top + y, width, height))
    viewport = Viewport.resolve(whole, whole)
    rows = viewport.rows(top, top + side, resolution, 1)[::STEP_Y]
    columns = viewport.columns(left, left + side, resolution, 1)[::STEP_X]
    expected = _exact_levels(generator, latent, rows, columns)
    return ImageCheck(
        side=side,
        levels=int(np.abs(expected - image[::STEP_Y, ::STEP_X]).max()),
        unrepeatable=int((image != again).sum()),
        crop=int((image[y : y + height, x : x + width] != crop).sum()),
    )


def _render(backend: TritonBackend, latent: Latent, side: int, crop: tuple[int, int, int, int]) -> Output:
    """A crop of an image, with lines that were computed anew."""
    backend.release_caches()
    tiling = backend.plan(Viewport.resolve(side, side, crop=crop))
    output = backend.allocate(crop[3], crop[2])
    for _ in backend.render([Band(latent, tiling, tiling.rows.tiles, output)], None):
        pass
    return output


def _exact_levels(
    generator: Generator, latent: Latent, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """8-bit levels [H, W, 3] of the network in fp64."""
    synthesis, device = copy.deepcopy(generator.synthesis).double(), generator.mapping.w_avg.device
    ws = layer_styles(generator.config, generator.mapping, latent).double()  # [1, num_ws, w_dim]
    lines = [
        synthesis.lines(ws, torch.from_numpy(positions).to(device), axis)
        for positions, axis in ((rows, ROWS), (columns, COLUMNS))
    ]
    levels: NDArray[np.float64] = to_levels(synthesis.pixels(ws, *lines)[0].permute(1, 2, 0)).cpu().numpy()
    return levels
