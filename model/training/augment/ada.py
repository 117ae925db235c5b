"""Adaptive discriminator augmentation (ADA, Karras et al. 2020, arXiv:2006.06676, appendix B), of the kinds "bgc".

Real and generated images are augmented before the discriminator: pixel blitting (flips and 90° rotations), geometric
and color transformations, each applied with probability p. p adapts to the discriminator's overfitting: high enough
that it does not memorize the data, low enough that the augmentations do not leak into the generated images.

All functions are deterministic in their random numbers, treat every image on its own, and do not wait for the device.
"""

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 28
"""Uniform random numbers in [0, 1) for one image: 4 for pixel blitting, 14 for geometry, 10 for color."""

BLITTING_NUMBERS = 4
"""Those for pixel blitting, which come first."""

TRANSLATION = 1 / 8
"""Maximum integer translation, and standard deviation of the fractional translation, relative to the side."""

SCALE = 0.2 * math.log(2)
"""Standard deviation of the logarithm of the isotropic and the anisotropic scaling."""

BRIGHTNESS = 0.2
"""Standard deviation of the brightness."""

CONTRAST, SATURATION = 0.5 * math.log(2), math.log(2)
"""Standard deviations of the logarithms of the factors."""

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
"""Low-pass filter of the wavelet symlet 6: orthonormal to its even shifts, with six vanishing moments, and of such
filters the one whose phase is closest to linear (Daubechies 1992, Ten Lectures on Wavelets, section 8.1.1)."""

CENTER = sum(k * tap for k, tap in enumerate(SYM6)) / math.sqrt(2)
"""The filter's center of mass in taps. Its variance is 0, so filtering shifts a smooth image by this much only."""


def ada(images: Tensor, numbers: Tensor, p: Tensor | float, kinds: str = "bgc") -> Tensor:
    """Augments every image at random.

    Args:
        images: [N, 3, H, H] in about −1 … 1, H a power of two from 8; float32 or float64, regardless of autocast.
        numbers: [N, NUMBERS] uniform in [0, 1).
        p: probability of each augmentation; a number, or a scalar tensor on the images' device.
        kinds: initials of the kinds that are applied: pixel blitting, geometry, color.

    Returns:
        [N, 3, H, H], differentiable any number of times with respect to the images.
    """
    numbers = numbers.to(images.dtype).clamp(max=1 - 2**-24)  # rounding to float32 may give 1
    blitting, geometry, color = torch.split(numbers, [BLITTING_NUMBERS, 14, 10], dim=1)
    if "b" in kinds:
        images = flip_and_rotate(images, blitting, p)  # [N, 3, H, H]
    if "g" in kinds:
        images = resample(images, geometry_matrices(geometry, p, images.shape[-1]))  # [N, 3, H, H]
    return apply_color(images, color_matrices(color, p)) if "c" in kinds else images


def adjust_probability(p: Tensor, mean_sign: Tensor, target: float, images: int, kimg: float) -> Tensor:
    """Moves p by one step towards the target of the heuristic r_t = E[sign(D(real))] (equation 1), within 0 … 1.

    Args:
        p: the current probability, a scalar.
        mean_sign: r_t since the last adjustment, in −1 … 1, a scalar.
        target: of r_t; p grows when r_t is larger (0.6 in the paper).
        images: real images shown since the last adjustment.
        kimg: thousands of images in which p can go from 0 to 1 (500 in the paper).
    """
    return (p + torch.sign(mean_sign - target) * (images / (kimg * 1000))).clamp(0, 1)


def flip_and_rotate(images: Tensor, numbers: Tensor, p: Tensor | float) -> Tensor:
    """Pixel blitting: random flips and rotations by multiples of 90° of images [N, 3, H, H], by ``numbers`` [N, 4].

    The random choices include the identity (half of the flips, a quarter of the rotations), so no orientation becomes
    more frequent than the data's own at any p, which keeps the augmentation from leaking (appendix C).

    They are done as exact permutations of the pixels; the filter of :func:`resample` is not symmetric.
    """
    flips, quarters = _blitting(numbers, p)
    images = _where(flips == 1, images.flip(-1), images)
    images = _where(quarters % 2 == 1, images.transpose(-1, -2), images)
    images = _where((quarters == 1) | (quarters == 2), images.flip(-2), images)
    return _where(quarters >= 2, images.flip(-1), images)


