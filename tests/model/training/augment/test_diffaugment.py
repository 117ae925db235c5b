"""DiffAugment: the effect of each augmentation, its dependence on its random numbers alone, and derivatives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.training.augment.diffaugment import NUMBERS, change_color, cutout, diffaugment, translate


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_colour_moves_brightness_by_at_most_half() -> None:
    y = change_color(torch.zeros(500, 3, 4, 4), torch.rand(500, 3))
    assert y.abs().max() <= 0.5
    assert y[:, 0, 0, 0].max() > 0.4
    assert y[:, 0, 0, 0].min() < -0.4


def test_colour_keeps_grey_images_grey() -> None:
    y = change_color(torch.randn(20, 1, 6, 6).expand(20, 3, 6, 6), torch.rand(20, 3))
    torch.testing.assert_close(y[:, 0], y[:, 1])
    torch.testing.assert_close(y[:, 0], y[:, 2])


def test_colour_by_hand() -> None:
    """Brightness + ¼, saturation × ½, contrast × ¾; no change in the middle of all ranges."""
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-0.4, 0.0]]).view(1, 3, 1, 2)
    bright = x + 0.25
    grey = torch.tensor([0.45, 0.25])
    faded = grey + 0.5 * (bright - grey)
    expected = 0.35 + 0.75 * (faded - 0.35)
    torch.testing.assert_close(change_color(x, torch.tensor([[0.75, 0.25, 0.25]])), expected)
    torch.testing.assert_close(change_color(x, torch.tensor([[0.5, 0.5, 0.5]])), x)


def test_shift_moves_whole_pixels_up_to_an_eighth() -> None:
    x = torch.zeros(400, 3, 16, 16)
    x[:, :, 8, 8] = 1.0
    y = translate(x, torch.rand(400, 2))
    where = y[:, 0].flatten(1).argmax(dim=1)
    rows, columns = where // 16 - 8, where % 16 - 8
    assert (y.sum(dim=(1, 2, 3)) == 3).all()
    for moved in (rows, columns):
        assert set(moved.tolist()) == {-2, -1, 0, 1, 2}
        assert (moved == 0).float().mean() == pytest.approx(1 / 5, abs=0.1)  # five standard errors
    assert not torch.equal(rows, columns)


def test_what_a_shift_brings_in_is_grey() -> None:
    y = translate(torch.ones(200, 3, 16, 16), torch.rand(200, 2))
    assert set(y.flatten().tolist()) == {0.0, 1.0}
    assert (y[:, :, 2:-2, 2:-2] == 1).all()


def test_cutout_paints_at_most_a_quarter() -> None:
    y = cutout(torch.ones(300, 3, 16, 16), torch.rand(300, 2))
    grey = (y[:, 0] == 0).flatten(1).sum(dim=1)
    assert grey.max() == 64
    assert grey.min() > 0


@given(st.sampled_from([4, 8, 15, 16, 64]), st.sampled_from([0.0, 1 - 2**-24]))
def test_the_smallest_and_the_largest_numbers_reach_the_ends_of_the_ranges(side: int, number: float) -> None:
    """Neither the largest fp32 below 1 nor rounding leads out of them."""
    x, numbers = torch.ones(1, 3, side, side), torch.full((1, 2), number)
    moved = round(side / 8)
    expected = torch.zeros_like(x)
    expected[:, :, moved:, moved:] = 1
    assert torch.equal(translate(x, numbers), expected if number == 0 else expected.flip(2, 3))
    size = round(side / 2)
    painted = size - size // 2 if number == 0 else (size + 1) // 2
    cut = x.clone()
    cut[:, :, side - painted :, side - painted :] = 0
    assert torch.equal(cutout(x, numbers), cut.flip(2, 3) if number == 0 else cut)


def test_an_image_depends_on_its_own_numbers_alone() -> None:
    """Bit by bit, with gradients: the result must not depend on how a batch is split."""
    images, numbers = torch.randn(9, 3, 16, 16).requires_grad_(), torch.rand(9, NUMBERS)
    batch = diffaugment(images, numbers)
    rows = torch.cat([diffaugment(images[i : i + 1], numbers[i : i + 1]) for i in range(9)])
    assert torch.equal(batch, rows)
    of_batch, of_rows = (torch.autograd.grad(y.square().sum(), images)[0] for y in (batch, rows))
    assert torch.equal(of_batch, of_rows)


@pytest.mark.parametrize("number", range(NUMBERS))
def test_every_number_changes_the_image(number: int) -> None:
    x, numbers = torch.randn(1, 3, 16, 16), torch.full((1, NUMBERS), 0.4)
    changed = numbers.clone()
    changed[0, number] = 0.9
    assert (diffaugment(x, changed) - diffaugment(x, numbers)).abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_of_a_batch_are_changed_differently(dtype: torch.dtype) -> None:
    y = diffaugment(torch.randn(1, 3, 16, 16, dtype=dtype).expand(2, 3, 16, 16), torch.rand(2, NUMBERS))
    assert y.dtype == dtype
    assert (y[0] - y[1]).abs().max() > 0.01


def test_gradients_pass_through() -> None:
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(diffaugment(x, torch.rand(4, NUMBERS)).square().sum(), x)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_derivatives_of_both_orders() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    numbers = torch.rand(2, NUMBERS, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: diffaugment(x, numbers), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: diffaugment(x, numbers), x, fast_mode=True)
