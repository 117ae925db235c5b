"""Training images in a folder or zip in StyleGAN's layout: images, and labels in dataset.json."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import Dataset

from model.data.archive import Archive
from model.data.images import open_image, reason, to_srgb
from model.data.labels import Labels
from model.data.storage import is_tar
from model.errors import InputError
from model.util.cpus import available_cpus
from model.util.progress import progress
from model.util.text import printable


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Images as uint8 [3, R, R] with their class, 0 if there are no classes.

    The header of every image is read at once, so that wrong sizes are found before training begins; pixels are read
    on access. Images that would be shown otherwise than a viewer shows them are refused: with transparency, or turned
    by an EXIF orientation. With ``mirror``, the second half of the indices are the mirror images of the first.

    Args:
        conditional: whether the classes are needed. Otherwise unusable labels count as none.

    Attributes:
        names: the images' names in the archive, sorted.
        labels: class of each image.
        classes: number of classes: of class names if there are any, else the highest class + 1; 0 without labels.
        class_names: name of each class, empty if dataset.json has none.

    Raises:
        InputError: there are no images, an image is broken or not of ``resolution``², or labels are malformed or do
            not cover every image.
    """

    def __init__(self, path: Path, resolution: int, mirror: bool = False, conditional: bool = True) -> None:
        if is_tar(path):  # its readers would unpack it once each, and it has no checksums
            raise InputError("data", f"{path} is a tar; {_advice(path, resolution)}")
        self.archive = Archive(path)
        self.names = self.archive.images
        self.resolution = resolution
        self.mirror = mirror
        if not self.names:
            raise InputError("data", f"{path} holds no images")
        labels = self._read_labels(conditional)
        self.labels = [labels.by_name.get(name, 0) for name in self.names]
        self.class_names = labels.class_names
        self.classes = (len(labels.class_names) or max(self.labels) + 1) if labels.by_name else 0
        self._check(self.names, self._check_header, "checking")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names, sizes, CRCs and labels; see :meth:`model.data.archive.Archive.digest`."""
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

    def check_pixels(self, rank: int = 0, size: int = 1) -> None:
        """Decode one of ``size`` shares of the images. Raises InputError if an image is damaged."""
        self._check(self.names[rank::size], self._decode, "decoding")

    def _read_labels(self, conditional: bool) -> Labels:
        try:
            labels = self.archive.labels()
            labels.check_complete(self.names, "data")
        except InputError:
            if conditional:
                raise
            return Labels()
        return labels

    def _decode(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        with name_errors(name), self._open(name, io.BytesIO(self.archive.read(name))) as image:
            return np.asarray(to_srgb(image).convert("RGB"))

    def _open(self, name: str, file: IO[bytes]) -> Image.Image:
        image = open_image(file)
        if image.size != (self.resolution, self.resolution):
            size, wanted = "×".join(map(str, image.size)), f"{self.resolution}×{self.resolution}"
            raise InputError("data", f"{printable(name)} is {size}, not {wanted}")
        if image.has_transparency_data:
            raise InputError("data", f"{printable(name)} has transparency")
        # Not image.getexif(), which decodes a PNG.
        if Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) != 1:
            raise InputError("data", f"{printable(name)} is turned by its EXIF orientation")
        return image

    def _check_header(self, name: str) -> None:
        with name_errors(name), self.archive.open(name) as file:
            self._open(name, file).close()

    def _check(self, names: Sequence[str], check: Callable[[str], object], task: str) -> None:
        def attempt(name: str) -> str | None:
            try:
                check(name)
            except InputError as error:
                return error.message
            return None

        with warnings.catch_warnings(), ThreadPoolExecutor(available_cpus()) as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # too large images are errors here
            parts = (names[i : i + 1000] for i in range(0, len(names), 1000))  # pool.map takes them all at once
            results = progress(chain.from_iterable(pool.map(attempt, part) for part in parts), len(names), task)
            errors = [message for message in results if message is not None]
        if errors:
            others = f" ({len(errors) - 1} others of {len(names)} are not usable either)" if errors[1:] else ""
            raise InputError("data", f"{errors[0]}{others}; {_advice(self.archive.path, self.resolution)}")


def _advice(path: Path, resolution: int) -> str:
    return f"creps dataset {path} NEW.zip --resolution {resolution} prepares images for training"


@contextmanager
def name_errors(name: str) -> Iterator[None]:
    """Turn any error of Pillow, zipfile or zlib into an InputError that names the image."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError("data", f"{printable(name)} cannot be read as an image: {reason(error)}") from None


def shuffled_batches(size: int, batch: int, seed: int, start: int = 0) -> Iterator[list[int]]:
    """Endless batches of indices. Each epoch is a permutation that depends on the seed and the epoch's number alone.

    ``start`` is the number of images served before, so that a resumed run continues with the next one.
    """
    first, offset = divmod(start, size)
    epochs = (np.random.default_rng((seed, epoch)).permutation(size).tolist() for epoch in count(first))
    indices = islice(chain.from_iterable(epochs), offset, None)
    while True:
        yield list(islice(indices, batch))
