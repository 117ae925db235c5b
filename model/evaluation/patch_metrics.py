"""Metrics of patches: of images at several times their size, against images of the data that are as large."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.dataset import ImageDataset
from model.data.pyramid import Patch
from model.evaluation.detail import Spectra, edge_width, power_spectrum
from model.evaluation.image_sets import MAX_THREADS, ImageSet, Sampler
from model.evaluation.metrics import DistributionMetrics
from model.util.cpus import available_cpus
from model.util.progress import progress
from model.viewport import Viewport

SCALES = (1, 2, 4, 8)
"""Sizes of images, relative to that of their patches."""

BATCH = 32

DETAIL_COUNT = 256
"""Patches whose edges and spectra are measured, at most."""

Part = tuple[int, Patch]
"""An image of the data by its index, and the patch that is taken of it. Its seed is its position in a list of parts."""


class RealPatches(ImageSet):
    """Patches of a data set's images."""

    def __init__(self, data: ImageDataset, parts: Sequence[Part]) -> None:
        super().__init__(len(parts), data.resolution)
        self._data, self._parts = data, parts

    def make(self, indices: Sequence[int]) -> list[Tensor]:
        with ThreadPoolExecutor(min(MAX_THREADS, available_cpus())) as pool:
            return [image for image, _ in pool.map(lambda i: self._data.read(*self._parts[i]), indices)]


class GeneratedPatches(ImageSet):
    """Patches of the images of seeds 0 … N − 1 at the same places."""

    def __init__(self, sampler: Sampler, side: int, parts: Sequence[Part]) -> None:
        super().__init__(len(parts), side)
        self._sampler, self._parts = sampler, parts

    def make(self, indices: Sequence[int]) -> list[Tensor]:
        return [self._make(index) for index in indices]

    def _make(self, index: int) -> Tensor:
        _, patch = self._parts[index]
        viewport = Viewport.resolve(patch.side, patch.side, crop=(patch.x, patch.y, self.side, self.side))
        (image,) = self._sampler([index], viewport)
        return torch.from_numpy(image.astype(np.uint8).transpose(2, 0, 1).copy())


class PatchMetrics:
    """Compares patches of generated images with those of a data set, whose values are computed once.

    Args:
        data: images, of which those that keep their own size have patches at more scales than 1.
        metrics: of "pfid", "edges", "spectra".
        count: patches at each scale.
        inception_weights, device, batch: see DistributionMetrics.

    Attributes:
        side: of the patches in pixels.
        scales: those that the data reaches.

    Raises:
        InputError: as DistributionMetrics.
    """

    def __init__(
        self,
        data: ImageDataset,
        metrics: Collection[str],
        count: int,
        inception_weights: Path | None = None,
        device: torch.device | str = "cpu",
        batch: int = 32,
    ) -> None:
        self._data, self._metrics, self.side = data, metrics, data.resolution
        self._parts = {scale: parts for scale in SCALES if (parts := _choose_parts(data, scale, count))}
        self._fid: dict[int, DistributionMetrics] = {}
        if "pfid" in metrics:
            for scale, parts in self._parts.items():
                real = RealPatches(data, parts)
                self._fid[scale] = DistributionMetrics(real, ["fid"], inception_weights, None, device, batch)

    @property
    def scales(self) -> list[int]:
        return list(self._parts)

    def measure(self, sampler: Sampler) -> dict[str, float]:
        """The requested ones, for each scale s: ``pfid_s``, ``edges_s`` and ``edges_s_data``, ``spectra_s``.

        Edges are widths in pixels, left out where there are none. Spectra are the mean difference in dB between the
        powers of generated and real patches, over all frequencies.
        """
        values: dict[str, float] = {}
        for scale, parts in self._parts.items():
            generated = GeneratedPatches(sampler, self.side, parts)
            if scale in self._fid:
                values[f"pfid_{scale}"] = self._fid[scale].measure(generated)["fid"]
            images = list(_arrays(generated)) if {"edges", "spectra"} & set(self._metrics) else []
            if "edges" in self._metrics:
                widths = {f"edges_{scale}": edge_width(images), f"edges_{scale}_data": self._real_edges[scale]}
                values |= {name: width for name, width in widths.items() if width is not None}
            if "spectra" in self._metrics:
                difference = power_spectrum(images) - self.real_spectra[scale]
                values[f"spectra_{scale}"] = float(np.abs(difference).mean())
        return values

    def spectra(self, sampler: Sampler) -> Spectra:
        """Power spectra of generated patches."""
        generated = {scale: GeneratedPatches(sampler, self.side, parts) for scale, parts in self._parts.items()}
        return {scale: power_spectrum(_arrays(patches)) for scale, patches in generated.items()}

    @cached_property
    def real_spectra(self) -> Spectra:
        """Power spectra of the data's patches."""
        return {scale: power_spectrum(_arrays(RealPatches(self._data, parts))) for scale, parts in self._parts.items()}

    @cached_property
    def _real_edges(self) -> dict[int, float | None]:
        return {scale: edge_width(_arrays(RealPatches(self._data, parts))) for scale, parts in self._parts.items()}


def _choose_parts(data: ImageDataset, scale: int, count: int) -> list[Part]:
    """Patches at random places of the images that are large enough; none if there are no such images."""
    resolution = data.resolution
    large = [index for index, side in enumerate(data.sides) if side >= scale * resolution]
    corners = np.random.default_rng(scale).integers((scale - 1) * resolution + 1, size=(count, 2)).tolist()
    return [(large[i % len(large)], Patch(scale * resolution, *xy)) for i, xy in enumerate(corners)] if large else []


def _arrays(images: ImageSet) -> Iterator[NDArray[np.uint8]]:
    """The first DETAIL_COUNT images, [side, side, 3]."""
    count = min(len(images), DETAIL_COUNT)
    for start in progress(range(0, count, BATCH), count, "measuring detail", step=BATCH):
        for image in images.make(range(start, min(start + BATCH, count))):
            yield image.permute(1, 2, 0).numpy()
