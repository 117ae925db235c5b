"""A stand-in for the package of drawn smileys: its files, each with the same sphere and a face of its own."""

from pathlib import Path

import numpy as np
from PIL import Image

from model.demo.compose import EYES, MOUTHS, OTHERS, PLAIN, SIDE, WIDE_EYES

Y, X = np.mgrid[:SIDE, :SIDE]
RADIUS = np.hypot(X - 127.5, Y - 127.5)


def draw_sphere() -> np.ndarray:
    """Yellow, orange at the rim, on nothing."""
    rim = (RADIUS / 115).clip(0, 1)[..., None] ** 2
    colours = np.array([1.0, 0.85, 0.2]) * (1 - rim) + np.array([0.95, 0.6, 0.15]) * rim
    return np.dstack([colours, (115.5 - RADIUS).clip(0, 1)])


def _smiley(number: int) -> np.ndarray:
    """With black eyes and a red mouth, which lie elsewhere in each."""
    image = draw_sphere()
    eyes = np.minimum(np.hypot(X - 85 - number % 7 * 4, Y - 100), np.hypot(X - 145 - number % 7 * 4, Y - 100))
    mouth = np.maximum(np.abs(X - 128) - 30, np.abs(Y - 165 - number % 6 * 7) - 3) + 10
    for distance, colour in ((eyes, (0.1, 0.05, 0.0)), (mouth, (0.8, 0.1, 0.2))):
        share = (10.5 - distance).clip(0, 1)[..., None]
        image[..., :3] = image[..., :3] * (1 - share) + np.array(colour) * share
    return image


def write_assets(folder: Path) -> Path:
    """The files that model.demo.compose reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sorted({*PLAIN, *EYES, *MOUTHS, *WIDE_EYES, *OTHERS})):
        pixels = (_smiley(number) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.webp", lossless=True)
    return folder
