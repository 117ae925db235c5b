"""Training pictures from a folder or a zip in StyleGAN's layout (pictures, and labels in dataset.json)."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from model.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
LABELS = "dataset.json"


class Archive:
    """The files of a folder or of a zip, by name, as bytes. Opened anew in every process that reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            self.names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                self.names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        else:
            raise InputError("data", f"{path} is neither a folder nor a zip")

    @property
    def pictures(self) -> list[str]:
        """Names of the files that look like pictures."""
        return [name for name in self.names if Path(name).suffix.lower() in SUFFIXES]

    def read(self, name: str) -> bytes:
        if self.path.is_dir():
            return (self.path / name).read_bytes()
        if self._zip is None:
            self._zip = zipfile.ZipFile(self.path)
        return self._zip.read(name)

    def labels(self) -> dict[str, int]:
        """Class of each picture by name, empty where the data set has no labels."""
        if LABELS not in self.names:
            return {}
        try:
            labels = json.loads(self.read(LABELS)).get("labels")
            return {str(name): int(label) for name, label in labels or []}
        except (ValueError, TypeError, AttributeError):
            raise InputError("data", f"{self.path}: {LABELS} is not {{'labels': [[name, class], …]}}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Pictures as uint8 [3, R, R] with their class (0 where there are none).

    With ``mirror`` the second half of the indices are the mirror images of the first.

    Raises:
        InputError: no pictures, or labels that do not cover every picture.
    """

    def __init__(self, path: Path, resolution: int, mirror: bool = False) -> None:
        self.archive = Archive(path)
        self.names = self.archive.pictures
        self.resolution = resolution
        self.mirror = mirror
        if not self.names:
            raise InputError("data", f"{path} holds no pictures")
        labels = self.archive.labels()
        if labels and (missing := [name for name in self.names if name not in labels]):
            raise InputError("data", f"{path}: {LABELS} has no class for {missing[0]}")
        if labels and min(labels.values()) < 0:
            raise InputError("data", f"{path}: {LABELS} has a negative class")
        self.labels = [labels.get(name, 0) for name in self.names]
        self.classes = max(self.labels) + 1 if labels else 0
        self[0]  # a data set of another size is refused before the networks are built

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
        try:
            with Image.open(io.BytesIO(self.archive.read(name))) as image:
                if image.size != (self.resolution, self.resolution):
                    size, wanted = "×".join(map(str, image.size)), f"{self.resolution}×{self.resolution}"
                    raise InputError(
                        "data", f"{name} is {size}, not {wanted}; creps dataset prepares pictures of one size"
                    )
                return np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, zipfile.BadZipFile) as error:
            raise InputError("data", f"{name} cannot be read as a picture: {error}") from None


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
