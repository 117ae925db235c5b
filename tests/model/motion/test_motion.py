"""Keyframes, and what lies between them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.errors import InputError
from model.geometry.transforms import Transform, parse_transforms
from model.latents.latent import Latent, unpack_floats
from model.motion.blend import blend, pair_transforms
from model.motion.pace import monotone_cubic
from model.motion.spline import Spline
from model.motion.timeline import EASINGS, Keyframe, Timeline
from model.motion.walk import SphereWalk, StyleWalk, slerp
from model.motion.zoom import zoom
from model.viewport import Region

FULL: Region = (0.0, 0.0, 1.0, 1.0)
A, B, C = (Latent(seed=seed) for seed in range(3))
HERE = Keyframe(0.0, (A,), FULL, easing="linear")
POLAR = Transform("polar", ())
THERE = Keyframe(2.0, (B,), (0.2, 0.6, 0.3, 0.7), parse_transforms([{"rotate": 90}]))


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

    def test_a_smooth_zoom_goes_out_to_pan(self) -> None:
        """As van Wijk and Nuij's figure: out and in again, fastest in the middle; the same way back."""
        there = (0.9, 0.9, 1.0, 1.0)
        way = [zoom((0.0, 0.0, 0.1, 0.1), there, t, "smooth") for t in np.linspace(0, 1, 201)]
        assert (way[0], way[-1]) == ((0.0, 0.0, 0.1, 0.1), there)
        sides = np.array([x1 - x0 for x0, _, x1, _ in way])
        assert sides.argmax() == 100
        assert sides[100] > 1
        assert sides == pytest.approx(sides[::-1])
        centres = np.array([(x0 + x1) / 2 for x0, _, x1, _ in way])
        # The perceived speed √(ρ²·u̇² + ẇ²/ρ²)/w is constant; u is a diagonal, ρ² = 2.
        speed = np.hypot(2 * np.diff(centres), np.diff(sides) / 2**0.5) / (sides[1:] + sides[:-1])
        assert speed == pytest.approx(speed.mean(), rel=0.01)

    @given(st.floats(0, 1))
    def test_a_smooth_zoom_without_a_pan(self, t: float) -> None:
        there = (0.45, 0.45, 0.55, 0.55)
        assert zoom(FULL, there, t, "smooth") == pytest.approx(zoom(FULL, there, t))

    def test_a_pan(self) -> None:
        assert zoom((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), 0.5) == pytest.approx((0.25, 0, 0.75, 0.5))


class TestTimelines:
    def test_frames(self) -> None:
        timeline = Timeline([HERE, THERE], fps=10)
        assert timeline.frames == 21
        assert timeline.times == pytest.approx(np.arange(21) / 10)
        assert (timeline.at(0.0).region, timeline.at(2.0).region) == (FULL, THERE.region)
        assert timeline.at(1.0).transform[0].values == pytest.approx([45])
        assert timeline.at(1.0).time == pytest.approx(1)

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
            ([THERE, HERE], {}, "keyframes[0].time"),
            ([HERE, replace(THERE, time=0.0)], {}, "keyframes[1].time"),
            ([HERE, replace(THERE, time=float("nan"))], {}, "keyframes[1].time"),
            ([HERE, replace(THERE, time=float("inf"))], {}, "keyframes[1].time"),
            ([HERE, THERE, replace(THERE, time=1.0)], {}, "keyframes[2].time"),
            ([replace(HERE, easing="bounce"), THERE], {}, "keyframes[0].easing"),  # type: ignore[arg-type]
            ([HERE, replace(THERE, latents=(A, B))], {}, "keyframes[1].latents"),
            ([replace(HERE, transform=(POLAR,)), THERE], {}, "keyframes[1].transform"),
            ([HERE, replace(THERE, time=1e6)], {}, "keyframes"),
            ([HERE, THERE], {"fps": 0}, "fps"),
            ([HERE, THERE], {"loop": True}, "loop"),
        ],
    )
    def test_what_is_refused(self, keyframes: list[Keyframe], options: dict[str, Any], field: str) -> None:
        with pytest.raises(InputError) as caught:
            Timeline(keyframes, **{"fps": 30, **options})
        assert caught.value.field == field

    def test_a_frame_at_the_time_of_a_keyframe_is_the_keyframe(self) -> None:
        """Also where times are rounded: 3 · 0.4 is more than 1.2."""
        keyframes = [replace(THERE, time=0.0), *(replace(HERE, time=k * 0.4, latents=(C,)) for k in (1, 2, 3))]
        timeline = Timeline(keyframes, fps=10)
        assert [timeline.at(timeline.times[index]).time for index in (4, 8, 12)] == [
            keyframe.time for keyframe in keyframes[1:]
        ]

    def test_json(self) -> None:
        timeline = Timeline([HERE, THERE], fps=25)
        assert Timeline.from_dict(json.loads(json.dumps(timeline.to_dict()))) == timeline


