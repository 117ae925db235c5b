"""Training pictures from a folder or a zip in StyleGAN's layout (pictures, and labels in dataset.json)."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from model.errors import InputError
from model.training.archive import Archive
from model.training.decoding import open_picture, printable, reason, to_rgb
from model.training.progress import progress


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Pictures as uint8 [3, R, R] with their class (0 where there are none).

    Every picture's header is read at once, so that a size that does not fit is found before training begins; pixels
    are read when they are asked for. With ``mirror`` the second half of the indices are the mirror images of the first.

    Attributes:
        names: the pictures' names in the archive, sorted.
        labels: class of each of them.
        classes: number of classes, 0 without labels: that of their names, or else the highest class + 1.
        class_names: name of each class, empty where dataset.json tells none.

    Raises:
        InputError: no pictures, pictures that are broken or not of ``resolution``², or labels that are malformed or do
            not cover every picture.
    """

    def __init__(self, path: Path, resolution: int, mirror: bool = False) -> None:
        self.archive = Archive(path)
        self.names = self.archive.pictures
        self.resolution = resolution
        self.mirror = mirror
        if not self.names:
            raise InputError("data", f"{path} holds no pictures")
        labels = self.archive.labels()
        labels.require(self.names, "data")
        self.labels = [labels.of.get(name, 0) for name in self.names]
        self.class_names = labels.class_names
        self.classes = (len(labels.class_names) or max(self.labels) + 1) if labels.of else 0
        self._check_headers()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names, sizes, CRCs and labels; see :meth:`model.training.archive.Archive.digest`."""
        return self.archive.digest()

    def __len__(self) -> int:
        return len(self.names) * (2 if self.mirror else 1)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index % len(self.names)
        pixels = self._decode(self.names[number])
        if index >= len(self.names):
            pixels = pixels[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), self.labels[number]

    def _decode(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        with _faults_named(name), self._open(name, io.BytesIO(self.archive.read(name))) as image:
            return np.asarray(to_rgb(image))

    def _open(self, name: str, file: IO[bytes]) -> Image.Image:
        image = open_picture(file)
        if image.size != (self.resolution, self.resolution):
            size, wanted = "×".join(map(str, image.size)), f"{self.resolution}×{self.resolution}"
            raise InputError("data", f"{printable(name)} is {size}, not {wanted}")
        return image

    def _check_headers(self) -> None:
        faults = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # too large is an error here
            for name in progress(self.names, len(self.names), "checking"):
                try:
                    with _faults_named(name), self.archive.open(name) as file:
                        self._open(name, file).close()
                except InputError as error:
                    faults.append(error.message)
        if faults:
            others = f" ({len(faults) - 1} others of {len(self.names)} cannot be used either)" if faults[1:] else ""
            raise InputError("data", f"{faults[0]}{others}; creps dataset prepares pictures of one size")


@contextmanager
def _faults_named(name: str) -> Iterator[None]:
    """Whatever Pillow, zipfile and zlib may raise at a broken picture becomes an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError("data", f"{printable(name)} cannot be read as a picture: {reason(error)}") from None


class ShuffledBatches(Sampler[list[int]]):
    """Batches without end: every epoch is a new permutation, drawn from the seed and the epoch's number alone.

    ``start`` pictures have been served before, so that a resumed run goes on with the very next one.
    """

    def __init__(self, size: int, batch: int, seed: int, start: int = 0) -> None:
        self.size, self.batch, self.seed, self.position = size, batch, seed, start

    def __iter__(self) -> Iterator[list[int]]:
        indices = self._indices()
        while True:
            yield [next(indices) for _ in range(self.batch)]

    def _indices(self) -> Iterator[int]:
        epoch, offset = divmod(self.position, self.size)
        while True:
            permutation = np.random.default_rng((self.seed, epoch)).permutation(self.size)
            yield from (int(i) for i in permutation[offset:])
            epoch, offset = epoch + 1, 0
