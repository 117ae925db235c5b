"""What a step in w changes in the image, measured at points of a few images."""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.generator import Generator

SIDE = 20
"""Rows and columns of points. The changes are smooth, and 64² points take ten times as long."""

IMAGES = 4
PSI = 0.7
RANDOM = 3
"""Random directions that a direction is compared with."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Effects:
    """Renders steps from IMAGES images of a network, on the CPU in float32. Thread-safe.

    Args:
        length: length of the steps that are compared.
    """

    @torch.no_grad()
    def __init__(self, generator: Generator, length: float) -> None:
        config = generator.config
        self._generator = generator
        self._length = length
        z = torch.from_numpy(np.random.RandomState(1).randn(IMAGES, config.z_dim).astype(np.float32))
        label = torch.eye(config.classes)[torch.arange(IMAGES) % config.classes] if config.classes else None
        self._ws = generator.mapping.truncate(generator.mapping(z, label), config.num_ws, PSI)
        self._positions = torch.linspace(0, 1, SIDE, dtype=torch.float64)
        self._images = self._render(self._ws)

    def ratio(self, axis: NDArray[np.float64], layers: tuple[int, ...]) -> float:
        """Change by a step along a unit vector, relative to random ones in the same layers."""
        change = self._change(self._length * axis, layers)
        return change / max(self._random_change(layers), 1e-12)  # computed twice if two threads ask at once

    @torch.no_grad()
    def measure(self, step: NDArray[np.floating], layers: tuple[int, ...]) -> tuple[float, float, float]:
        """Change of the image, of its mean brightness and of its mean colourfulness by a step, in levels of 255."""
        before, after = (self._render(self._shift(sign * step, layers)) for sign in (-0.5, 0.5))
        change = float((after - before).square().mean().sqrt())
        luma_before, chroma_before = _luma_and_chroma(before)
        luma_after, chroma_after = _luma_and_chroma(after)
        return change, luma_after - luma_before, chroma_after - chroma_before

    @functools.cache  # noqa: B019 - lives as long as the search for directions
    def _random_change(self, layers: tuple[int, ...]) -> float:
        axes = np.random.RandomState(2).randn(RANDOM, self._generator.config.w_dim)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        return float(np.mean([self._change(self._length * axis, layers) for axis in axes]))

    @torch.no_grad()
    def _change(self, step: NDArray[np.float64], layers: tuple[int, ...]) -> float:
        return float((self._render(self._shift(step, layers)) - self._images).square().mean().sqrt())

    def _shift(self, step: NDArray[np.floating], layers: tuple[int, ...]) -> Tensor:
        ws = self._ws.clone()  # [IMAGES, num_ws, w_dim]
        ws[:, list(layers)] += torch.from_numpy(step.astype(np.float32))
        return ws

    def _render(self, ws: Tensor) -> Tensor:
        """Images [IMAGES, 3, SIDE, SIDE] in levels."""
        images: Tensor = self._generator.synthesis(ws, self._positions, self._positions)
        return (images * 127.5 + 128).clamp(0, 255)


def _luma_and_chroma(images: Tensor) -> tuple[float, float]:
    """Mean brightness, and mean distance of the colours from grey, of images [N, 3, H, W]."""
    luma = (images * torch.tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)  # [N, 1, H, W]
    return float(luma.mean()), float((images - luma).square().mean(1).sqrt().mean())
