"""FID, KID, precision and recall against values worked out by hand and by other formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.metrics import DistributionMetrics
from tests.model.evaluation.toy import Colours, use_toy, write_weights

Features = NDArray[np.floating]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "toy.pth", 0.1)


def colours(count: int, seed: int) -> NDArray[np.int64]:
    """Colours whose channels go together."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, 3)) @ np.array([[30, 10, 0], [0, 20, 5], [0, 0, 8]])
    levels: NDArray[np.int64] = (110 + 5 * seed + mixed).round().clip(0, 255).astype(np.int64)
    return levels


def frechet_distance(a: Features, b: Features) -> float:
    """|μa − μb|² + tr(A) + tr(B) − 2·tr √(√A·B·√A), with roots of symmetric matrices by their eigenvalues."""

    def root(matrix: Features) -> Features:
        values, vectors = np.linalg.eigh(matrix)
        product: Features = vectors * np.sqrt(values.clip(0)) @ vectors.T
        return product

    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    cross = root(root(covariance_a) @ covariance_b @ root(covariance_a))
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(means + np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.trace(cross))


def polynomial_mmd(a: Features, b: Features) -> float:
    """The unbiased estimate of MMD² under the kernel (x·y/d + 1)³."""

    def kernel(x: Features, y: Features) -> Features:
        values: Features = (x @ y.T / x.shape[1] + 1) ** 3
        return values

    def off_diagonal(x: Features) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return off_diagonal(a) + off_diagonal(b) - 2 * float(kernel(a, b).mean())


class TestFid:
    def test_by_hand(self, weights: Path) -> None:
        """Grey levels 0, 20 against 100, 160: features 0, 2 and 10, 16 in each of three equal channels.

        Means 1 and 13; each covariance matrix is its variance, 2 and 18, times ones, whose product has one eigenvalue
        3·2·3·18 = 18². So 3·12² + 3·2 + 3·18 − 2·18 = 456.
        """
        measure = DistributionMetrics(Colours([[100] * 3, [160] * 3]), ["fid"], weights).measure
        assert measure(Colours([[0] * 3, [20] * 3])) == {"fid": pytest.approx(456, rel=1e-4)}

    def test_by_another_formula(self, weights: Path) -> None:
        a, b = colours(150, 0), colours(90, 1)
        fid = DistributionMetrics(Colours(b), ["fid"], weights, batch=32).measure(Colours(a))["fid"]
        assert fid == pytest.approx(frechet_distance(a * 0.1, b * 0.1), rel=1e-4)
        assert fid > 0.1

    def test_of_the_data_itself(self, weights: Path) -> None:
        same = colours(60, 0)
        assert DistributionMetrics(Colours(same), ["fid"], weights).measure(Colours(same[::-1]))[
            "fid"
        ] == pytest.approx(0, abs=1e-4)


class TestKid:
    def test_all_images_where_they_are_few(self, weights: Path) -> None:
        a, b = colours(70, 0), colours(70, 1)
        kid = DistributionMetrics(Colours(b), ["kid"], weights).measure(Colours(a))["kid"]
        assert kid == pytest.approx(polynomial_mmd(a * 0.1, b * 0.1), rel=1e-3)

    def test_subsets_have_the_size_of_the_smaller_set(self, weights: Path) -> None:
        a, b = colours(300, 0), colours(100, 1)
        quality = DistributionMetrics(Colours(b), ["kid"], weights)
        assert quality.kid_subset_size(300) == 100
        assert quality.kid_subset_size(20) == 20
        # The mean over subsets of an unbiased estimate is close to that estimate from everything.
        everything = np.mean([polynomial_mmd(part * 0.1, b * 0.1) for part in a.reshape(3, 100, 3)])
        assert quality.measure(Colours(a))["kid"] == pytest.approx(float(everything), rel=0.1)

    def test_subsets_have_1000_images_at_most(self, weights: Path) -> None:
        assert DistributionMetrics(Colours(colours(1500, 0)), ["kid"], weights).kid_subset_size(50_000) == 1000


