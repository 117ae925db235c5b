"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv:2006.06676, appendix B), its set "bgc".

Real and drawn pictures go through the same random changes before the discriminator sees them: pixels are moved as they
are, then the plane is transformed, then the colours. Each change is made with the probability p, which is kept low
enough for the generator not to learn the changes and high enough for the discriminator not to memorise the data.

Everything is a function of the random numbers that it is given, of each picture alone, and never waits for the device.
"""

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 28
"""Uniform random numbers in [0, 1) that one picture takes: 4 for flip and turn, 14 for the geometry, 10 for colour."""

TRANSLATION = 1 / 8
"""Largest shift by whole pixels, and standard deviation of the shift by fractions, as parts of the side."""

SCALE = 0.2 * math.log(2)
"""Standard deviation of the logarithm of both scalings."""

BRIGHTNESS = 0.2
"""Standard deviation of what is added to all channels."""

CONTRAST, SATURATION = 0.5 * math.log(2), math.log(2)
"""Standard deviations of the logarithms of both factors."""

SYM6 = (
    0.015404109327044824,
    0.0034907120842221626,
    -0.11799011114852002,
    -0.04831174258569806,
    0.49105594192797375,
    0.787641141028651,
    0.3379294217281658,
    -0.07263752278637658,
    -0.02106029251237085,
    0.04472490177078139,
    0.0017677118642540077,
    -0.00780070832503238,
)
"""Low-pass filter of the wavelet symlet 6: orthonormal to its shifts by even distances, with six vanishing moments, and
of such filters the one whose phase is closest to linear (Daubechies 1992, Ten Lectures on Wavelets, section 8.1.1)."""

CENTRE = sum(k * tap for k, tap in enumerate(SYM6)) / math.sqrt(2)
"""Where the filter's mass lies, in taps. The mass has no variance, so a smooth picture is moved by this and no more."""


def ada(images: Tensor, numbers: Tensor, p: Tensor | float) -> Tensor:
    """Every picture changed at random.

    Args:
        images: [N, 3, H, H] in about −1 … 1, H a power of two from 8; float32 or float64, whatever autocast is on.
        numbers: [N, NUMBERS] uniform in [0, 1); picture n is a function of ``images[n]``, ``numbers[n]`` and ``p``.
        p: probability of each change; a number, or a tensor without axes on the pictures' device.

    Returns:
        [N, 3, H, H]. It can be differentiated with respect to the pictures, any number of times.
    """
    numbers = numbers.to(images.dtype).clamp(max=1 - 2**-24)  # else float64 may be rounded to 1, which is none of them
    pixels, geometry, colour = torch.split(numbers, [4, 14, 10], dim=1)
    images = turn(images, pixels, p)
    images = transform(images, sampling_matrices(geometry, p, images.shape[-1]))
    return recolour(images, colour_matrices(colour, p))


def adjust_probability(p: Tensor, mean_sign: Tensor, target: float, images: int, kimg: float) -> Tensor:
    """The probability after ``images`` more pictures.

    The discriminator overfits where it tells most real pictures by their logits' sign; then p rises, else it falls
    (the paper's heuristic r_t, with 0.6 as its target). The result is kept within 0 … 1: beyond, p would be no
    probability, and would have to come all the way back before anything changed.

    Args:
        p: the probability so far; no axes.
        mean_sign: mean of sign(D(real)) since p was adjusted last, in −1 … 1; no axes.
        target: the mean sign that p is steered to.
        images: real pictures shown since p was adjusted last.
        kimg: thousands of pictures within which p goes from 0 to 1 (500 in the paper).
    """
    return (p + torch.sign(mean_sign - target) * (images / (kimg * 1000))).clamp(0, 1)


def turn(images: Tensor, numbers: Tensor, p: Tensor | float) -> Tensor:
    """Pictures [N, 3, H, H] mirrored and turned by multiples of 90°, by ``numbers`` [N, 4].

    What is applied with probability p is a random choice that may fall on the picture as it is: half of the flips and
    a quarter of the turns do. So no orientation is ever shown more often than the data's own, and none can be learned
    instead of it (the paper's appendix C).

    These two are permutations of the pixels, and are therefore done as such, not by the filters of
    :func:`transform`, which are not symmetric.
    """
    flip, flip_way, quarter, quarter_count = numbers.unbind(1)
    flips = _applied(flip, p, (2 * flip_way).floor())
    quarters = _applied(quarter, p, (4 * quarter_count).floor())
    images = _where(flips == 1, images.flip(-1), images)
    images = _where(quarters % 2 == 1, images.transpose(-1, -2), images)
    images = _where((quarters == 1) | (quarters == 2), images.flip(-2), images)
    return _where(quarters >= 2, images.flip(-1), images)