def move_centers(centers: Tensor, numbers: Tensor, p: Tensor | float) -> Tensor:
    """Where :func:`flip_and_rotate` with the same numbers [N, 4] moves points (x, y) [N, 2] of the unit square."""
    flips, quarters = _blitting(numbers.to(centers.dtype).clamp(max=1 - 2**-24), p)
    x, y = centers.unbind(1)
    x = torch.where(flips == 1, 1 - x, x)
    x, y = torch.where(quarters % 2 == 1, y, x), torch.where(quarters % 2 == 1, x, y)
    y = torch.where((quarters == 1) | (quarters == 2), 1 - y, y)
    x = torch.where(quarters >= 2, 1 - x, x)
    return torch.stack((x, y), dim=1)


def _blitting(numbers: Tensor, p: Tensor | float) -> tuple[Tensor, Tensor]:
    """Flips, 0 or 1, and quarter turns, 0 … 3, from ``numbers`` [N, 4]: [N] each."""
    flip, flip_way, quarter, quarter_count = numbers.unbind(1)  # [N] each
    return _applied(flip, p, (2 * flip_way).floor()), _applied(quarter, p, (4 * quarter_count).floor())


def geometry_matrices(numbers: Tensor, p: Tensor | float, side: int) -> Tensor:
    """Matrices [N, 2, 3] from (x, y, 1) in the augmented image to (x, y) in the input, from ``numbers`` [N, 14].

    They are the upper two rows of the paper's matrix G⁻¹ (appendix B). Positions are in pixels from the image's center.
    The image is, in this order, translated by whole pixels, scaled, rotated, scaled anisotropically (width and height
    by inverse factors), rotated again and translated by fractions of a pixel.
    """
    shift, shift_x, shift_y, scale, scale_z, first, first_u, *others = numbers.unbind(1)  # [N] each
    stretch, stretch_z, second, second_u, drift, drift_x, drift_y = others
    p_rotation = 1 - (1 - p) ** 0.5  # so that at least one of the two rotations happens with probability p
    whole = _applied(shift, p, ((2 * torch.stack((shift_x, shift_y)) - 1) * (side * TRANSLATION)).round())  # [2, N]
    fraction = _applied(drift, p, _normal(torch.stack((drift_x, drift_y))) * (side * TRANSLATION))  # [2, N]
    log_scale = _applied(scale, p, _normal(scale_z) * SCALE)
    log_stretch = _applied(stretch, p, _normal(stretch_z) * SCALE)
    first_angle = _applied(first, p_rotation, (2 * first_u - 1) * math.pi)
    second_angle = _applied(second, p_rotation, (2 * second_u - 1) * math.pi)

    shrink = torch.exp(torch.stack((-log_scale - log_stretch, -log_scale + log_stretch), dim=-1))  # [N, 2]: x, y
    # The matrix products are written out, because matmul may run in lower precision (TF32).
    linear = _rotations(-first_angle) * shrink[:, None, :]  # [N, 2, 2]
    linear = (linear.unsqueeze(-1) * _rotations(-second_angle).unsqueeze(1)).sum(2)  # [N, 2, 2]
    offset = -whole.T - (linear * fraction.T[:, None, :]).sum(2)  # [N, 2]
    return torch.cat((linear, offset.unsqueeze(-1)), dim=-1)