class TestTransforms:
    @pytest.mark.parametrize(
        ("start", "end", "middle"),
        [
            ([{"rotate": 0}], [{"rotate": 90}], [{"rotate": 45.0}]),
            ([], [{"rotate": 90}, {"scale": 4}], [{"rotate": 45.0}, {"scale": [2.0, 2.0]}]),
            ([{"scale": [1, -1]}], [{"scale": [4, -9]}], [{"scale": [2.0, -3.0]}]),
            ([{"swirl": {"degrees": 90, "radius": 0.3}}], [], [{"swirl": {"degrees": 45.0, "radius": 0.3}}]),
            ([{"cylinder": {"yaw": 0}}], [{"cylinder": {"yaw": 90}}], [{"cylinder": {"fov": 90.0, "yaw": 45.0}}]),
        ],
    )
    def test_half_way(self, start: Any, end: Any, middle: Any) -> None:
        found = blend(parse_transforms(start), parse_transforms(end), 0.5)
        assert [each.kind for each in found] == [next(iter(each)) for each in middle]
        for each, expected in zip(found, parse_transforms(middle), strict=True):
            assert each.values == pytest.approx(expected.values)

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            ([{"rotate": 1}], [{"scale": 2}]),
            ([], [{"polar": {}}]),
            ([{"scale": 1}], [{"scale": -1}]),
        ],
    )
    def test_what_does_not_fit(self, start: Any, end: Any) -> None:
        with pytest.raises(InputError) as caught:
            pair_transforms(parse_transforms(start), parse_transforms(end))
        assert caught.value.field == "transform"


class TestWalks:
    def styles(self, latent: Latent) -> NDArray[np.float32]:
        return np.random.default_rng(latent.seed).normal(size=(3, 4)).astype(np.float32)

    def values(self, walk: StyleWalk | SphereWalk, time: float) -> NDArray[np.float32]:
        latent = walk.at(time)
        return self.styles(latent).flatten() if latent.w is None else unpack_floats(latent.w)

    def test_keyframes_are_the_latents_themselves(self) -> None:
        walk = StyleWalk([0, 1, 2], [A, B, C], self.styles, loop=False)
        assert [walk.at(time) for time in (0, 1, 2)] == [A, B, C]
        assert walk.at(0.5).w is not None
        assert self.values(walk, 1 - 1e-6) == pytest.approx(self.styles(B).flatten(), abs=1e-4)

    def test_between_equal_latents_it_stands_still(self) -> None:
        """A zoom before a walk does not tremble, and reuses its lines."""
        walk = StyleWalk([0, 1, 2, 3], [A, A, B, B], self.styles, loop=False)
        assert {walk.at(time) for time in (0, 0.3, 0.9, 1)} == {A}
        assert walk.at(1.5) not in (A, B)
        assert walk.at(2.5) == B

    def test_a_loop_has_no_corner_at_its_seam(self) -> None:
        walk = StyleWalk([0, 1, 2, 3], [A, B, C, A], self.styles, loop=True)
        step = 1e-3
        before = (self.values(walk, 3) - self.values(walk, 3 - step)) / step
        after = (self.values(walk, step) - self.values(walk, 0)) / step
        assert before == pytest.approx(after, abs=0.02)

    def test_circles_in_z(self) -> None:
        """Great circles: all frames are equally far from each other, and as long as the ends."""
        walk = SphereWalk([0, 1, 2], [replace(A, psi=0.5), B, C], z_dim=64)
        assert [walk.at(time) for time in (0, 1)] == [replace(A, psi=0.5), B]
        found = [walk.at(t) for t in np.linspace(0.05, 0.95, 19)]
        assert found[9].psi == pytest.approx(0.75)
        z = np.stack([latent.sample_z(64)[0] / np.linalg.norm(latent.sample_z(64)[0]) for latent in found])
        angles = np.arccos((z[1:] * z[:-1]).sum(axis=1))
        assert angles == pytest.approx(angles.mean(), rel=1e-3)

    def test_opposite_directions(self) -> None:
        there = np.array([1.0, 0.0])
        assert slerp(there, -there, 0.25) == pytest.approx(0.5 * there)
        assert slerp(there, 3 * there, 0.5) == pytest.approx(2 * there)

    @pytest.mark.parametrize("latent", [Latent(w=b"\0" * 4), replace(B, class_index=1), replace(B, cutoff=1)])
    def test_what_circles_cannot_join(self, latent: Latent) -> None:
        with pytest.raises(InputError) as caught:
            Timeline([HERE, replace(THERE, latents=(latent,))], walk="z")
        assert caught.value.field == "walk"


def test_monotone_cubics_do_not_overshoot() -> None:
    x, y = np.array([0.0, 1.0, 2.0, 3.0, 7.0]), np.array([0.0, 0.1, 5.0, 5.1, 9.0])
    at = np.linspace(0, 7, 701)
    found = monotone_cubic(x, y, at)
    assert (np.diff(found) > 0).all()
    assert found[[0, 100, 200, 300, 700]] == pytest.approx(y)
    assert monotone_cubic(x, x, at) == pytest.approx(at)