def sampling_matrices(numbers: Tensor, p: Tensor | float, side: int) -> Tensor:
    """[N, 2, 3]: from a place in the changed picture to the place in the given one that is seen there.

    The upper rows of the inverse of the paper's 3×3 matrices, whose last row is 0 0 1. Places are (x, y) in pixels
    from the picture's middle. In this order, a picture is shifted by whole pixels, scaled, rotated, stretched (width
    and height by inverse factors), rotated again and shifted by fractions, by ``numbers`` [N, 14].
    """
    shift, shift_x, shift_y, scale, scale_z, first, first_u, *others = numbers.unbind(1)
    stretch, stretch_z, second, second_u, drift, drift_x, drift_y = others
    one_of_two = 1 - (1 - p) ** 0.5  # so that either of both rotations happens with probability p
    whole = _applied(shift, p, ((2 * torch.stack((shift_x, shift_y)) - 1) * (side * TRANSLATION)).round())
    fraction = _applied(drift, p, _normal(torch.stack((drift_x, drift_y))) * (side * TRANSLATION))
    log_scale = _applied(scale, p, _normal(scale_z) * SCALE)
    log_stretch = _applied(stretch, p, _normal(stretch_z) * SCALE)
    before = _applied(first, one_of_two, (2 * first_u - 1) * math.pi)
    after = _applied(second, one_of_two, (2 * second_u - 1) * math.pi)

    shrink = torch.exp(torch.stack((-log_scale - log_stretch, -log_scale + log_stretch), dim=-1))  # [N, 2]: x, y
    # Products are written out, because matmul may be set to lower precision.
    linear = ((_rotations(-before) * shrink[:, None, :]).unsqueeze(-1) * _rotations(-after).unsqueeze(1)).sum(2)
    offset = -whole.T - (linear * fraction.T[:, None, :]).sum(2)
    return torch.cat((linear, offset.unsqueeze(-1)), dim=-1)


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Pictures [N, 3, H, H] as seen through ``matrices`` [N, 2, 3] of :func:`sampling_matrices`.

    The pictures are reflected at their outermost pixels, doubled by SYM6, sampled bilinearly at the double resolution,
    and halved by the same filter. So what becomes too fine fades instead of aliasing, down to half a picture's size;
    and where the matrix is a shift by whole pixels, the filter's orthonormality makes the result exact.

    Reflected for ever, a picture repeats itself after 2H − 2 pixels. One such period is doubled, and places are wrapped
    into it: padding without limit, whatever the matrices are, by a margin that depends on the side alone. A margin that
    held what is likely would be wider, and still be left: at half its size and rotated by 45°, a picture already
    shows what lies √2·H from its middle.
    """
    side = images.shape[-1]
    # Pixel i of the picture lies at 2i + CENTRE − 4 among the doubled samples; (side − 1)/2 is its middle.
    # The samples that halving reads are numbers −4 … 2·side + 5.
    at = torch.arange(2 * side + 10, device=images.device, dtype=images.dtype) - (side + 3)
    linear, offset = matrices[:, :, :2], matrices[:, :, 2]
    offset = 2 * offset + (CENTRE - 4) * (1 - linear.sum(2)) + (side - 1)
    right, down = linear[..., None, None].unbind(2)  # [N, 2, 1, 1]: what a step that way adds to both places
    places = right * at + down * at[:, None] + (offset + side)[..., None, None]  # [N, 2, 2H + 10, 2H + 10]
    period = 4 * side - 4
    places = places - period * (places / period).floor()
    # Sides are powers of two, so whole places survive the scaling to grid_sample's −1 … 1 exactly.
    grid = ((places + 0.5) / (2 * side) - 1).permute(0, 2, 3, 1)
    result: Tensor = _Resampling.apply(images, grid, False)  # type: ignore[no-untyped-call]
    return result


def colour_matrices(numbers: Tensor, p: Tensor | float) -> Tensor:
    """[N, 3, 4]: from (r, g, b, 1) to the changed r, g, b; the paper's 4×4 matrices without their last row, 0 0 0 1.

    In this order, brightness is added, the contrast scaled, the grey axis flipped (half of the time that this is
    applied, as in :func:`turn`), the hue rotated around that axis and the distance from it scaled, by ``numbers``
    [N, 10]. All but the first scale along the grey axis, or scale and rotate across it, and so commute.
    """
    bright, bright_z, contrast, contrast_z, flip, flip_way, hue, hue_u, saturation, saturation_z = numbers.unbind(1)
    brightness = _applied(bright, p, _normal(bright_z) * BRIGHTNESS)
    log_contrast = _applied(contrast, p, _normal(contrast_z) * CONTRAST)
    flips = _applied(flip, p, (2 * flip_way).floor())
    angle = _applied(hue, p, (2 * hue_u - 1) * math.pi)
    log_saturation = _applied(saturation, p, _normal(saturation_z) * SATURATION)

    along = torch.exp(log_contrast) * (1 - 2 * flips)
    across = torch.exp(log_contrast + log_saturation)
    identity = torch.eye(3, dtype=numbers.dtype, device=numbers.device)
    grey = torch.full_like(identity, 1 / 3)  # projects onto the axis
    quarter = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)  # rotates by 90° what is across it
    parts = (along, grey), (across * angle.cos(), identity - grey), (across * angle.sin(), quarter)
    linear = torch.stack([factor[:, None, None] * matrix for factor, matrix in parts]).sum(0)
    offset = (along * brightness)[:, None, None].expand(-1, 3, 1)
    return torch.cat((linear, offset), dim=-1)


def recolour(images: Tensor, matrices: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] whose colours went through ``matrices`` [N, 3, 4]."""
    *channels, offset = matrices[..., None, None].unbind(2)  # [N, 3, 1, 1] each
    return sum((column * images[:, i : i + 1] for i, column in enumerate(channels)), start=offset)


