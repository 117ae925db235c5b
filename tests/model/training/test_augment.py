"""Augmentation: what each change may and may not do to a picture."""

import pytest
import torch

from model.training.augment import colour, cutout, diffaugment, shift


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_colour_moves_brightness_by_at_most_half() -> None:
    x = torch.zeros(500, 3, 4, 4)
    y = colour(x)
    assert y.abs().max() <= 0.5
    assert y[:, 0, 0, 0].max() > 0.4
    assert y[:, 0, 0, 0].min() < -0.4


def test_colour_keeps_grey_pictures_grey() -> None:
    y = colour(torch.randn(20, 1, 6, 6).expand(20, 3, 6, 6))
    torch.testing.assert_close(y[:, 0], y[:, 1])
    torch.testing.assert_close(y[:, 0], y[:, 2])


def test_shift_moves_whole_pixels_up_to_an_eighth() -> None:
    x = torch.zeros(400, 3, 16, 16)
    x[:, :, 8, 8] = 1.0
    y = shift(x)
    where = y[:, 0].flatten(1).argmax(dim=1)
    rows, columns = where // 16 - 8, where % 16 - 8
    assert (y.sum(dim=(1, 2, 3)) == 3).all()
    for moved in (rows, columns):
        assert set(moved.tolist()) == {-2, -1, 0, 1, 2}


def test_what_a_shift_brings_in_is_grey() -> None:
    y = shift(torch.ones(200, 3, 16, 16))
    assert set(y.flatten().tolist()) == {0.0, 1.0}
    assert (y[:, :, 2:-2, 2:-2] == 1).all()


def test_cutout_paints_at_most_a_quarter() -> None:
    y = cutout(torch.ones(300, 3, 16, 16))
    grey = (y[:, 0] == 0).flatten(1).sum(dim=1)
    assert grey.max() == 64
    assert grey.min() > 0


def test_pictures_of_a_batch_are_changed_differently() -> None:
    x = torch.randn(1, 3, 16, 16).expand(2, 3, 16, 16)
    y = diffaugment(x)
    assert (y[0] - y[1]).abs().max() > 0.01


def test_gradients_pass_through() -> None:
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(diffaugment(x).square().sum(), x)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()
