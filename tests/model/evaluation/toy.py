"""A feature extractor whose features can be computed by hand, in place of Inception and VGG16."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.dataset import ImageDataset
from model.evaluation import metrics
from model.evaluation.evaluation import Evaluation
from model.evaluation.generator_sampler import GeneratorSampler
from model.evaluation.image_sets import ImageSet
from model.generator import Generator


def make_torchvision_importable() -> None:
    """PyPI's torchvision is built for CUDA. Beside a torch for the CPU its library does not load, and its import fails
    where it describes the operators of that library. None of them is needed here, so describing them is enough."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # what is left of the attempt
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


make_torchvision_importable()

from torch_fidelity import FeatureExtractorBase, register_feature_extractor  # noqa: E402

NAME, LAYER = "toy", "colours"


class Toy(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """The mean colours of a image, a·red, a·green, a·blue, with the one number a as its weights."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: Any, **_: object) -> None:
        super().__init__(name, features_list)
        self.scale = torch.nn.Parameter(torch.randn(()))  # random before it is loaded, as the real networks are
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=False))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return (LAYER,)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8
        return (images.float().mean(dim=(2, 3)) * self.scale,)


register_feature_extractor(NAME, Toy)


def use_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure all metrics with the toy extractor."""
    for name in ("INCEPTION", "VGG16"):
        monkeypatch.setattr(metrics, name, replace(getattr(metrics, name), name=NAME, layer=LAYER))


def write_weights(path: Path, scale: float = 1.0) -> Path:
    torch.save({"scale": torch.tensor(scale)}, path)
    return path


def evaluate_generator(
    generator: Generator,
    metrics: Sequence[str],
    data: ImageDataset | None = None,
    count: int = 8,
    inception_weights: Path | None = None,
    vgg_weights: Path | None = None,
    batch: int = 32,
) -> dict[str, float]:
    """Metrics of a generator, with a new Evaluation."""
    evaluation = Evaluation(generator.config, metrics, data, count, None, "cpu", inception_weights, vgg_weights, batch)
    return evaluation.measure(GeneratorSampler(generator, evaluation.classes))


class Colours(ImageSet):
    """Images of one colour each, given as [N, 3] of 0 … 255. Counts how often each has been made."""

    def __init__(self, colours: Sequence[Sequence[int]] | NDArray[np.integer]) -> None:
        super().__init__(len(colours), 4)
        self.colours = np.asarray(colours, dtype=np.uint8)
        self.made = [0] * len(colours)

    def make(self, indices: Sequence[int]) -> list[Tensor]:
        for index in indices:
            self.made[index] += 1
        return [torch.from_numpy(np.tile(self.colours[index, :, None, None], (1, 4, 4))) for index in indices]
