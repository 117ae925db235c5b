"""FID, KID, precision and recall of drawn pictures against real ones, computed by torch-fidelity."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from model.errors import InputError
from model.evaluation.extractors import INCEPTION, VGG16, Extractor, import_fidelity
from model.evaluation.pictures import PictureSet, progress

NEIGHBOURS = 3
"""k of precision and recall: a ball reaches to the k-th nearest picture of its own set (Kynkäänniemi et al. 2019)."""

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
"""KID is the mean over so many random subsets of so many pictures (Bińkowski et al. 2018), or of all pictures where
there are fewer, as the original tools do. The estimate is unbiased for every size."""

_FEWEST = {"fid": 2, "kid": 2, "pr": NEIGHBOURS + 1}
"""Pictures without which a metric is not defined."""


class Quality:
    """Compares sets of drawn pictures with one set of real ones.

    Networks and the real pictures' features are kept, so a trainer makes one and asks it at every snapshot.

    Args:
        real: the pictures to compare with.
        metrics: of DATA_METRICS.
        inception_weights, vgg_weights: files of weights, for FID and KID, and for precision and recall.
        device: where features are computed.
        batch: pictures at once, at most.

    Raises:
        InputError: the weights cannot be used, torch-fidelity is not there, or there are too few real pictures.
    """

    def __init__(
        self,
        real: PictureSet,
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
        """sha256 of the files of weights."""

    def check_count(self, field: str, count: int) -> None:
        """Raises InputError where so many pictures are too few for one of the metrics."""
        for metric in self._metrics:
            if count < _FEWEST[metric]:
                raise InputError(field, f"{metric} takes at least {_FEWEST[metric]} pictures, not {count}")

    def kid_subset_size(self, drawn: int) -> int:
        """Pictures of a subset where so many have been drawn."""
        return min(KID_SUBSET_SIZE, drawn, len(self._real))

    def measure(self, drawn: PictureSet) -> dict[str, float]:
        """``fid``, ``kid``, ``precision`` and ``recall``, those that were asked for.

        Raises:
            InputError: there are too few drawn pictures, or a real one cannot be read; nothing has been drawn then.
        """
        self.check_count("count", len(drawn))
        real = self._real_features
        made = self._extract(drawn, "drawing")
        values: dict[str, float] = {}
        with progress("comparing features", len(self._metrics), "metric") as advance:
            for metric in self._metrics:
                pair = made[metric], real[metric]
                if metric == "fid":
                    values["fid"] = _fid(*pair)
                elif metric == "kid":
                    values["kid"] = _kid(*pair, self.kid_subset_size(len(drawn)))
                else:
                    values["precision"], values["recall"] = _precision_recall(*pair, self._device)
                advance(1)
        return values

    @cached_property
    def _real_features(self) -> dict[str, Tensor]:
        return self._extract(self._real, "reading the data")

    @torch.no_grad()
    def _extract(self, pictures: PictureSet, description: str) -> dict[str, Tensor]:
        """Features [N, features] on the CPU by metric. Every picture is made once, whatever is asked of it."""
        parts: dict[Extractor, list[Tensor]] = {extractor: [] for extractor in self._networks}
        # A generator of its own: the loader would take a number from torch's, and with it change a training run.
        loader = DataLoader(pictures, pictures.at_once(self._batch), generator=torch.Generator())
        with progress(description, len(pictures)) as advance:
            for batch in loader:
                for extractor, network in self._networks.items():
                    parts[extractor].append(network(batch.to(self._device))[0].cpu())
                advance(len(batch))
        features = {extractor: torch.cat(rows) for extractor, rows in parts.items()}
        return {metric: rows for extractor, rows in features.items() for metric in extractor.metrics}


def _fid(drawn: Tensor, real: Tensor) -> float:
    fidelity = import_fidelity("metric_fid")
    statistics = (fidelity.fid_features_to_statistics(features) for features in (drawn, real))
    return float(fidelity.fid_statistics_to_metric(*statistics, verbose=False)[fidelity.KEY_METRIC_FID])


def _kid(drawn: Tensor, real: Tensor, subset_size: int) -> float:
    fidelity = import_fidelity("metric_kid")
    values = fidelity.kid_features_to_metric(
        drawn, real, kid_subsets=KID_SUBSETS, kid_subset_size=subset_size, verbose=False
    )
    return float(values[fidelity.KEY_METRIC_KID_MEAN])


def _precision_recall(drawn: Tensor, real: Tensor, device: torch.device) -> tuple[float, float]:
    fidelity = import_fidelity("metric_prc")
    # save_cpu_ram: the distances of 50,000 pictures to each other are 10 GB, of 10,000 at a time a fifth of it.
    values = fidelity.prc_features_to_metric(
        drawn.to(device), real.to(device), prc_neighborhood=NEIGHBOURS, save_cpu_ram=True, verbose=False
    )
    return float(values[fidelity.KEY_METRIC_PRECISION]), float(values[fidelity.KEY_METRIC_RECALL])
