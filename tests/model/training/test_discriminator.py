"""The discriminator: shapes, minibatch standard deviation, low-pass filter, second derivatives, fp16."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.training.discriminator import ConvLayer, Discriminator, low_pass, minibatch_std
from model.training.losses.gradient_penalty import gradient_penalty


@pytest.mark.parametrize(("resolution", "classes", "batch"), [(8, 0, 4), (32, 0, 6), (16, 3, 8)])
def test_one_logit_for_each_image(resolution: int, classes: int, batch: int) -> None:
    discriminator = Discriminator(resolution, 256, 16, classes)
    label = torch.nn.functional.one_hot(torch.arange(batch) % classes, classes).float() if classes else None
    logits = discriminator(torch.randn(batch, 3, resolution, resolution), label)
    assert logits.shape == (batch,)
    assert logits.dtype == torch.float32


def test_the_class_changes_the_logits() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(8, 64, 8, classes=2)
    images = torch.randn(4, 3, 8, 8)
    first, second = (discriminator(images, torch.eye(2)[torch.full((4,), i)]) for i in (0, 1))
    assert (first - second).abs().min() > 1e-6


def test_the_place_changes_the_logits_once_it_is_learnt() -> None:
    torch.manual_seed(0)
    plain, discriminator = Discriminator(8, 64, 8, classes=2), Discriminator(8, 64, 8, classes=2, patches=True)
    discriminator.load_state_dict(plain.state_dict(), strict=False)
    images, label = torch.randn(4, 3, 8, 8), torch.eye(2)[[0, 1, 0, 1]]
    places = [
        torch.tensor([place] * 4) for place in ([0.0, 0.5, 0.5], [1.0, 0.5, 0.5], [1.0, 0.3, 0.5], [1.0, 0.5, 0.4])
    ]
    for place in places:  # at first it is the discriminator of whole images
        torch.testing.assert_close(discriminator(images, label, place), plain(images, label))
    assert discriminator.place is not None
    torch.nn.init.normal_(discriminator.place.out.weight)
    logits = [discriminator(images, label, place) for place in places]
    for i, first in enumerate(logits):
        for second in logits[:i]:
            assert (first - second).abs().min() > 1e-6
    with pytest.raises(ValueError, match="places"):
        discriminator(images, label)


def test_minibatch_std_by_hand() -> None:
    x = torch.zeros(4, 2, 1, 1)
    x[2:, 0] = 2.0  # group 2: images 0 and 2 differ by 2 in one of two channels, so do 1 and 3
    y = minibatch_std(x, group=2)
    assert y.shape == (4, 3, 1, 1)
    torch.testing.assert_close(y[:, 2, 0, 0], torch.full((4,), 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_halving_keeps_a_flat_image_flat_and_drops_the_finest_stripes(kernel: int) -> None:
    conv = ConvLayer(1, 1, kernel, down=True, linear=True)
    with torch.no_grad():
        conv.weight.fill_(0.0)
        conv.weight[0, 0, kernel // 2, kernel // 2] = 1 / conv.weight_gain
    flat = torch.ones(1, 1, 16, 16)
    stripes = flat * (torch.arange(16) % 2 * 2.0 - 1)
    assert conv(flat).shape == (1, 1, 8, 8)
    torch.testing.assert_close(conv(flat)[:, :, 2:-2, 2:-2], torch.ones(1, 1, 4, 4))
    assert conv(stripes)[:, :, 2:-2, 2:-2].abs().max() < 1e-6


def test_halving_is_centred() -> None:
    """A mirrored image gives the mirrored result."""
    torch.manual_seed(0)
    conv = ConvLayer(1, 1, 3, down=True)
    with torch.no_grad():
        conv.weight.copy_(conv.weight + conv.weight.flip(-1))
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(conv(x.flip(-1)), conv(x).flip(-1))


def test_the_penalty_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(16, 128, 8)
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    torch.autograd.backward(gradient_penalty(images, discriminator(images)))
    for name, parameter in discriminator.named_parameters():
        if name != "out.bias":  # a constant has no gradient with respect to the image
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_the_filter_can_be_differentiated_twice() -> None:
    x, taps = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True), torch.rand(4, 4, dtype=torch.float64)
    for padding, stride in ((1, 2), (2, 1)):
        assert torch.autograd.gradgradcheck(partial(low_pass, taps=taps, padding=padding, stride=stride), x)


def test_the_filter_in_bf16_is_that_of_fp32() -> None:
    x, taps = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        y = x.to(dtype).requires_grad_()
        (gradient,) = torch.autograd.grad(low_pass(y, taps, padding=1, stride=2).square().sum(), y)
        assert gradient.dtype == dtype
        results.append(gradient.float())
    torch.testing.assert_close(results[1], results[0], rtol=0.02, atol=0.02)


class _Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "convolution" in str(function)
        return function(*args, **(kwargs or {}))


def test_the_penalty_takes_as_many_launches_for_many_channels_as_for_few() -> None:
    counts = []
    for channel_base in (128, 1024):
        discriminator = Discriminator(16, channel_base, 64)
        images = torch.randn(4, 3, 16, 16, requires_grad=True)
        with _Convolutions() as convolutions:  # type: ignore[no-untyped-call]
            torch.autograd.backward(gradient_penalty(images, discriminator(images)))
        counts.append(convolutions.count)
    assert counts[0] == counts[1] < 100


def test_half_precision_is_close_and_bounded() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(32, 512, 16)
    images = torch.randn(4, 3, 32, 32)
    exact, half = discriminator(images), discriminator(images, half=True)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.02 * exact.abs().max() + 0.02
    assert discriminator(images * 1e4, half=True).isfinite().all()  # without the clamp fp16 would overflow


def test_layers_that_can_be_frozen_are_counted_from_the_image_on() -> None:
    discriminator = Discriminator(16, 128, 8)
    first = discriminator.blocks[0]
    assert discriminator.layers()[:4] == [discriminator.from_rgb, first.conv0, first.conv1, first.shortcut]
    assert len(discriminator.layers()) == 1 + 3 * 2