def resample(images: Tensor, matrices: Tensor) -> Tensor:
    """Images [N, 3, H, H] resampled by ``matrices`` [N, 2, 3] of :func:`geometry_matrices`.

    As in the paper, images are reflection-padded, upsampled 2× with SYM6, sampled bilinearly, and downsampled 2× with
    the same filter, which suppresses aliasing down to half the image's size. Translations by whole pixels are exact,
    because the filter is orthonormal.

    An endlessly reflected image has a period of 2H − 2 pixels. One period is upsampled, and sampling positions are
    wrapped into it. This pads without limit, whatever the matrices are, with a margin that depends on H alone.
    """
    side = images.shape[-1]
    # Pixel i lies at 2i + CENTER − 4 in the upsampled image; (H − 1)/2 is the image's center.
    # Downsampling reads the samples −4 … 2H + 5.
    at = torch.arange(2 * side + 10, device=images.device, dtype=images.dtype) - (side + 3)  # [2H + 10]
    linear, offset = matrices[:, :, :2], matrices[:, :, 2]  # [N, 2, 2], [N, 2]
    offset = 2 * offset + (CENTER - 4) * (1 - linear.sum(2)) + (side - 1)
    right, down = linear[..., None, None].unbind(2)  # [N, 2, 1, 1]: change of (x, y) per step right or down
    positions = right * at + down * at[:, None] + (offset + side)[..., None, None]  # [N, 2, 2H + 10, 2H + 10]
    period = 4 * side - 4
    positions = positions - period * (positions / period).floor()
    # H is a power of two, so whole positions survive the scaling to grid_sample's −1 … 1 exactly.
    grid = ((positions + 0.5) / (2 * side) - 1).permute(0, 2, 3, 1)  # [N, 2H + 10, 2H + 10, 2]
    result: Tensor = _Resampling.apply(images, grid, False)  # type: ignore[no-untyped-call]
    return result


def color_matrices(numbers: Tensor, p: Tensor | float) -> Tensor:
    """Matrices [N, 3, 4] from (r, g, b, 1) to (r, g, b), from ``numbers`` [N, 10].

    They are the upper three rows of the paper's matrix C (appendix B): brightness, contrast, luma flip (in half
    of the cases, as in :func:`flip_and_rotate`), hue rotation, saturation. All but brightness scale along the gray
    axis, or scale and rotate across it, and therefore commute.
    """
    bright, bright_z, contrast, contrast_z, flip, flip_way, hue, hue_u, saturation, saturation_z = numbers.unbind(1)
    brightness = _applied(bright, p, _normal(bright_z) * BRIGHTNESS)
    log_contrast = _applied(contrast, p, _normal(contrast_z) * CONTRAST)
    flips = _applied(flip, p, (2 * flip_way).floor())
    angle = _applied(hue, p, (2 * hue_u - 1) * math.pi)
    log_saturation = _applied(saturation, p, _normal(saturation_z) * SATURATION)

    along = torch.exp(log_contrast) * (1 - 2 * flips)  # [N], factor along the gray axis
    across = torch.exp(log_contrast + log_saturation)  # [N], factor across it
    identity = torch.eye(3, dtype=numbers.dtype, device=numbers.device)
    gray = torch.full_like(identity, 1 / 3)  # projects onto the gray axis
    quarter = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)  # rotates by 90° around it
    terms = (along, gray), (across * angle.cos(), identity - gray), (across * angle.sin(), quarter)
    linear = torch.stack([factor[:, None, None] * matrix for factor, matrix in terms]).sum(0)  # [N, 3, 3]
    offset = (along * brightness)[:, None, None].expand(-1, 3, 1)  # [N, 3, 1]
    return torch.cat((linear, offset), dim=-1)


def apply_color(images: Tensor, matrices: Tensor) -> Tensor:
    """Applies color ``matrices`` [N, 3, 4] to images [N, 3, H, W]."""
    *channels, offset = matrices[..., None, None].unbind(2)  # [N, 3, 1, 1] each
    return sum((column * images[:, i : i + 1] for i, column in enumerate(channels)), start=offset)


def _applied(gate: Tensor, p: Tensor | float, value: Tensor) -> Tensor:
    """``value`` [..., N] where ``gate`` [N] is less than p, else 0, which means no change."""
    return value * (gate < p)


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones; clamped to ±5.2, since 0 would become −∞."""
    normal: Tensor = torch.special.ndtri(uniform.clamp(1e-7, 1 - 1e-7))
    return normal


def _rotations(angle: Tensor) -> Tensor:
    """Rotation matrices [N, 2, 2] from radians [N]."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos, -sin, sin, cos), dim=-1).reshape(-1, 2, 2)