def _applied(gate: Tensor, p: Tensor | float, value: Tensor) -> Tensor:
    """``value`` [..., N] where ``gate`` [N] lies below p, else 0, which stands for no change."""
    return value * (gate < p)


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal from uniform numbers; within ±5.2, since 0 would become −∞."""
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-7, 1 - 1e-7))
    return normal


def _rotations(angle: Tensor) -> Tensor:
    """[N, 2, 2] from radians [N]."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos, -sin, sin, cos), dim=-1).reshape(-1, 2, 2)


def _where(condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] of ``one`` where ``condition`` [N] holds, else of ``other``."""
    return torch.where(condition[:, None, None, None], one, other)


class _Resampling(torch.autograd.Function):
    """Doubles pictures, samples them at ``grid`` [N, h, w, 2] and halves the result; or the transpose of all that.

    It is linear in the pictures, so its derivative is its transpose, whose derivative is itself again. torch cannot
    differentiate its own sampling twice, and grouped convolutions only one group after the other.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, transpose: bool) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.transpose = transpose
        with torch.autocast(images.device.type, enabled=False):
            planes = images.flatten(0, 1).unsqueeze(0)  # [1, 3N, H, H], one group of the convolutions each
            resampled = _resample_transposed(planes, grid) if transpose else _resample(planes, grid)
        return resampled.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        result: Tensor = _Resampling.apply(gradients[0], grid, not ctx.transpose)  # type: ignore[no-untyped-call]
        return result, None, None


def _resample(planes: Tensor, grid: Tensor) -> Tensor:
    doubled = _double(_double(F.pad(planes, _margins(planes), mode="reflect"), 2), 3)
    pictures = doubled.view(len(grid), 3, *doubled.shape[2:])
    sampled = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _halve(_halve(sampled.flatten(0, 1).unsqueeze(0), 3), 2)


def _resample_transposed(planes: Tensor, grid: Tensor) -> Tensor:
    doubled = _double(_double(planes, 2, padding=5), 3, padding=5)
    sampled = doubled.view(len(grid), 3, *doubled.shape[2:])
    side = 4 * planes.shape[-1]
    blank = sampled.new_empty(len(grid), 3, side, side)
    bilinear, border, align_corners = 0, 1, False
    pictures, _ = torch.ops.aten.grid_sampler_2d_backward(
        sampled, blank, grid, bilinear, border, align_corners, (True, False)
    )
    halved = _halve(_halve(pictures.flatten(0, 1).unsqueeze(0), 3, padding=10), 2, padding=10)
    folded: Tensor = torch.ops.aten.reflection_pad2d_backward(halved, planes, _margins(planes))
    return folded


def _margins(planes: Tensor) -> tuple[int, int, int, int]:
    """What a period lacks around pictures [..., H, H], with the pixels under the filter: 4H samples when doubled."""
    half = planes.shape[-1] // 2
    return half + 3, half + 2, half + 3, half + 2


def _double(planes: Tensor, dim: int, padding: int = 0) -> Tensor:
    """Twice the samples of [1, P, H, W] along an axis: zeros between them, filtered; transpose of :func:`_halve`.

    Of L samples with their zeros around, 2·(L + 2·padding − 5) are computed. They are √½ of the given ones' size.
    """
    taps = sym6_taps(planes.device, planes.dtype).flip(0)
    odd, even = (_convolve(planes, taps[phase::2], dim, 1, padding) for phase in (0, 1))
    return torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)


def _halve(planes: Tensor, dim: int, padding: int = 0) -> Tensor:
    """Every other sample of the filtered [1, P, H, W] along an axis, √2 of the given ones' size."""
    return _convolve(planes, sym6_taps(planes.device, planes.dtype), dim, 2, padding)


@cache
def sym6_taps(device: torch.device, dtype: torch.dtype) -> Tensor:
    """SYM6 [12], copied to the device once: a copy waits for it."""
    return torch.tensor(SYM6, dtype=dtype, device=device)


def _convolve(planes: Tensor, taps: Tensor, dim: int, stride: int, padding: int) -> Tensor:
    """Convolution of each plane: on GPUs, where the pictures' format is contiguous, torch's own kernel in full fp32."""
    along = [1, 1, 1, 1]
    along[dim] = len(taps)
    weight = taps.reshape(along).expand(planes.shape[1], -1, -1, -1)
    strides, paddings = ((stride, 1), (padding, 0)) if dim == 2 else ((1, stride), (0, padding))
    return F.conv2d(planes.contiguous(), weight, stride=strides, padding=paddings, groups=planes.shape[1])
