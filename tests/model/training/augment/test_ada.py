"""ADA: its filter, the effect and probability of each augmentation, and derivatives."""

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.training.augment.ada import (
    CENTER,
    NUMBERS,
    SYM6,
    ada,
    adjust_probability,
    apply_color,
    color_matrices,
    flip_and_rotate,
    geometry_matrices,
    move_centers,
    resample,
)
from model.training.config import AdaKinds

SIDE = 32

TURN = {"flip": (0, 2), "quarter": (2, 4)}
GEOMETRY = {"shift": (0, 3), "scale": (3, 5), "first": (5, 7), "stretch": (7, 9), "second": (9, 11), "drift": (11, 14)}
COLOUR = {"brightness": (0, 2), "contrast": (2, 4), "luma": (4, 6), "hue": (6, 8), "saturation": (8, 10)}
"""Columns of each augmentation's random numbers: first the one that is compared with p, then its parameters."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw(columns: dict[str, tuple[int, int]], *changes: str, count: int = 20_000) -> Tensor:
    """Random numbers [count, K] of some augmentations; those of the others mean no change for any p."""
    numbers = torch.full((count, max(end for _, end in columns.values())), 0.5, dtype=torch.float64)
    for name, (start, end) in columns.items():
        if name in ("flip", "quarter", "luma"):
            numbers[:, start:end] = 0.0
        if name in changes:
            numbers[:, start:end] = torch.rand(count, end - start, dtype=torch.float64)
    return numbers


def geometry(*changes: str, p: float = 1.0) -> tuple[Tensor, Tensor]:
    """The matrices [N, 2, 2] and offsets [N, 2] of some augmentations."""
    matrices = geometry_matrices(draw(GEOMETRY, *changes), p, SIDE)
    return matrices[:, :, :2], matrices[:, :, 2]


def colours(*changes: str, p: float = 1.0) -> tuple[Tensor, Tensor]:
    """The matrices [N, 3, 3] and offsets [N, 3] of some augmentations."""
    matrices = color_matrices(draw(COLOUR, *changes), p)
    return matrices[:, :, :3], matrices[:, :, 3]


def assert_normal(values: Tensor, deviation: float) -> None:
    """Mean, deviation and kurtosis of [N] within five standard errors."""
    z, n = values / deviation, len(values)
    assert z.mean().abs() < 5 / n**0.5
    assert (z.square().mean() - 1).abs() < 5 * (2 / n) ** 0.5
    assert (z**4).mean() == pytest.approx(3, abs=5 * (96 / n) ** 0.5)


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """Kolmogorov–Smirnov test of [N]; fails once in 10⁵ times."""
    u = ((values - low) / (high - low)).sort().values
    assert u[0] >= 0
    assert u[-1] <= 1
    assert (u - torch.linspace(0, 1, len(u))).abs().max() < 2.5 / len(u) ** 0.5


def assert_often(happened: Tensor, probability: float) -> None:
    """The frequency of [N] is the probability within five standard errors; exact for 0 and 1."""
    error = (probability * (1 - probability) / len(happened)) ** 0.5
    assert (happened.double().mean() - probability).abs() <= 5 * error + 1e-12


def repeat(matrix: Tensor, count: int) -> Tensor:
    return matrix.double().expand(count, *matrix.shape)


# The filter


def test_the_filter_is_orthonormal_with_six_vanishing_moments() -> None:
    taps, k = np.array(SYM6), np.arange(12)
    assert taps.sum() == pytest.approx(math.sqrt(2), abs=1e-15)
    for shift in range(6):
        assert taps[2 * shift :] @ taps[: 12 - 2 * shift] == pytest.approx(float(shift == 0), abs=1e-15)
    for moment in range(6):
        terms = (-1.0) ** k * (k - 5.5) ** moment * taps
        assert abs(terms.sum()) < 1e-15 * np.abs(terms).sum()
    assert ((k - CENTER) ** 2 * taps).sum() == pytest.approx(0, abs=1e-13)


def test_the_filter_has_the_most_linear_phase() -> None:
    """All filters with these properties are products of (1 + z)⁶ with one root of each reciprocal pair."""
    y = np.roots([math.comb(5 + k, k) for k in range(5, -1, -1)])
    pairs = [np.roots([1, 4 * v - 2, 1]) for v in y if v.imag >= -1e-9]  # z + 1/z = 2 − 4y
    frequencies = np.linspace(0, 0.8 * np.pi, 200)
    found = []
    for roots in itertools.product(*pairs):
        both = [r for root in roots for r in ({root, root.conjugate()} if abs(root.imag) > 1e-9 else {root})]
        taps = np.poly([-1.0] * 6 + both).real
        taps *= math.sqrt(2) / taps.sum()
        centre = taps @ np.arange(12) / math.sqrt(2)
        response = np.exp(-1j * np.outer(frequencies, np.arange(12) - centre)) @ taps
        found.append((np.abs(np.unwrap(np.angle(response))).max(), tuple(taps)))
    assert len(found) == 8
    found.sort()
    assert found[0][0] == pytest.approx(found[1][0])  # a filter and its mirror image
    assert found[2][0] > 1.5 * found[0][0]
    best = min(np.abs(np.array(taps) - SYM6).max() for _, taps in found[:2])
    assert best < 1e-10


# Pixel blitting


def test_flips_and_turns_move_every_pixel_to_its_place() -> None:
    images = torch.randn(1, 3, 8, 8)
    for flip, quarters in itertools.product(range(2), range(4)):
        numbers = torch.tensor([[0.0, flip / 2 + 0.25, 0.0, quarters / 4 + 0.125]])
        expected = torch.rot90(images.flip(-1) if flip else images, quarters, (2, 3))
        assert torch.equal(flip_and_rotate(images, numbers, 1.0), expected)


def test_centres_move_with_the_pixels() -> None:
    """Of images that are black but for one pixel."""
    numbers = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(64, 3, 8, 8)
    images[:, :, 1, 5] = 1.0
    moved = flip_and_rotate(images, numbers, 0.8)[:, 0].flatten(1).argmax(dim=1)
    found = move_centers(torch.tensor([[5.5 / 8, 1.5 / 8]]).repeat(64, 1), numbers, 0.8)
    torch.testing.assert_close(found, torch.stack((moved % 8 + 0.5, moved // 8 + 0.5), dim=1) / 8)
    assert len({tuple(place) for place in found.tolist()}) == 8


def test_at_the_highest_probability_all_orientations_are_as_likely() -> None:
    """Otherwise the generator would learn the most frequent one."""
    images = torch.arange(4.0).reshape(1, 1, 2, 2).expand(8000, 3, 2, 2)
    turned = flip_and_rotate(images, torch.rand(8000, 4), 1.0)[:, 0].flatten(1)
    _, counts = torch.unique(turned, dim=0, return_counts=True)
    assert len(counts) == 8
    assert (counts - 1000).abs().max() < 5 * (8000 / 8 * 7 / 8) ** 0.5


# Geometry


def test_shifts_are_whole_pixels_up_to_an_eighth() -> None:
    linear, offset = geometry("shift")
    assert torch.equal(linear, repeat(torch.eye(2), len(linear)))
    assert set(offset[:, 0].tolist()) == set(offset[:, 1].tolist()) == set(range(-4, 5))
    assert_often(offset[:, 0] == 2, 1 / 8)


def test_scaling_keeps_angles() -> None:
    linear, offset = geometry("scale")
    size = linear[:, 0, 0]
    torch.testing.assert_close(linear, size[:, None, None] * torch.eye(2, dtype=torch.float64))
    assert_normal(size.log2(), 0.2)
    assert offset.abs().max() == 0


def test_stretching_keeps_areas() -> None:
    linear, offset = geometry("stretch")
    torch.testing.assert_close(linear.det(), torch.ones(len(linear), dtype=torch.float64))
    assert linear[:, 0, 1].abs().max() == linear[:, 1, 0].abs().max() == 0
    assert_normal(linear[:, 0, 0].log2(), 0.2)
    assert offset.abs().max() == 0


@pytest.mark.parametrize("which", ["first", "second"])
def test_rotations_keep_lengths_and_reach_every_angle(which: str) -> None:
    linear, offset = geometry(which)
    torch.testing.assert_close(linear @ linear.mT, repeat(torch.eye(2), len(linear)))
    torch.testing.assert_close(linear.det(), torch.ones(len(linear), dtype=torch.float64))
    assert_uniform(torch.atan2(linear[:, 1, 0], linear[:, 0, 0]), -math.pi, math.pi)
    assert offset.abs().max() == 0


def test_drift_is_an_eighth_of_the_side() -> None:
    linear, offset = geometry("drift")
    assert torch.equal(linear, repeat(torch.eye(2), len(linear)))
    for axis in offset.unbind(1):
        assert_normal(axis, SIDE / 8)


def test_the_geometry_is_composed_in_the_papers_order() -> None:
    """The forward transformations are composed; sampling uses the inverse."""
    alone = {name: torch.eye(3, dtype=torch.float64).repeat(50, 1, 1) for name in GEOMETRY}
    numbers = draw(GEOMETRY, *GEOMETRY, count=50)
    for name, (start, end) in GEOMETRY.items():
        only = draw(GEOMETRY, count=50)
        only[:, start:end] = numbers[:, start:end]
        alone[name][:, :2] = geometry_matrices(only, 1.0, SIDE)
    forward = torch.eye(3, dtype=torch.float64)
    for name in ("shift", "scale", "first", "stretch", "second", "drift"):
        forward = alone[name].inverse() @ forward
    torch.testing.assert_close(geometry_matrices(numbers, 1.0, SIDE), forward.inverse()[:, :2])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_change_is_made_with_its_probability(p: float) -> None:
    identity = torch.eye(2, 3, dtype=torch.float64)
    rotation = 1 - (1 - p) ** 0.5
    moving = 1 - 1 / 256**2  # of ±128 pixels, no shift in both directions is as likely as any other
    expected = {"shift": p * moving, "scale": p, "first": rotation, "stretch": p, "second": rotation, "drift": p}
    for name, probability in expected.items():
        matrices = geometry_matrices(draw(GEOMETRY, name), p, 1024)
        assert_often((matrices != identity).flatten(1).any(1), probability)
    both = geometry_matrices(draw(GEOMETRY, "first", "second"), p, 1024)
    assert_often((both != identity).flatten(1).any(1), p)
    image = torch.arange(192.0).reshape(1, 3, 8, 8).expand(2000, 3, 8, 8)
    for name, probability in {"flip": p / 2, "quarter": p * 3 / 4}.items():
        turned = flip_and_rotate(image, draw(TURN, name, count=2000), p)
        assert_often((turned != image).flatten(1).any(1), probability)
    for name, probability in {name: p / 2 if name == "luma" else p for name in COLOUR}.items():
        matrices = color_matrices(draw(COLOUR, name), p)
        assert_often((matrices != torch.eye(3, 4)).flatten(1).any(1), probability)


# Sampling


def reflected(index: Tensor, side: int) -> Tensor:
    """Pixel indices at integer positions of an endlessly reflected image."""
    index = index % (2 * side - 2)
    return torch.minimum(index, 2 * side - 2 - index)


@given(st.sampled_from([8, 16, 64]), st.data())
def test_whole_pixels_are_moved_exactly(side: int, data: st.DataObject) -> None:
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    dx, dy = (data.draw(st.integers(-3 * side, 3 * side)) for _ in range(2))
    moved = resample(images, torch.tensor([[[1.0, 0.0, dx], [0.0, 1.0, dy]]]))
    rows, columns = (reflected(torch.arange(side) + d, side) for d in (dy, dx))
    torch.testing.assert_close(moved, images[:, :, rows][..., columns], rtol=0, atol=2e-6)


@given(
    st.sampled_from([32, 64]),
    st.tuples(st.floats(-math.pi, math.pi), st.floats(-math.pi, math.pi), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
    st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
)
def test_smooth_images_are_seen_where_the_matrix_says(
    side: int, shape: tuple[float, float, float, float], offset: tuple[float, float]
) -> None:
    """Cosines that fit the side stay smooth when reflected, so their values are known everywhere."""
    numbers = torch.tensor(shape, dtype=torch.float64)
    (cos1, cos2), (sin1, sin2) = numbers[:2].cos(), numbers[:2].sin()
    turns = torch.stack((cos1, -sin1, sin1, cos1, cos2, -sin2, sin2, cos2)).view(2, 2, 2)
    matrix = torch.cat((turns[0] @ numbers[2:].exp2().diag() @ turns[1], torch.tensor([offset]).double().T), dim=1)

    def image(x: Tensor, y: Tensor) -> Tensor:
        x, y = ((place + (side - 1) / 2) * math.pi / (side - 1) for place in (x, y))
        return torch.stack((x.cos() + y.cos(), (2 * x).cos() - y.cos(), (2 * x).cos() * y.cos()))

    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    seen = torch.einsum("ij,jhw->ihw", matrix, torch.stack((x, y, torch.ones_like(x))))
    changed = resample(image(x, y)[None], matrix[None])[0]
    assert (changed - image(*seen)).abs().max() < 0.01 * (32 / side) ** 2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotations_by_right_angles_are_not_half_a_pixel_off(quarters: int) -> None:
    at = torch.linspace(-1, 1, 64, dtype=torch.float64)
    blob = torch.exp(-8 * ((at[:, None] - 0.2) ** 2 + (at - 0.3) ** 2)).expand(1, 3, 64, 64)
    angle = torch.tensor(quarters * math.pi / 2, dtype=torch.float64)
    matrix = torch.stack((angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle)).view(1, 2, 3)
    expected = torch.rot90(blob, quarters, (2, 3))
    half = expected.roll(1, 2).add(expected).div(2)
    error = (resample(blob, matrix) - expected).abs().max()
    assert error < 2e-3
    assert error < 0.05 * (half - expected).abs().max()


@pytest.mark.parametrize(("angle", "left"), [(0.0, 0.01), (0.5, 0.1)])
def test_what_is_too_fine_becomes_gray_without_aliasing(angle: float, left: float) -> None:
    """The finest pattern, of standard deviation 1, at 1/1.7 of its size; rotated, it is finer along one axis."""
    at = torch.arange(64)
    checkerboard = ((at[:, None] + at) % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    cos, sin = 1.7 * math.cos(angle), 1.7 * math.sin(angle)
    matrices = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]])
    naive = F.grid_sample(
        checkerboard,
        F.affine_grid(matrices, [1, 3, 64, 64], align_corners=False),
        padding_mode="reflection",
        align_corners=False,
    )
    assert naive.std() > 0.3
    assert resample(checkerboard, matrices).std() < left


# Colour


def test_brightness_adds_grey() -> None:
    linear, offset = colours("brightness")
    assert torch.equal(linear, repeat(torch.eye(3), len(linear)))
    assert torch.equal(offset, offset[:, :1].expand(-1, 3))
    assert_normal(offset[:, 0], 0.2)


def test_contrast_scales_all_channels() -> None:
    linear, offset = colours("contrast")
    factor = linear[:, 0, 0]
    torch.testing.assert_close(linear, factor[:, None, None] * torch.eye(3, dtype=torch.float64))
    assert_normal(factor.log2(), 0.5)
    assert offset.abs().max() == 0


def test_a_luma_flip_negates_grey_and_keeps_colours() -> None:
    linear, offset = colours("luma")
    rows = torch.unique(linear.flatten(1), dim=0)
    mirror = torch.eye(3) - 2 / 3
    torch.testing.assert_close(rows.reshape(-1, 3, 3), torch.stack((mirror, torch.eye(3))).double())
    assert offset.abs().max() == 0


def test_hue_rotates_around_grey() -> None:
    linear, offset = colours("hue")
    torch.testing.assert_close(linear @ linear.mT, repeat(torch.eye(3), len(linear)))
    torch.testing.assert_close(linear.det(), torch.ones(len(linear), dtype=torch.float64))
    torch.testing.assert_close(linear.sum(1), torch.ones(len(linear), 3, dtype=torch.float64))  # luma is kept
    torch.testing.assert_close(linear.sum(2), torch.ones(len(linear), 3, dtype=torch.float64))  # grey stays grey
    red_before, axis = torch.tensor([2.0, -1.0, -1.0]).double() / 6**0.5, torch.ones(3).double() / 3**0.5
    red = linear @ red_before
    angle = torch.atan2(torch.linalg.cross(red_before.expand_as(red), red) @ axis, red @ red_before)
    assert_uniform(angle, -math.pi, math.pi)
    assert offset.abs().max() == 0


def test_saturation_scales_the_distance_from_grey() -> None:
    linear, offset = colours("saturation")
    torch.testing.assert_close(linear.sum(1), torch.ones(len(linear), 3, dtype=torch.float64))
    factor = linear[:, 0, 0] - linear[:, 1, 0]
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(linear, 1 / 3 + factor[:, None, None] * (identity - 1 / 3))
    assert_normal(factor.log2(), 1.0)
    assert offset.abs().max() == 0


def test_colours_are_composed_in_the_papers_order() -> None:
    numbers = draw(COLOUR, *COLOUR, count=50)
    product = torch.eye(4, dtype=torch.float64)
    for start, end in COLOUR.values():
        only = draw(COLOUR, count=50)
        only[:, start:end] = numbers[:, start:end]
        alone = torch.eye(4, dtype=torch.float64).repeat(50, 1, 1)
        alone[:, :3] = color_matrices(only, 1.0)
        product = alone @ product
    torch.testing.assert_close(color_matrices(numbers, 1.0), product[:, :3])


def test_every_pixel_goes_through_the_matrix() -> None:
    images, matrices = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4)
    homogeneous = torch.cat((images, torch.ones(2, 1, 4, 5)), dim=1)
    expected = torch.einsum("nij,njhw->nihw", matrices, homogeneous)
    torch.testing.assert_close(apply_color(images, matrices), expected)


# All together


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [8, 64, pytest.param(256, marks=pytest.mark.slow)])
def test_with_probability_0_images_stay_as_they_are(side: int, dtype: torch.dtype) -> None:
    images = torch.rand(2, 3, side, side, dtype=dtype) * 2 - 1
    numbers = torch.stack((torch.rand(NUMBERS), torch.zeros(NUMBERS)))
    changed = ada(images, numbers, 0.0)
    assert changed.dtype == dtype
    torch.testing.assert_close(changed, images, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_with_probability_1_every_image_is_changed_differently() -> None:
    images = torch.rand(1, 3, 16, 16).expand(20, 3, 16, 16)
    changed = ada(images, torch.rand(20, NUMBERS), 1.0)
    distances = torch.cdist(changed.flatten(1), torch.cat((changed, images[:1])).flatten(1))
    assert (distances + 99 * torch.eye(20, 21)).min() > 1


def test_kinds_can_be_chosen() -> None:
    images, numbers = torch.rand(8, 3, 16, 16), torch.rand(8, NUMBERS)
    changed = {kinds: ada(images, numbers, 1.0, kinds) for kinds in get_args(AdaKinds)}
    assert torch.equal(changed["bgc"], ada(images, numbers, 1.0))
    for one, other in itertools.combinations(changed.values(), 2):
        assert not torch.allclose(one, other, atol=1e-3)
    blitted, coloured = changed["b"], changed["c"]
    assert torch.equal(blitted.flatten(2).sort().values, images.flatten(2).sort().values)  # pixels change places only
    matrices = color_matrices(numbers[:, 18:], 1.0)
    assert torch.equal(coloured, apply_color(images, matrices))


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_the_smallest_and_the_largest_numbers_are_no_exception(number: float) -> None:
    images = torch.rand(1, 3, 8, 8)
    changed = ada(images, torch.full((1, NUMBERS), number), 1.0)
    assert changed.isfinite().all()
    if number:
        rounded = torch.full((1, NUMBERS), 1 - 1e-12, dtype=torch.float64)  # to 1 in fp32
        assert torch.equal(ada(images, rounded, 1.0), changed)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_an_image_depends_on_its_own_numbers_alone(p: float) -> None:
    """Bit by bit, with gradients: the result must not depend on how a batch is split."""
    images, numbers = torch.randn(17, 3, 16, 16).requires_grad_(), torch.rand(17, NUMBERS)
    batch = ada(images, numbers, torch.tensor(p))
    rows = [ada(images[i : i + 1], numbers[i : i + 1], p) for i in range(17)]
    assert torch.equal(batch, torch.cat(rows))
    (of_batch,) = torch.autograd.grad(batch.square().sum(), images)
    (of_rows,) = torch.autograd.grad(torch.cat(rows).square().sum(), images)
    assert torch.equal(of_batch, of_rows)


def test_autocast_changes_nothing() -> None:
    images, numbers = torch.randn(4, 3, 16, 16).requires_grad_(), torch.rand(4, NUMBERS)
    plain = ada(images, numbers, 1.0)
    (plain_gradient,) = torch.autograd.grad(plain.square().sum(), images)
    with torch.autocast("cpu", torch.bfloat16):
        cast = ada(images, numbers, 1.0)
        (cast_gradient,) = torch.autograd.grad(cast.square().sum(), images)
    assert torch.equal(cast, plain)
    assert torch.equal(cast_gradient, plain_gradient)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the names of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device() -> None:
    """Nothing is read back, no shape depends on a value, and nothing is uploaded after the first call."""
    p, images = torch.tensor(0.5), torch.randn(2, 3, 8, 8, requires_grad=True)
    numbers = torch.rand(2, NUMBERS)
    ada(images, numbers, p)
    with Operations() as seen:
        torch.autograd.grad(ada(images, numbers, p).sum(), images)
        adjust_probability(p, p, 0.6, 4, 500.0)
    assert {"convolution", "grid_sampler_2d", "grid_sampler_2d_backward"} <= seen.names
    assert not seen.names & {"_local_scalar_dense", "nonzero", "masked_select", "index", "lift_fresh", "_to_copy"}


def test_derivatives_of_both_orders() -> None:
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    numbers = torch.rand(1, NUMBERS, dtype=torch.float64)

    def changed(images: Tensor) -> Tensor:
        return ada(images, numbers, 1.0)

    assert torch.autograd.gradcheck(changed, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(changed, images, fast_mode=True)


def test_a_gradient_penalty_reaches_the_weights() -> None:
    """Compared with finite differences of the penalty."""
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    numbers = torch.rand(2, NUMBERS, dtype=torch.float64)
    weight = torch.randn(3, dtype=torch.float64)

    def penalty(weight: Tensor) -> Tensor:
        logits = (ada(images, numbers, 1.0) * weight[:, None, None]).sin().sum()
        (gradient,) = torch.autograd.grad(logits, images, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, weight.requires_grad_())


# The controller


def test_overfitting_raises_the_probability_within_its_kimg() -> None:
    p, adjustments = torch.zeros(()), 0
    while p < 1:
        p = adjust_probability(p, torch.tensor(0.7), target=0.6, images=1000, kimg=50.0)
        adjustments += 1
    assert adjustments in (50, 51)  # 50 additions of 0.02 in fp32


def test_the_probability_follows_the_sign_of_the_difference() -> None:
    p = torch.tensor(0.5, dtype=torch.float64)
    for mean_sign, expected in ((1.0, 0.51), (0.61, 0.51), (0.6, 0.5), (0.59, 0.49), (-1.0, 0.49)):
        adjusted = adjust_probability(p, torch.tensor(mean_sign, dtype=torch.float64), 0.6, images=256, kimg=25.6)
        assert adjusted.item() == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 10**6), st.floats(0.01, 1e4))
def test_the_probability_stays_a_probability(p: float, sign: float, target: float, images: int, kimg: float) -> None:
    adjusted = adjust_probability(torch.tensor(p), torch.tensor(sign), target, images, kimg)
    assert adjusted.shape == ()
    assert 0 <= adjusted <= 1