class TestPrecisionRecall:
    def test_by_hand(self, weights: Path) -> None:
        """Real greys 0, 10, 20, 30 and 200. The third neighbour of 0 and 30 is 30 away, of 10 and 20 is 20 away, of 200
        is 190 away: together their balls reach over −30 … 60 and 10 … 390. Of the drawn greys all lie therein.

        Drawn greys 80, 82, 84, 86: their balls have radii 6, 4, 4, 6 and reach over 74 … 92, where nothing real is.
        """
        real = Colours([[level] * 3 for level in (0, 10, 20, 30, 200)])
        quality = DistributionMetrics(real, ["pr"], vgg_weights=weights)
        drawn = Colours([[level] * 3 for level in (80, 82, 84, 86)])
        assert quality.measure(drawn) == {"precision": 1.0, "recall": 0.0}

    def test_is_not_the_same_both_ways(self, weights: Path) -> None:
        """As above, the other way round."""
        real = Colours([[level] * 3 for level in (80, 82, 84, 86)])
        drawn = Colours([[level] * 3 for level in (0, 10, 20, 30, 200)])
        quality = DistributionMetrics(real, ["pr"], vgg_weights=weights)
        assert quality.measure(drawn) == {"precision": 0.0, "recall": 1.0}

    def test_part_of_the_images(self, weights: Path) -> None:
        """Two of five drawn greys lie within the real ones' balls, which reach over 94 … 112."""
        real = Colours([[level] * 3 for level in (100, 102, 104, 106)])
        drawn = Colours([[level] * 3 for level in (95, 110, 150, 200, 250)])
        assert DistributionMetrics(real, ["pr"], vgg_weights=weights).measure(drawn)["precision"] == pytest.approx(0.4)


class TestImages:
    def test_each_is_made_once_for_all_metrics(self, weights: Path) -> None:
        real, drawn = Colours(colours(11, 0)), Colours(colours(13, 1))
        quality = DistributionMetrics(real, ["pr", "fid", "kid"], weights, weights, batch=4)
        values = quality.measure(drawn)
        assert list(values) == ["precision", "recall", "fid", "kid"]
        assert set(real.made) == set(drawn.made) == {1}
        assert quality.measure(drawn) == values
        assert set(real.made) == {1}  # the real ones' features are kept
        assert set(drawn.made) == {2}

    def test_batches_make_no_difference(self, weights: Path) -> None:
        real, drawn = Colours(colours(11, 0)), Colours(colours(13, 1))
        values = [
            DistributionMetrics(real, ["fid"], weights, batch=batch).measure(drawn)["fid"] for batch in (1, 5, 100)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-6) == pytest.approx(values[2], rel=1e-6)

    def test_weights_count(self, weights: Path, tmp_path: Path) -> None:
        real, drawn = Colours(colours(11, 0)), Colours(colours(13, 1))
        twice = write_weights(tmp_path / "twice.pth", 0.2)
        values = [DistributionMetrics(real, ["fid"], path).measure(drawn)["fid"] for path in (weights, twice)]
        assert values[1] == pytest.approx(4 * values[0], rel=1e-4)

    def test_torchs_random_numbers_are_left_alone(self, weights: Path) -> None:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        DistributionMetrics(Colours(colours(5, 0)), ["fid", "kid", "pr"], weights, weights).measure(
            Colours(colours(6, 1))
        )
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(("metric", "fewest"), [("fid", 2), ("kid", 2), ("pr", 4)])
    def test_too_few(self, metric: str, fewest: int, weights: Path) -> None:
        enough, too_few = Colours(colours(fewest, 0)), Colours(colours(fewest - 1, 0))
        DistributionMetrics(enough, [metric], weights, weights).measure(enough)
        with pytest.raises(InputError, match=f"data: {metric} takes at least {fewest} images, not {fewest - 1}"):
            DistributionMetrics(too_few, [metric], weights, weights)
        with pytest.raises(InputError, match=f"count: {metric} takes at least {fewest}"):
            DistributionMetrics(enough, [metric], weights, weights).measure(too_few)
        assert set(too_few.made) == {0}