def _where(condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Images [N, 3, H, W] of ``one`` where ``condition`` [N] holds, else of ``other``."""
    return torch.where(condition[:, None, None, None], one, other)


class _Resampling(torch.autograd.Function):
    """Upsamples images, samples them at ``grid`` [N, h, w, 2] and downsamples the result; or the transpose of that.

    The operation is linear in the images, so its derivative is its transpose, whose derivative is the operation itself.
    torch cannot differentiate grid_sample twice, and differentiates grouped convolutions group by group.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, transpose: bool) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.transpose = transpose
        with torch.autocast(images.device.type, enabled=False):
            planes = images.flatten(0, 1).unsqueeze(0)  # [1, 3N, H, H], one convolution group per plane
            resampled = _resample_transposed(planes, grid) if transpose else _resample(planes, grid)
        return resampled.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        result: Tensor = _Resampling.apply(gradients[0], grid, not ctx.transpose)  # type: ignore[no-untyped-call]
        return result, None, None


def _resample(planes: Tensor, grid: Tensor) -> Tensor:
    """[1, 3N, H, H] → [1, 3N, H, H]."""
    padded = F.pad(planes, _margins(planes), mode="reflect")  # [1, 3N, 2H + 5, 2H + 5]
    upsampled = _upsample(_upsample(padded, 2), 3)  # [1, 3N, 4H, 4H]
    images = upsampled.view(len(grid), 3, *upsampled.shape[2:])  # [N, 3, 4H, 4H]
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _downsample(_downsample(sampled.flatten(0, 1).unsqueeze(0), 3), 2)  # from [1, 3N, 2H + 10, 2H + 10]


def _resample_transposed(planes: Tensor, grid: Tensor) -> Tensor:
    """The transpose of :func:`_resample`."""
    upsampled = _upsample(_upsample(planes, 2, padding=5), 3, padding=5)  # [1, 3N, 2H + 10, 2H + 10]
    sampled = upsampled.view(len(grid), 3, *upsampled.shape[2:])  # [N, 3, 2H + 10, 2H + 10]
    side = 4 * planes.shape[-1]
    blank = sampled.new_empty(len(grid), 3, side, side)
    bilinear, border, align_corners = 0, 1, False
    images, _ = torch.ops.aten.grid_sampler_2d_backward(
        sampled, blank, grid, bilinear, border, align_corners, (True, False)
    )  # [N, 3, 4H, 4H]
    planes_4h = images.flatten(0, 1).unsqueeze(0)  # [1, 3N, 4H, 4H]
    padded = _downsample(_downsample(planes_4h, 3, padding=10), 2, padding=10)  # [1, 3N, 2H + 5, 2H + 5]
    result: Tensor = torch.ops.aten.reflection_pad2d_backward(padded, planes, _margins(planes))  # [1, 3N, H, H]
    return result


def _margins(planes: Tensor) -> tuple[int, int, int, int]:
    """Padding of images [..., H, H] to one period and the filter's support; upsampled, that gives 4H samples."""
    half = planes.shape[-1] // 2
    return half + 3, half + 2, half + 3, half + 2


def _upsample(planes: Tensor, dim: int, padding: int = 0) -> Tensor:
    """Inserts zeros and filters [1, P, H, W] along an axis; the transpose of :func:`_downsample`.

    L samples become 2·(L + 2·padding − 5), with √½ of the amplitude.
    """
    taps = sym6_taps(planes.device, planes.dtype).flip(0)
    odd, even = (_convolve(planes, taps[phase::2], dim, 1, padding) for phase in (0, 1))
    return torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)


def _downsample(planes: Tensor, dim: int, padding: int = 0) -> Tensor:
    """Filters [1, P, H, W] along an axis and keeps every other sample, with √2 of the amplitude."""
    return _convolve(planes, sym6_taps(planes.device, planes.dtype), dim, 2, padding)


@cache
def sym6_taps(device: torch.device, dtype: torch.dtype) -> Tensor:
    """SYM6 [12], copied to a device once, because a copy waits for the device."""
    return torch.tensor(SYM6, dtype=dtype, device=device)


def _convolve(planes: Tensor, taps: Tensor, dim: int, stride: int, padding: int) -> Tensor:
    """Convolves each plane. With contiguous planes, GPUs use torch's own kernel in full fp32, not cuDNN's TF32."""
    along = [1, 1, 1, 1]
    along[dim] = len(taps)
    weight = taps.reshape(along).expand(planes.shape[1], -1, -1, -1)
    strides, paddings = ((stride, 1), (padding, 0)) if dim == 2 else ((1, stride), (0, padding))
    return F.conv2d(planes.contiguous(), weight, stride=strides, padding=paddings, groups=planes.shape[1])
