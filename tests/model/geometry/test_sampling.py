"""How many samples a pixel takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.geometry.maps import pull_back
from model.geometry.sampling import BLOCK, MAX_SAMPLES, mean_samples, sample_counts
from model.geometry.transforms import parse_transforms
from model.viewport import Viewport

RESOLUTION = 64


def counts(transforms: list[dict[str, object]], side: int) -> list[list[int]]:
    """Of an image of side × side pixels of the unit square."""
    edges = np.arange(side + 1) / side
    found: list[list[int]] = sample_counts(pull_back(parse_transforms(transforms)), edges, edges, RESOLUTION).tolist()
    return found


@given(st.sampled_from([16, 32, 48, 64, 80, 128]), st.floats(-360, 360))
def test_a_rotation_takes_as_many_as_the_upright_image(side: int, degrees: float) -> None:
    (m, same) = Viewport.resolve(side, side).supersampling(RESOLUTION)
    assert m == same
    assert np.unique(counts([{"rotate": degrees}], side)).tolist() == [m]


def test_the_longest_stretch_decides() -> None:
    assert counts([{"shear": [1, 0]}], RESOLUTION) == [[2] * 4] * 4  # σ is the golden ratio
    assert counts([{"scale": [1 / 3, 1]}], RESOLUTION) == [[3] * 4] * 4
    assert counts([{"scale": 1 / 100}], RESOLUTION) == [[MAX_SAMPLES] * 4] * 4


def test_a_lens_takes_more_where_it_shrinks() -> None:
    found = np.array(counts([{"lens": {"k1": 1.0}}], 2 * RESOLUTION))
    assert (found[4, 4], found[0, 0]) == (1, 2)


def test_an_angles_jump_is_none() -> None:
    """The seam of ``polar`` lies below the centre."""
    found = np.array(counts([{"polar": {}}], 16 * RESOLUTION))
    middle = len(found) // 2
    assert found[middle : middle + 2, middle].max() > 1  # the centre
    assert found[-1, middle - 1 : middle + 1].max() == 1


def test_blocks_do_not_depend_on_where_an_image_begins() -> None:
    pull = pull_back(parse_transforms([{"swirl": {"degrees": 200}}]))
    edges = np.arange(129) / 128
    whole = sample_counts(pull, edges, edges, RESOLUTION)
    part = sample_counts(pull, edges[2 * BLOCK :], edges[BLOCK : 5 * BLOCK + 1], RESOLUTION)
    assert np.array_equal(part, whole[1:5, 2:])


@pytest.mark.parametrize("transform", [{"rotate": 20}, {"lens": {"k1": 1.0}}, {"shear": [0.5, 0.2]}])
def test_the_estimate_of_an_image(transform: dict[str, object]) -> None:
    side = 48
    places = (np.arange(side) + 0.5) / side
    pull = pull_back(parse_transforms([transform]))
    found = mean_samples(pull, places, places, (1 / side, 1 / side), RESOLUTION)
    exact = np.square(counts([transform], side)).mean()
    assert 0.4 * exact <= found <= 1.01 * exact


def test_viewports_tell_it() -> None:
    turned = Viewport.resolve(32, 32, transform=parse_transforms([{"rotate": 30}]))
    assert turned.rendered_pixels(RESOLUTION) == 32 * 32 * 4
    assert turned.supersampling(RESOLUTION) == (1, 1)
    points = Viewport.resolve(32, 32, grid="corners", transform=parse_transforms([{"rotate": 30}]))
    assert points.rendered_pixels(RESOLUTION) == 32 * 32
