"""Sets of real and generated images, and the classes of generated images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.archive import Archive
from model.data.dataset import ImageDataset, name_errors
from model.data.images import open_image
from model.errors import InputError
from model.util.cpus import available_cpus
from model.viewport import Grid, Viewport

MAX_SIDE = 8192
"""Largest side in pixels of evaluated images; scale consistency renders twice that."""

MAX_BATCH_PIXELS = 2**24
"""Pixels of a batch: 16 images of 1024². In float32 they are 200 MB before the first convolution."""

MAX_THREADS = 8
"""Threads that decode images. With more, Python itself is the limit."""


class Sampler(Protocol):
    """Renders the same viewport of several seeds."""

    def __call__(self, seeds: Sequence[int], viewport: Viewport, /) -> Sequence[NDArray[np.uint8 | np.float32]]:
        """An image [h, w, 3] of each seed, in levels 0 … 255, as integers or not yet rounded."""


class ImageSet(ABC):
    """Square images, uint8 [3, side, side], made in batches."""

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def make(self, indices: Sequence[int]) -> list[Tensor]:
        """The images of these indices."""


class RealImages(ImageSet):
    """A data set's images without their labels."""

    def __init__(self, data: ImageDataset) -> None:
        super().__init__(len(data), data.resolution)
        self._data = data

    def make(self, indices: Sequence[int]) -> list[Tensor]:
        # Threads, because decoding releases the GIL and processes would be started anew for each pass.
        with ThreadPoolExecutor(min(MAX_THREADS, available_cpus())) as pool:
            return [image for image, _ in pool.map(self._data.__getitem__, indices)]


class GeneratedImages(ImageSet):
    """Images of seeds 0 … count − 1, by default on the ``corners`` grid, as the original tools render them."""

    def __init__(self, sampler: Sampler, count: int, side: int, grid: Grid = "corners") -> None:
        super().__init__(count, side)
        self._sampler = sampler
        self._viewport = Viewport.resolve(side, side, grid=grid)

    def make(self, indices: Sequence[int]) -> list[Tensor]:
        images = self._sampler(indices, self._viewport)
        # Truncated to integers as in the original tools, not rounded.
        return [torch.from_numpy(image.astype(np.uint8).transpose(2, 0, 1).copy()) for image in images]


def limit_batch(batch: int, side: int) -> int:
    """``batch``, or as many images of this side as MAX_BATCH_PIXELS allow, but at least one."""
    return max(1, min(batch, MAX_BATCH_PIXELS // side**2))


def open_dataset(path: Path, conditional: bool = True, resolution: int = 1) -> ImageDataset:
    """Open a folder or zip of images, at the size of the first one.

    Args:
        conditional: whether their classes are needed.
        resolution: side to which images that keep their own size are averaged.

    Raises:
        InputError: it cannot be read, or its images are too large.
    """
    archive = Archive(path)
    side = resolution  # also if there is no image, which ImageDataset reports
    for name in () if archive.sizes() else archive.images[:1]:
        with name_errors(name), archive.open(name) as file, open_image(file) as image:
            side = image.width
    if side > MAX_SIDE:
        raise InputError("data", f"{path}: images may be up to {MAX_SIDE} pixels wide, not {side}")
    return ImageDataset(path, side, conditional=conditional)


def sample_classes(classes: int, data: ImageDataset | None, count: int) -> list[int] | None:
    """The class of each seed 0 … count − 1: sampled from the data's labels, or in turn if there is no data.

    Args:
        classes: number of the network's classes; if 0, the result is None.

    Raises:
        InputError: the data has no labels, or a class that the network does not have.
    """
    if not classes:
        return None
    if data is None:
        return [seed % classes for seed in range(count)]
    if not data.classes:
        raise InputError("data", f"has no classes, but the network has {classes}")
    if data.classes > classes:
        raise InputError("data", f"has {data.classes} classes, but the network only {classes}")
    sampled = np.random.default_rng(0).integers(len(data.labels), size=count)
    return [data.labels[index] for index in sampled]
