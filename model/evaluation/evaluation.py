"""All metrics of a network, prepared once and measured any number of times."""

import sys
from collections.abc import Collection
from pathlib import Path

import torch

from model.config import GeneratorConfig
from model.data.dataset import ImageDataset
from model.errors import InputError
from model.evaluation import DATA_METRICS, DEFAULT_COUNT, METRICS, PATCH_METRICS, SCALE_COUNT
from model.evaluation.equivariance import rotation_equivariance, translation_equivariance
from model.evaluation.image_sets import MAX_SIDE, GeneratedImages, RealImages, Sampler, sample_classes
from model.evaluation.metrics import DistributionMetrics
from model.evaluation.patch_metrics import PatchMetrics
from model.evaluation.scale_consistency import scale_consistency
from model.viewport import Grid

MAX_COUNT = 1_000_000
"""Most generated images: their Inception features are 8 GB."""

MAX_BATCH = 1024

RELIABLE_COUNT = 2048
"""Fewest images for FID: with fewer than Inception has features, their covariance is singular."""


class Evaluation:
    """Networks, data and settings of a set of metrics. All arguments are checked here, before anything is rendered.

    Args:
        metrics: names in METRICS.
        data: real images, required by DATA_METRICS and PATCH_METRICS, and the distribution of a conditional network's
            classes. The original tools compare with images that are not mirrored.
        count: generated images, of seeds 0 … count − 1; at most SCALE_COUNT of them are compared in pairs.
        size: side of generated images in pixels. Default: the data's, and the training resolution between scales.
        device: where features are computed.
        inception_weights, vgg_weights: files of weights, for fid, kid and pfid, and for pr.
        batch: most images at a time.

    Attributes:
        classes: class of every seed for the sampler; None for an unconditional network.
        size: side of the images that are compared with the data.
        grid: of those images. On ``corners``, as in the original tools, detail finer than their pixels would alias.
        scale_size, scale_count: side and number of those of PAIR_METRICS.
        distribution: the metrics that compare with the data; None if there are none.
        patches: those that compare patches with it; None if there are none.

    Raises:
        InputError: an argument is invalid; names it.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        metrics: Collection[str],
        data: ImageDataset | None = None,
        count: int = DEFAULT_COUNT,
        size: int | None = None,
        device: torch.device | str = "cpu",
        inception_weights: Path | None = None,
        vgg_weights: Path | None = None,
        batch: int = 32,
    ) -> None:
        _check(config, metrics, count, size, batch)
        self.metrics = metrics
        self.data = data
        self.count = count
        self.size = size or (config.resolution if data is None else data.resolution)
        self.grid: Grid = "corners" if config.max_scale == 1 else "centers"
        self.scale_size = size or config.resolution
        self.scale_count = min(count, SCALE_COUNT)
        self.classes = sample_classes(config.classes, data, count)
        self.distribution: DistributionMetrics | None = None
        self._batch = batch
        if compared := [metric for metric in metrics if metric in DATA_METRICS]:
            if data is None:
                raise InputError("data", f"is needed by {', '.join(compared)}")
            self.distribution = DistributionMetrics(
                RealImages(data), compared, inception_weights, vgg_weights, device, batch
            )
            self.distribution.check_count("count", count)
            if "fid" in metrics and (fewer := min(len(data), count)) < RELIABLE_COUNT:
                print(
                    f"fid of {fewer} images is too high and varies: take {RELIABLE_COUNT:,} or more real and generated "
                    "ones, or kid",
                    file=sys.stderr,
                )
        self.patches: PatchMetrics | None = None
        if compared := [metric for metric in metrics if metric in PATCH_METRICS]:
            if data is None:
                raise InputError("data", f"is needed by {', '.join(compared)}")
            self.patches = PatchMetrics(data, compared, count, inception_weights, device, batch)

    def measure(self, sampler: Sampler) -> dict[str, float]:
        """The requested ones of ``fid``, ``kid``, ``precision``, ``recall``, of ``scale``, ``scale_worst``, ``eqt`` and
        ``eqr`` in dB, and those of PatchMetrics.

        Raises:
            InputError: a real image cannot be read.
        """
        values: dict[str, float] = {}
        if self.distribution is not None:
            values |= self.distribution.measure(GeneratedImages(sampler, self.count, self.size, self.grid))
        if "scale" in self.metrics:
            values["scale"], values["scale_worst"] = scale_consistency(
                sampler, self.scale_size, self.scale_count, self._batch
            )
        if "eqt" in self.metrics:
            values["eqt"] = translation_equivariance(sampler, self.scale_size, self.scale_count)
        if "eqr" in self.metrics:
            values["eqr"] = rotation_equivariance(sampler, self.scale_size, self.scale_count)
        if self.patches is not None:
            values |= self.patches.measure(sampler)
        return values


def _check(config: GeneratorConfig, metrics: Collection[str], count: int, size: int | None, batch: int) -> None:
    for metric in metrics:
        if metric not in METRICS:
            raise InputError("metrics", f"must be of {', '.join(METRICS)}, not {metric!r}")
    limits = {"count": (count, MAX_COUNT), "size": (1 if size is None else size, MAX_SIDE), "batch": (batch, MAX_BATCH)}
    for field, (value, limit) in limits.items():
        if not 1 <= value <= limit:
            raise InputError(field, f"must be from 1 to {limit:,}, not {value}")
    if "scale" in metrics and size is not None and size < config.resolution:
        raise InputError("size", f"scale takes at least the training resolution {config.resolution}, not {size}")
