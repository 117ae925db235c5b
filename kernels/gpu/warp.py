"""Warped images: pixels at any coordinates, for rotation or lens distortion.

As :mod:`kernels.block_warp` does: lines of a fixed lattice, and Catmull-Rom splines between them, here in the pixel
kernel.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.block_warp import PAGE, Places, lattice_density
from kernels.gpu.line_pages import LinePages
from kernels.gpu.model import PackedModel
from kernels.gpu.pixel_tasks import LAUNCH_PIXELS, Between, PixelTasks
from kernels.gpu.upload import Upload
from model.config import RGB
from model.generator import COLUMNS, ROWS
from model.latents.latent import Latent
from model.util.device import to_device_async
from model.viewport import Viewport


class WarpedPixels:
    """Pixels of one model at any coordinates. Not thread-safe; all work is queued on the current stream."""

    def __init__(self, model: PackedModel, pages: LinePages) -> None:
        self._model = model
        self._pages = pages
        finest = math.ceil(model.config.resolution * model.config.max_scale)
        self._density = lattice_density(finest, model.highest_frequency)

    def colours(self, latent: Latent, coordinates: NDArray[np.float64], viewport: Viewport) -> Tensor:
        """Colours [H, W, 3] in fp32 at network coordinates [H, W, 2] (vertical, horizontal).

        Of ``viewport`` only counts where lines are blended.
        """
        height, width, _ = coordinates.shape
        places = [Places.find(coordinates[..., axis], self._density) for axis in (ROWS, COLUMNS)]
        rows, columns = (self._lattice(latent, own.pages, axis, viewport) for axis, own in enumerate(places))
        first, fraction = (
            to_device_async(np.stack(own, axis=-1), self._model.device)  # [H, W, 2]
            for own in zip(*((own.first, own.fraction) for own in places), strict=True)
        )
        colours = torch.empty(height, width, RGB, device=self._model.device)
        upload, tasks = Upload(self._model.device), PixelTasks(self._model)
        styles = self._pages.prepare([], [latent], upload)
        step = max(LAUNCH_PIXELS // width, 1)  # whole rows, because coordinates are contiguous
        for top in range(0, height, step):
            between = Between(first[top : top + step], fraction[top : top + step])
            output = colours[top].data_ptr(), width
            tasks.add((rows, 0), (columns, 0), styles.refinements[latent], output, between)
        tasks.prepare(upload)
        upload.start()
        self._pages.compute(styles, upload)
        tasks.launch(upload, quantise=False, warp=True)
        return colours

    def _lattice(self, latent: Latent, pages: NDArray[np.int64], axis: int, viewport: Viewport) -> Tensor:
        """Lines [pages · PAGE, bundles, D, parts, 32] of pages of the lattice."""
        positions = (pages[:, None] * PAGE + np.arange(PAGE)).ravel() / self._density
        positions = viewport.line_coordinates(positions, COLUMNS - axis, self._model.config.resolution)
        return self._pages.lines(latent, positions, axis, PAGE)
