"""Training images in a folder or zip in StyleGAN's layout: images, and labels in dataset.json.

The images have one size, or keep their own, as model/data/pyramid.py describes.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import Dataset

from model.data.archive import Archive
from model.data.images import open_image, reason, to_srgb
from model.data.labels import Labels
from model.data.pyramid import TILE, Patch, Pixels, StoredImage, Tile
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

    Images that keep their own size are averaged down to R×R, or read as patches.

    Args:
        conditional: whether the classes are needed. Otherwise unusable labels count as none.

    Attributes:
        names: the images' names in the archive, sorted.
        keeps_sizes: whether images keep their own size.
        sides: width and height of each image in pixels, at least R.
        labels: class of each image.
        classes: number of classes: of class names if there are any, else the highest class + 1; 0 without labels.
        class_names: name of each class, empty if dataset.json has none.

    Raises:
        InputError: there are no images, an image is broken, not of ``resolution``² or of the size that dataset.json
            states, or labels are malformed or do not cover every image.
    """

    def __init__(self, path: Path, resolution: int, mirror: bool = False, conditional: bool = True) -> None:
        if is_tar(path):  # its readers would unpack it once each, and it has no checksums
            raise InputError("data", f"{path} is a tar; {_advice(str(path), resolution)}")
        self.archive = Archive(path)
        self.resolution = resolution
        self.mirror = mirror
        self._images = self._find_images()
        self.names = [image.name for image in self._images]
        self.sides = [image.side for image in self._images]
        labels = self._read_labels(conditional)
        self.labels = [labels.by_name.get(name, 0) for name in self.names]
        self.class_names = labels.class_names
        self.classes = (len(labels.class_names) or max(self.labels) + 1) if labels.by_name else 0
        self._check(self._images, self._check_header, "checking")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names, sizes, CRCs and labels; see :meth:`model.data.archive.Archive.digest`."""
        return self.archive.digest()

    def __len__(self) -> int:
        return len(self.names) * (2 if self.mirror else 1)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(index, Patch(self.resolution, 0, 0))

    def at(self, resolution: int) -> "ImageDataset":
        """The same images, which keep their own size, read at another resolution, at most this one."""
        if not self.keeps_sizes or resolution > self.resolution:
            raise ValueError(f"images of {self.resolution}² cannot be read at {resolution}²")
        other = copy(self)
        other.resolution = resolution
        return other

    def side(self, index: int) -> int:
        """Width and height in pixels of an image."""
        return self.sides[index % len(self.sides)]

    def read(self, index: int, patch: Patch) -> tuple[Tensor, int]:
        """A patch, uint8 [3, R, R], of the image resized to at most its own size, and the image's class.

        Raises IndexError, and InputError if the image cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index % len(self._images)
        mirrored = index >= len(self._images)
        if mirrored:
            patch = patch._replace(x=patch.side - self.resolution - patch.x)
        pixels = self._images[number].read(patch, self.resolution, self._decode)
        if mirrored:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), self.labels[number]

    def check_pixels(self, rank: int = 0, size: int = 1) -> None:
        """Decode one of ``size`` shares of the images. Raises InputError if an image is damaged."""
        self._check(self._images[rank::size], self._decode, "decoding")

    def _find_images(self) -> list[StoredImage]:
        path, resolution = self.archive.path, self.resolution
        sizes = self.archive.sizes()
        self.keeps_sizes = bool(sizes)
        if small := min(((side, name) for name, side in sizes.items() if side < resolution), default=None):
            side, name = small
            advice = _advice("ORIGINALS", resolution, keep_size=True)
            raise InputError(
                "data", f"{printable(name)} is {side}×{side}, not {resolution}×{resolution} or more; {advice}"
            )
        images = [StoredImage(name, sizes[name], TILE) for name in sorted(sizes)]
        images = images or [StoredImage(name, resolution, resolution) for name in self.archive.images]
        if not images:
            raise InputError("data", f"{path} holds no images")
        return images

    def _read_labels(self, conditional: bool) -> Labels:
        try:
            labels = self.archive.labels()
            labels.check_complete(self.names, "data")
        except InputError:
            if conditional:
                raise
            return Labels()
        return labels

    def _decode(self, tile: Tile) -> Pixels:
        with name_errors(tile.name), self._open(tile, io.BytesIO(self.archive.read(tile.name))) as image:
            return np.asarray(to_srgb(image).convert("RGB"))

    def _open(self, tile: Tile, file: IO[bytes]) -> Image.Image:
        image, name = open_image(file), printable(tile.name)
        if image.size != (tile.width, tile.height):
            size, wanted = "×".join(map(str, image.size)), f"{tile.width}×{tile.height}"
            raise InputError("data", f"{name} is {size}, not {wanted}")
        if image.has_transparency_data:
            raise InputError("data", f"{name} has transparency")
        # Not image.getexif(), which decodes a PNG.
        if Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) != 1:
            raise InputError("data", f"{name} is turned by its EXIF orientation")
        return image

    def _check_header(self, tile: Tile) -> None:
        if tile.name not in self.archive:
            raise InputError("data", f"{printable(tile.name)} is missing")
        with name_errors(tile.name), self.archive.open(tile.name) as file:
            self._open(tile, file).close()

    def _check(self, images: Sequence[StoredImage], check: Callable[[Tile], object], task: str) -> None:
        def attempt(image: StoredImage) -> str | None:
            try:
                for level in range(len(image.levels)):
                    for tile in image.tiles(level):
                        check(tile)
            except InputError as error:
                return error.message
            return None

        with warnings.catch_warnings(), ThreadPoolExecutor(available_cpus()) as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # too large images are errors here
            parts = (images[i : i + 1000] for i in range(0, len(images), 1000))  # pool.map takes them all at once
            results = progress(chain.from_iterable(pool.map(attempt, part) for part in parts), len(images), task)
            errors = [message for message in results if message is not None]
        if errors:
            others = f" ({len(errors) - 1} others of {len(images)} are not usable either)" if errors[1:] else ""
            kept = self.keeps_sizes
            advice = _advice("ORIGINALS" if kept else str(self.archive.path), self.resolution, kept)
            raise InputError("data", f"{errors[0]}{others}; {advice}")


def _advice(source: str, resolution: int, keep_size: bool = False) -> str:
    option = " --keep-size" if keep_size else ""
    return f"creps dataset {source} NEW.zip --resolution {resolution}{option} prepares images for training"


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
