"""All metrics of a network: checked and made ready once, measured as often as wanted."""

from collections.abc import Collection
from pathlib import Path

import torch

from model.config import GeneratorConfig
from model.errors import InputError
from model.evaluation import DATA_METRICS, DEFAULT_COUNT, METRICS, SCALE_COUNT
from model.evaluation.network import GeneratorDrawer
from model.evaluation.pictures import MAX_SIDE, Draw, DrawnPictures, RealPictures, pick_classes
from model.evaluation.quality import Quality
from model.evaluation.scale import scale_consistency
from model.generator import Generator
from model.training.dataset import ImageDataset

MAX_COUNT = 1_000_000
"""Most drawn pictures: their Inception features are 8 GB."""

MAX_BATCH = 1024


class Evaluation:
    """What a set of metrics needs. Everything that can be refused is refused here, before anything is drawn.

    Args:
        config: of the network.
        metrics: of METRICS.
        data: real pictures; needed by DATA_METRICS, and what a conditional network's classes are drawn from. The
            original tools compare with pictures that are not mirrored.
        count: pictures drawn, those of seeds 0 … count − 1; SCALE_COUNT of them at most are compared between scales.
        size: side of the drawn pictures in pixels. Default: the data's, and the training resolution between scales.
        device: where features are computed.
        inception_weights, vgg_weights: files of weights, for fid and kid, and for pr.
        batch: pictures at once, at most.

    Attributes:
        data: as given.
        classes: the class of every seed, for whoever draws; None for an unconditional network.
        size: side of the pictures that are compared with the data.
        scale_size, scale_count: side and number of those that are compared with others of twice the side.
        quality: what compares with the data; None where no metric does.

    Raises:
        InputError: names the argument that cannot be used.
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
        self.scale_size = size or config.resolution
        self.scale_count = min(count, SCALE_COUNT)
        self.classes = pick_classes(config.classes, data, count)
        self.quality: Quality | None = None
        self._batch = batch
        if compared := [metric for metric in metrics if metric in DATA_METRICS]:
            if data is None:
                raise InputError("data", f"is needed by {', '.join(compared)}")
            self.quality = Quality(RealPictures(data), compared, inception_weights, vgg_weights, device, batch)
            self.quality.check_count("count", count)

    def measure(self, draw: Draw) -> dict[str, float]:
        """``fid``, ``kid``, ``precision``, ``recall``, and ``scale`` and ``scale_worst`` in dB: those asked for.

        Raises:
            InputError: a real picture cannot be read.
        """
        values: dict[str, float] = {}
        if self.quality is not None:
            values |= self.quality.measure(DrawnPictures(draw, self.count, self.size))
        if "scale" in self.metrics:
            values["scale"], values["scale_worst"] = scale_consistency(
                draw, self.scale_size, self.scale_count, self._batch
            )
        return values


def evaluate_generator(
    generator: Generator,
    metrics: Collection[str],
    data: ImageDataset | None = None,
    count: int = DEFAULT_COUNT,
    inception_weights: Path | None = None,
    vgg_weights: Path | None = None,
    batch: int = 32,
) -> dict[str, float]:
    """Metrics of a generator as it is now, drawn by the readable network on its device; arguments as of Evaluation.

    Whoever measures again and again keeps an Evaluation, and with it the networks and the data's features.

    Raises:
        InputError: as Evaluation.
    """
    device = generator.mapping.w_avg.device
    evaluation = Evaluation(
        generator.config, metrics, data, count,
        device=device, inception_weights=inception_weights, vgg_weights=vgg_weights, batch=batch,
    )  # fmt: skip
    return evaluation.measure(GeneratorDrawer(generator, evaluation.classes))


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
