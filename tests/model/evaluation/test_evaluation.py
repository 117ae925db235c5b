"""All metrics of a generator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import InputError
from model.evaluation import METRICS
from model.evaluation.evaluation import Evaluation
from model.evaluation.generator_sampler import GeneratorSampler
from model.evaluation.image_sets import open_dataset
from model.evaluation.metrics import DistributionMetrics
from model.evaluation.scale_consistency import scale_consistency
from model.viewport import Viewport
from tests.kernels.networks import TINY, VARIANTS, random_network
from tests.model.data.images import write_images, write_zip
from tests.model.evaluation.toy import Colours, evaluate_generator, use_toy, write_weights


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data", count=9, size=16)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "toy.pth")


def test_every_metric(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values follow from the generator's own images."""
    generator, data = random_network(TINY), open_dataset(folder)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = evaluate_generator(
        generator, ["fid", "kid", "pr", "scale"], data, 12, inception_weights=weights, vgg_weights=weights, batch=5
    )
    assert "fid of 9 images is too high and varies: take 2,048 or more" in capsys.readouterr().err
    assert list(values) == ["fid", "kid", "precision", "recall", "scale", "scale_worst"]
    assert torch.equal(torch.get_rng_state(), before)  # a run goes on as if nothing had been measured

    z = np.concatenate([np.random.RandomState(seed).randn(1, 16) for seed in range(12)])
    images = (generator(torch.from_numpy(z).float()) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    real = torch.stack([data[i][0] for i in range(len(data))])
    colours = [batch.float().mean(dim=(2, 3)).double().numpy() for batch in (images, real)]
    means = np.square(colours[0].mean(axis=0) - colours[1].mean(axis=0)).sum()
    covariances = [np.cov(features.T) for features in colours]
    cross = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    assert values["fid"] == pytest.approx(means + np.trace(covariances[0] + covariances[1]) - 2 * cross, rel=1e-3)
    expected = scale_consistency(GeneratorSampler(generator), 16, 12)
    assert (values["scale"], values["scale_worst"]) == pytest.approx(expected, abs=1e-4)


def test_kept_for_the_next_snapshot(folder: Path, weights: Path) -> None:
    first, second = random_network(TINY, seed=0), random_network(TINY, seed=1)
    data = open_dataset(folder)
    evaluation = Evaluation(TINY, ["fid"], data, 8, inception_weights=weights)
    values = [evaluation.measure(GeneratorSampler(generator)) for generator in (first, second, first)]
    assert values[0] == values[2] != values[1]
    assert values[1] == evaluate_generator(second, ["fid"], data, 8, weights)


def test_scale_needs_nothing() -> None:
    values = evaluate_generator(random_network(VARIANTS["conditional"]), ["scale"], count=3)
    assert list(values) == ["scale", "scale_worst"]
    assert 5 < values["scale_worst"] < values["scale"] < 60


def test_scale_takes_64_seeds_at_most() -> None:
    evaluation = Evaluation(TINY, ["scale"])
    assert (evaluation.scale_count, evaluation.scale_size) == (64, 16)
    assert Evaluation(TINY, ["scale"], count=5, size=40).scale_size == 40
    assert Evaluation(TINY, ["scale"], count=5).scale_count == 5


def test_sizes(folder: Path, weights: Path, tmp_path: Path) -> None:
    """Images have the data's size or a given one; between scales the training resolution."""
    data = open_dataset(write_images(tmp_path / "large", 3, 40))
    evaluation = Evaluation(TINY, ["fid", "scale"], data, 4, inception_weights=weights)
    assert (evaluation.size, evaluation.scale_size) == (40, 16)
    sampler = GeneratorSampler(random_network(TINY))
    drawn = np.stack(sampler(range(4), Viewport.resolve(40, 40, grid="corners"))).astype(np.uint8)
    features = drawn.reshape(4, -1, 3).mean(axis=1)
    expected = DistributionMetrics(Colours([[0, 0, 0], [0, 0, 0]]), ["fid"], weights).measure(
        Colours(features.round().astype(int))
    )
    black = open_dataset(_black(tmp_path / "black"))
    fid = Evaluation(TINY, ["fid"], black, 4, 40, inception_weights=weights).measure(sampler)["fid"]
    assert fid == pytest.approx(expected["fid"], rel=0.02)
    assert Evaluation(TINY, ["fid"], data, 4, 24, inception_weights=weights).size == 24


def test_classes_of_the_data(tmp_path: Path, weights: Path) -> None:
    folder = write_images(tmp_path / "labelled", 4)
    data = open_dataset(write_zip(tmp_path / "a.zip", folder, {f"{i:03d}.png": 2 for i in range(4)}))
    generator = random_network(VARIANTS["conditional"])
    evaluation = Evaluation(generator.config, ["fid"], data, 6, inception_weights=weights)
    assert evaluation.classes == [2] * 6
    assert evaluation.measure(GeneratorSampler(generator, [2] * 6)) == evaluate_generator(
        generator, ["fid"], data, 6, weights
    )


def test_mistakes(folder: Path, weights: Path) -> None:
    data = open_dataset(folder)
    for named, arguments in {
        f"metrics: must be of {', '.join(METRICS)}, not 'is'": {"metrics": ["fid", "is"]},
        "data: is needed by fid, pr": {"data": None, "metrics": ["fid", "scale", "pr"]},
        "count: must be from 1 to 1,000,000, not 0": {"count": 0},
        "count: fid takes at least 2": {"count": 1},
        "size: must be from 1 to 8,192, not 0": {"size": 0},
        "size: scale takes at least": {"size": 15, "metrics": ["scale"]},
        "batch: must be from 1 to 1,024, not -1": {"batch": -1},
        "inception-weights: download": {"inception_weights": None},
    }.items():
        usable = {"config": TINY, "metrics": ["fid"], "data": data, "count": 5, "inception_weights": weights}
        with pytest.raises(InputError) as error:
            Evaluation(**{**usable, **arguments})  # type: ignore[arg-type, dict-item]
        assert str(error.value).startswith(named)


def _black(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for i in range(2):
        Image.new("RGB", (16, 16)).save(folder / f"{i}.png")
    return folder
