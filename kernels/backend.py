"""The protocol of render backends, and helpers that several of them use."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kernels.tiling import Band, Output, Tiling
from model.config import GeneratorConfig
from model.latents.latent import Latent
from model.viewport import Viewport

Progress = Callable[[int], object]
"""Called in the caller's thread with the multiply-adds of each finished piece of work; their sum is Renderer.cost()."""


class RenderBackend(Protocol):
    """Renders images of one network on one device. Methods may be called from several threads at once."""

    name: str

    arithmetic: str
    """What decides the last bits of a pixel: precision, kernels and device. Letters, digits and hyphens."""

    cache_bytes: int
    """Upper limit in bytes of a line cache of its own; 0 for a shared one."""

    def plan(self, viewport: Viewport) -> Tiling:
        """Divide an image into bands and panels of a size that suits the device."""

    def allocate(self, height: int, width: int, *, deep: bool = False) -> Output:
        """Memory [height, width, 3] for output, uint8 or float32 if it is ``deep``; on a GPU it is pinned, for fast
        copies."""

    def render(self, bands: Iterable[Band], progress: Progress | None) -> Iterator[Band]:
        """Render bands and yield each, in order, when its output is complete. Consumes ``bands`` lazily."""

    def warp(self, latent: Latent, viewport: Viewport, output: Output, progress: Progress | None) -> None:
        """Render the crop [h, w, 3] of a warped image, one whose pixels do not lie on common rows and columns."""

    def lines(self, latent: Latent, positions: NDArray[np.float64], axis: int) -> Tensor:
        """Line bundles [bundles, 32, L, D] at network coordinates [L] along one axis, scaled as in the model."""

    def styles(self, latent: Latent) -> Tensor:
        """The styles w+ [num_ws, w_dim] of a latent, on the backend's device."""

    def close(self) -> None:
        """Release threads and caches. The backend cannot be used afterwards."""


def any_latent(config: GeneratorConfig, seed: int = 0) -> Latent:
    """A latent for any network: of class 0 if it is conditional."""
    return Latent(seed=seed, class_index=0 if config.classes else None)


def quantise(colours: Tensor) -> NDArray[np.uint8]:
    """Colours −1 … 1 → 0 … 255 as in the original tools: truncated, not rounded. NaN becomes 0."""
    levels: NDArray[np.floating] = colours.cpu().numpy() * np.float32(127.5)
    levels += np.float32(128)
    # Of a number and NaN, fmax is the number.
    np.fmin(np.fmax(levels, 0, out=levels), 255, out=levels)
    return levels.astype(np.uint8)


def to_pixels(colours: Tensor, *, deep: bool) -> Output:
    """Colours as they are, in float32, if they are ``deep``; else quantised."""
    return colours.float().cpu().numpy() if deep else quantise(colours)
