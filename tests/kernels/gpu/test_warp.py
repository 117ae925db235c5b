"""Where lines are sampled for pictures at any coordinates."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.gpu.warp import line_density, sample


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=20), st.integers(64, 40_000))
def test_every_coordinate_lies_between_two_lines(numbers: list[float], density: int) -> None:
    coordinates = np.array(numbers)
    lines, places = sample(coordinates, density, 64)
    assert len(lines) >= 2
    assert places.min() >= 0
    assert places.max() <= len(lines) - 1
    index = np.clip(np.floor(places).astype(int), 0, len(lines) - 2)
    fraction = places - index
    found = lines[index] * (1 - fraction) + lines[index + 1] * fraction
    # places are multiples of a 256th of a line; float32 has those of 65,536 lines
    assert np.abs(found - coordinates).max() < 1 / 128 / density


@given(st.floats(-1, 1.9), st.integers(64, 10_000))
def test_lines_are_the_same_wherever_an_image_begins(start: float, density: int) -> None:
    """So that parts of one picture share pages."""
    lines, _ = sample(np.array([start, start + 0.05]), density, 64)
    assert np.array_equal(lines, np.round(lines * density) / density)
    assert len(lines) % 64 == 0
    assert round(lines[0] * density) % 64 == 0


def test_networks_of_low_resolution_are_sampled_by_their_frequencies() -> None:
    assert line_density(512, 40.0) == 8 * 512
    assert line_density(16, 30.5) == 64 * 30.5
