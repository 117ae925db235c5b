"""FID, KID, precision and recall of generated against real images, computed by torch-fidelity."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from model.errors import InputError
from model.evaluation.extractors import INCEPTION, VGG16, Extractor, import_fidelity
from model.evaluation.image_sets import ImageSet, limit_batch
from model.util.progress import progress

PR_NEIGHBORS = 3
"""k of precision and recall: a ball reaches to the k-th nearest image of its own set (Kynkäänniemi et al. 2019)."""

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""KID is the mean over random subsets of this number and size (Bińkowski et al. 2018). If there are fewer images, each
subset has all of them, as in the original tools; the estimate is unbiased for every size."""

MIN_IMAGES = {"fid": 2, "kid": 2, "pr": PR_NEIGHBORS + 1}
"""Images that a metric needs to be defined."""


class DistributionMetrics:
    """Compares sets of generated images with one set of real ones, whose features are computed once.

    Args:
        metrics: names in DATA_METRICS.
        inception_weights, vgg_weights: files of weights, for FID and KID, and for precision and recall.
        device: where features are computed.
        batch: most images at a time.

    Raises:
        InputError: the weights are invalid, torch-fidelity is not installed, or there are too few real images.
    """

    def __init__(
        self,
        real: ImageSet,
        metrics: Collection[str],
        inception_weights: Path | None = None,
        vgg_weights: Path | None = None,
        device: torch.device | str = "cpu",
        batch: int = 32,
    ) -> None:
        self._real = real
        self._metrics = metrics
        self._device = torch.device(device)
        self._batch = batch
        self.check_count("data", len(real))
        weights = {INCEPTION: inception_weights, VGG16: vgg_weights}
        needed = {extractor: path for extractor, path in weights.items() if set(extractor.metrics) & set(metrics)}
        self._networks = {extractor: extractor.load(path, self._device) for extractor, path in needed.items()}
        self.weights = {extractor.name: extractor.digest(path) for extractor, path in needed.items() if path}
        """SHA-256 of the files of weights, by the network's name."""

    def check_count(self, field: str, count: int) -> None:
        """Raise InputError if one of the metrics needs more images."""
        for metric in self._metrics:
            if count < MIN_IMAGES[metric]:
                raise InputError(field, f"{metric} takes at least {MIN_IMAGES[metric]} images, not {count}")

    def kid_subset_size(self, generated: int) -> int:
        """Size of KID's subsets for this number of generated images."""
        return min(KID_SUBSET_SIZE, generated, len(self._real))

    def measure(self, generated: ImageSet) -> dict[str, float]:
        """The requested ones of ``fid``, ``kid``, ``precision`` and ``recall``.

        Raises:
            InputError: there are too few generated images or a real one cannot be read; nothing was rendered.
        """
        self.check_count("count", len(generated))
        real = self._real_features
        fake = self._extract(generated, "rendering")
        values: dict[str, float] = {}
        for metric in progress(self._metrics, len(self._metrics), "comparing features", unit="metric"):
            pair = fake[metric], real[metric]
            if metric == "fid":
                values["fid"] = _fid(*pair)
            elif metric == "kid":
                values["kid"] = _kid(*pair, self.kid_subset_size(len(generated)))
            else:
                values["precision"], values["recall"] = _precision_recall(*pair, self._device)
        return values

    @cached_property
    def _real_features(self) -> dict[str, Tensor]:
        return self._extract(self._real, "reading the data")

    @torch.no_grad()
    def _extract(self, images: ImageSet, description: str) -> dict[str, Tensor]:
        """Features [N, features] on the CPU by metric. Each image is made once for all networks."""
        parts: dict[Extractor, list[Tensor]] = {extractor: [] for extractor in self._networks}
        size = limit_batch(self._batch, images.side)
        for start in progress(range(0, len(images), size), len(images), description, step=size):
            batch = torch.stack(images.make(range(start, min(start + size, len(images))))).to(self._device)
            for extractor, network in self._networks.items():
                parts[extractor].append(network(batch)[0].cpu())
        features = {extractor: torch.cat(rows) for extractor, rows in parts.items()}
        return {metric: rows for extractor, rows in features.items() for metric in extractor.metrics}


def _fid(fake: Tensor, real: Tensor) -> float:
    fidelity = import_fidelity("metric_fid")
    statistics = (fidelity.fid_features_to_statistics(features) for features in (fake, real))
    return float(fidelity.fid_statistics_to_metric(*statistics, verbose=False)[fidelity.KEY_METRIC_FID])


def _kid(fake: Tensor, real: Tensor, subset_size: int) -> float:
    fidelity = import_fidelity("metric_kid")
    values = fidelity.kid_features_to_metric(
        fake, real, kid_subsets=KID_SUBSETS, kid_subset_size=subset_size, verbose=False
    )
    return float(values[fidelity.KEY_METRIC_KID_MEAN])


def _precision_recall(fake: Tensor, real: Tensor, device: torch.device) -> tuple[float, float]:
    fidelity = import_fidelity("metric_prc")
    # save_cpu_ram: all distances between 50,000 images are 10 GB, those of 10,000 at a time a fifth of it.
    values = fidelity.prc_features_to_metric(
        fake.to(device), real.to(device), prc_neighborhood=PR_NEIGHBORS, save_cpu_ram=True, verbose=False
    )
    return float(values[fidelity.KEY_METRIC_PRECISION]), float(values[fidelity.KEY_METRIC_RECALL])
