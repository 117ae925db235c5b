"""Keyframes, and what lies between them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InputError
from model.latents.latent import Latent
from model.motion.spline import Spline
from model.motion.timeline import EASINGS, Keyframe, Timeline
from model.motion.zoom import zoom
from model.viewport import Region

FULL: Region = (0.0, 0.0, 1.0, 1.0)
HERE, THERE = Keyframe(0.0, Latent(seed=1), FULL), Keyframe(2.0, Latent(seed=2), (0.2, 0.6, 0.3, 0.7), 90.0)


class TestSplines:
    @given(st.integers(2, 9), st.booleans())
    def test_they_pass_through_their_values(self, count: int, periodic: bool) -> None:
        numbers = np.random.default_rng(count)
        times, values = np.cumsum(numbers.uniform(0.5, 2, count)), numbers.normal(size=(count, 2, 3))
        values[-1] = values[0]
        spline = Spline(times, values, periodic=periodic)
        for time, value in zip(times, values, strict=True):
            assert spline(time) == pytest.approx(value, abs=1e-9)

    @pytest.mark.parametrize("periodic", [False, True])
    def test_they_are_smooth(self, periodic: bool) -> None:
        times, values = np.array([0.0, 1.0, 3.0, 4.0, 6.0]), np.array([[0.0], [2.0], [1.0], [5.0], [0.0]])
        spline = Spline(times, values, periodic=periodic)
        step = 1e-4
        for time in times[1:-1]:
            left = (spline(time) - spline(time - step)) / step
            right = (spline(time + step) - spline(time)) / step
            assert left == pytest.approx(right, abs=1e-2)
        if periodic:
            end, start = (spline(6.0) - spline(6.0 - step)) / step, (spline(step) - spline(0.0)) / step
            assert end == pytest.approx(start, abs=1e-2)

    def test_straight_lines_stay_straight(self) -> None:
        times = np.array([0.0, 1.0, 3.0])
        assert Spline(times, times[:, None])(2.2) == pytest.approx(2.2)


class TestZooms:
    @given(st.floats(0, 1))
    def test_a_zoom_holds_its_target(self, t: float) -> None:
        """The place that lies equally in both regions does so in all between."""
        x0, y0, x1, y1 = zoom(FULL, THERE.region, t)
        fixed_x, fixed_y = 0.2 / 0.9, 0.6 / 0.9
        assert (fixed_x - x0) / (x1 - x0) == pytest.approx(fixed_x, abs=1e-9)
        assert (fixed_y - y0) / (y1 - y0) == pytest.approx(fixed_y, abs=1e-9)

    def test_the_speed_is_constant(self) -> None:
        sides = [region[2] - region[0] for region in (zoom(FULL, THERE.region, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0))]
        assert np.diff(np.log(sides)) == pytest.approx(np.log(0.1) / 4)

    def test_a_pan(self) -> None:
        assert zoom((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), 0.5) == pytest.approx((0.25, 0, 0.75, 0.5))


class TestTimelines:
    def test_frames(self) -> None:
        timeline = Timeline([HERE, THERE], fps=10)
        assert timeline.frames == 21
        assert (timeline.frame(0).region, timeline.frame(20).region) == (FULL, THERE.region)
        assert timeline.frame(10).rotate == pytest.approx(45)
        assert timeline.frame(10).time == pytest.approx(1)

    def test_a_loop_does_not_show_its_first_frame_twice(self) -> None:
        assert Timeline([HERE, THERE, replace(HERE, time=3.0)], fps=10, loop=True).frames == 30

    @pytest.mark.parametrize("easing", EASINGS)
    def test_easings(self, easing: Any) -> None:
        ease = EASINGS[easing]
        assert (ease(0.0), ease(1.0)) == (0.0, 1.0)
        values = [ease(t) for t in np.linspace(0, 1, 50)]
        assert (np.diff(values) > 0).all()

    @pytest.mark.parametrize(
        ("keyframes", "options", "field"),
        [
            ([HERE], {}, "keyframes"),
            ([THERE, HERE], {}, "keyframes"),
            ([HERE, replace(THERE, time=0.0)], {}, "keyframes"),
            ([HERE, replace(THERE, time=float("nan"))], {}, "keyframes"),
            ([HERE, replace(THERE, rotate=1e6)], {}, "keyframes"),
            ([replace(HERE, easing="bounce"), THERE], {}, "keyframes"),  # type: ignore[arg-type]
            ([HERE, replace(THERE, time=1e6)], {}, "keyframes"),
            ([HERE, THERE], {"fps": 0}, "fps"),
            ([HERE, THERE], {"loop": True}, "loop"),
        ],
    )
    def test_what_is_refused(self, keyframes: list[Keyframe], options: dict[str, Any], field: str) -> None:
        with pytest.raises(InputError) as caught:
            Timeline(keyframes, **{"fps": 30, **options})
        assert caught.value.field == field
