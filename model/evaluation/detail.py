"""How fine the detail of images is: the width of their sharpest edges, and their power spectrum."""

from collections.abc import Iterable
from operator import itemgetter
from statistics import median

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114]) / 255
"""Brightness from 0 to 1 of RGB levels (ITU-R BT.601)."""

KAISER_BETA = 8.0
"""Of the window over an image, whose edges would else look like detail (StyleGAN3's avg_spectra)."""

EDGES = 16
"""Sharpest edges of an image whose width is measured."""

MIN_CONTRAST = 0.15
"""Least difference of brightness across an edge: less may be noise or texture."""

Spectra = dict[int, NDArray[np.float64]]
"""Power in dB at 1, 2 … cycles per patch, as of :func:`power_spectrum`, by the scale of the patches."""


def power_spectrum(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean power of images [side, side, 3] in dB at 1, 2, … side/2 − 1 cycles per image, over all directions."""
    total: NDArray[np.float64] | None = None
    count = 0
    for image in images:
        brightness = image @ LUMA
        window = np.kaiser(len(brightness), KAISER_BETA)
        power = np.abs(np.fft.fft2((brightness - brightness.mean()) * window * window[:, None])) ** 2
        total, count = power if total is None else total + power, count + 1
    if total is None:
        raise ValueError("there are no images")
    side = len(total)
    frequencies = np.fft.fftfreq(side, 1 / side)
    radius = np.rint(np.hypot(frequencies, frequencies[:, None])).astype(int)
    sums = np.bincount(radius.ravel(), (total / count).ravel())
    mean = sums / np.bincount(radius.ravel())
    decibels: NDArray[np.float64] = 10 * np.log10(mean[1 : side // 2] + 1e-12)
    return decibels


def edge_width(images: Iterable[NDArray[np.uint8]]) -> float | None:
    """Median width of the sharpest edges of images [h, w, 3] in pixels; None if there are no edges.

    The width of an edge is the distance across it between 10 and 90 % of its change of brightness.
    """
    widths = [width for image in images for width in _edge_widths(image @ LUMA)]
    return median(widths) if widths else None


def _edge_widths(brightness: NDArray[np.float64]) -> list[float]:
    """Widths of the EDGES steepest edges of an image [h, w] that are steeper along x than y, or the other way."""
    found: list[tuple[float, float]] = []
    for values in (brightness, brightness.T):
        steps = np.diff(values, axis=1)  # along the rows of ``values``
        across = np.gradient(values, axis=0)
        across = (across[:, :-1] + across[:, 1:]) / 2
        slope = np.abs(steps)
        padded = np.pad(slope, ((0, 0), (1, 1)))
        peak = (slope >= padded[:, :-2]) & (slope > padded[:, 2:]) & (slope >= np.abs(across))
        rows, columns = np.nonzero(peak)
        strongest = np.argsort(-slope[rows, columns], kind="stable")[: 4 * EDGES]
        for row, column in zip(rows[strongest].tolist(), columns[strongest].tolist(), strict=True):
            first, last = _monotone_run(values[row], column)
            along, aside = values[row, last] - values[row, first], across[row, first:last].sum()
            # An edge that is still steep where the image ends is wider than can be measured.
            ends = [slope[row, end] for end, at in ((0, first), (-1, last)) if at % (values.shape[1] - 1) == 0]
            if abs(along) >= MIN_CONTRAST and max(ends, default=0.0) < slope[row, column] / 4:
                width = _rise(values[row, first : last + 1])
                found.append((-slope[row, column], float(width * abs(along) / np.hypot(along, aside))))
    return [width for _, width in sorted(found, key=itemgetter(0))[:EDGES]]


def _monotone_run(profile: NDArray[np.float64], start: int) -> tuple[int, int]:
    """First and last index of the part of a profile [L] that rises, or falls, as start … start + 1 do."""
    sign = np.sign(profile[start + 1] - profile[start])
    first, last = start, start + 1
    while first > 0 and (profile[first] - profile[first - 1]) * sign > 0:
        first -= 1
    while last < len(profile) - 1 and (profile[last + 1] - profile[last]) * sign > 0:
        last += 1
    return first, last


def _rise(profile: NDArray[np.float64]) -> float:
    """Distance between 10 and 90 % of a monotone profile."""
    rising = (profile - profile[0]) / (profile[-1] - profile[0])
    low, high = np.interp([0.1, 0.9], rising, np.arange(len(rising)))
    return float(high - low)
