"""Real and drawn pictures as data sets, and which class a drawn picture is of."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model.errors import InputError
from model.training.archive import Archive
from model.training.dataset import ImageDataset
from model.training.decoding import open_picture, printable, reason
from model.viewport import Viewport

MAX_SIDE = 8192
"""Largest side in pixels of a picture that is judged; its scale consistency takes one of twice the side."""

MAX_PIXELS_AT_ONCE = 2**24
"""Pixels of a batch: 16 pictures of 1024². In float32 they are 200 MB before the first convolution."""

READERS = 8
"""Threads that decode pictures, at most: more than that, and Python itself is what they wait for."""


class Draw(Protocol):
    """Draws the same part of several pictures."""

    def __call__(self, seeds: Sequence[int], viewport: Viewport, /) -> Sequence[NDArray[np.uint8 | np.float32]]:
        """A picture [h, w, 3] of each seed, in levels 0 … 255, as integers or not yet rounded."""


class PictureSet(Dataset[Tensor], ABC):
    """Square pictures, uint8 [3, side, side], that are made several at a time.

    Attributes:
        count: number of pictures.
        side: width and height in pixels.
    """

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """The pictures of these numbers; torch's DataLoader calls it once a batch."""

    def at_once(self, batch: int) -> int:
        """How many pictures to take together: ``batch``, but fewer where they are large."""
        return pictures_at_once(self.side, batch)


class RealPictures(PictureSet):
    """A data set's pictures without their labels."""

    def __init__(self, data: ImageDataset) -> None:
        super().__init__(len(data), data.resolution)
        self._data = data

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        # Threads, for decoding leaves Python's lock alone, and processes would have to be started anew each time.
        with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
            return [picture for picture, _ in pool.map(self._data.__getitem__, indices)]


class DrawnPictures(PictureSet):
    """The pictures of seeds 0 … count − 1 from corner to corner, as the original tools draw them at any size."""

    def __init__(self, draw: Draw, count: int, side: int) -> None:
        super().__init__(count, side)
        self._draw = draw
        self._viewport = Viewport.resolve(side, side, grid="corners")

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        pictures = self._draw(indices, self._viewport)
        # Cut to integers, not rounded: so do the original tools.
        return [torch.from_numpy(picture.astype(np.uint8).transpose(2, 0, 1).copy()) for picture in pictures]


def pictures_at_once(side: int, batch: int) -> int:
    """``batch``, or as many pictures of this side as MAX_PIXELS_AT_ONCE allow, but one at least."""
    return max(1, min(batch, MAX_PIXELS_AT_ONCE // side**2))


def open_data(path: Path) -> ImageDataset:
    """The data set at ``path``, a folder or a zip, at the size of its first picture.

    Raises:
        InputError: it cannot be read, or its pictures are too large.
    """
    side = _first_side(path)
    if side > MAX_SIDE:
        raise InputError("data", f"{path}: pictures may be up to {MAX_SIDE} pixels wide, not {side}")
    return ImageDataset(path, side)


def pick_classes(classes: int, data: ImageDataset | None, count: int) -> list[int] | None:
    """The class of each seed 0 … count − 1: drawn from the data's labels, or in turn where there is no data.

    Args:
        classes: of the network; 0 for an unconditional one, whose pictures have none: the answer is None then.

    Raises:
        InputError: the data has no labels, or a class that the network does not know.
    """
    if not classes:
        return None
    if data is None:
        return [seed % classes for seed in range(count)]
    if not data.classes:
        raise InputError("data", f"has no classes, but the network has {classes}")
    if data.classes > classes:
        raise InputError("data", f"has {data.classes} classes, but the network only {classes}")
    drawn = np.random.default_rng(0).integers(len(data.labels), size=count)
    return [data.labels[index] for index in drawn]


@contextmanager
def progress(description: str, total: int, unit: str = "img") -> Iterator[Callable[[int], object]]:
    """A progress bar on stderr for what takes more than two seconds; without tqdm a plain line."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"{description} …", file=sys.stderr)
        yield lambda _: None
        return
    with tqdm(desc=description, total=total, unit=unit, delay=2, leave=False) as bar:
        yield bar.update


def _first_side(path: Path) -> int:
    """Width of the first picture; 1 where there is none, for opening the data set says what is wrong."""
    archive = Archive(path)
    for name in archive.pictures[:1]:
        try:
            with archive.open(name) as file, open_picture(file) as picture:
                return picture.width
        except Exception as error:  # decoders raise whatever comes to them
            raise InputError("data", f"{printable(name)} cannot be read as a picture: {reason(error)}") from None
    return 1
