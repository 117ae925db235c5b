"""Projection: the latent whose image is nearest to a picture (StyleGAN2, section 5).

First one w for all layers, which stays near what the network has learnt; then a w+ that starts there, with a penalty
on the differences between layers. Adam finds the region of w, with a random crop of the picture in every step. L-BFGS
finds the best w and w+ from there; it needs the same pixels in every step: rows and columns spread over the picture.
Pixels of CREPS are independent of each other, so the cost of a step does not grow with the picture.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.config import RGB
from model.errors import InputError
from model.generator import COLUMNS, ROWS, Generator
from model.latents.latent import Latent
from model.projection.loss import pyramid_loss
from model.projection.target import Target
from model.render import render

SAMPLES = 10_000
"""Latents that are mapped to find the mean and spread of w."""

CROP = 64
"""Most rows and columns of pixels that the network renders in a step."""

MAX_STEPS = 10_000

LEARNING_RATE = 0.1
RAMP_UP, RAMP_DOWN = 0.05, 0.25
NOISE, NOISE_END = 0.05, 0.75
"""Noise on w in standard deviations at first, and the part of the steps after which there is none (StyleGAN2)."""

SQUARES_WEIGHT = 100.0
"""Weight of the mean squared difference for L-BFGS, which is 0.1 at 36 dB."""

HISTORY = 50
"""Steps from which L-BFGS knows the curvature (Liu and Nocedal 1989)."""

SPREAD_WEIGHT, PRIOR_WEIGHT = 1e-3, 1e-4
"""Weights of Σ‖w_i − mean‖² / w_dim and of the Mahalanobis distance of w / w_dim."""

Progress = Callable[[int, Tensor], object]
"""Called after each step with the number of finished steps, and the w or w+ [1 or num_ws, w_dim] so far. An exception
ends the work."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What was found.

    Attributes:
        ws: w+ [num_ws, w_dim].
        psnr_w: dB that the best single w reached, over the known pixels of the target.
        psnr: dB of ``ws``.
    """

    ws: NDArray[np.float32]
    psnr_w: float
    psnr: float


def project(
    generator: Generator,
    target: Target,
    steps: int = 200,
    class_index: int | None = None,
    progress: Progress = lambda done, ws: None,
) -> Projection:
    """Find the latent of a picture on the generator's device. Repeatable on one machine's CPU.

    Args:
        steps: three of five are spent on w, two by Adam and one by L-BFGS, the others on w+. 0 return the mean.
        class_index: look among the images of a class; None for the mean of all.

    Raises:
        InputError: ``steps`` or ``class_index`` is out of range.
    """
    if not 0 <= steps <= MAX_STEPS:
        raise InputError("steps", f"must be from 0 to {MAX_STEPS}, not {steps}")
    search = _Search(generator, target, class_index)
    w_steps = steps * 3 // 5
    descent = w_steps * 2 // 3
    w = search.descend(search.mean[None], descent, progress)  # [1, w_dim]
    w = search.refine(w, w_steps - descent, progress, descent)
    psnr_w = search.psnr(w)
    start = w.expand(generator.config.num_ws, -1)
    ws = search.refine(start, steps - w_steps, progress, w_steps)  # [num_ws, w_dim]
    psnr = search.psnr(ws)
    if psnr < psnr_w:  # few steps
        ws, psnr = start, psnr_w
    return Projection(ws.cpu().numpy().copy(), psnr_w, psnr)


class _Search:
    """Descends from a latent towards a target."""

    def __init__(self, generator: Generator, target: Target, class_index: int | None) -> None:
        self._generator = generator
        self._device = generator.mapping.w_avg.device
        self._image = torch.from_numpy(target.image).to(self._device)[None]  # [1, 3, H, W]
        self._known = torch.from_numpy(target.known).to(self._device)[None, None]  # [1, 1, H, W]
        self._viewport = target.viewport
        m_x, m_y = target.viewport.supersampling(generator.config.resolution)
        self._samples = m_y, m_x
        self._random = np.random.RandomState(0)
        self.mean, self._std, self._whitening = self._statistics(class_index)

    @torch.no_grad()
    def _statistics(self, class_index: int | None) -> tuple[Tensor, float, Tensor]:
        """Mean of w [w_dim], root mean square distance from it, and the matrix [w_dim, w_dim] that whitens w."""
        config, mapping = self._generator.config, self._generator.mapping
        if class_index is not None:
            Latent(seed=0, class_index=class_index).check(config)
        z = torch.from_numpy(np.random.RandomState(0).randn(SAMPLES, config.z_dim).astype(np.float32)).to(self._device)
        label = None
        if config.classes:
            classes = torch.arange(SAMPLES, device=self._device) % config.classes
            label = F.one_hot(classes if class_index is None else torch.full_like(classes, class_index), config.classes)
        w = mapping(z, None if label is None else label.float()).double()  # [SAMPLES, w_dim]
        mean = w.mean(0)
        centred = w - mean
        variances, axes = torch.linalg.eigh(centred.T @ centred / SAMPLES)
        # Axes along which w hardly varies count no more than those of a thousandth of the largest variance.
        whitening = axes / variances.clamp_min(1e-3 * float(variances.max())).sqrt()
        return mean.float(), float(centred.square().sum(1).mean().sqrt()), whitening.float()

    def descend(self, start: Tensor, steps: int, progress: Progress) -> Tensor:
        """One w, by Adam from ``start`` [1, w_dim], with noise at first (StyleGAN2)."""
        ws = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([ws], betas=(0.9, 0.999))
        for step in range(steps):
            t = step / steps
            ramp = min(1.0, (1 - t) / RAMP_DOWN)
            ramp = (0.5 - 0.5 * math.cos(ramp * math.pi)) * min(1.0, (t + 1 / steps) / RAMP_UP)
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * ramp
            noise = NOISE * self._std / math.sqrt(ws.shape[1]) * max(0.0, 1 - t / NOISE_END) ** 2
            shift = torch.from_numpy(self._random.randn(*ws.shape).astype(np.float32)).to(self._device)
            loss = self._loss(ws + noise * shift) + self._penalty(ws)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, ws.detach())
        return ws.detach()

    def refine(self, start: Tensor, steps: int, progress: Progress, done: int) -> Tensor:
        """One w or w+, by L-BFGS from ``start`` [1 or num_ws, w_dim]. A step is an evaluation of image and gradient."""
        ws = start.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS(
            [ws], 1.0, steps, steps, 0.0, 0.0, history_size=HISTORY, line_search_fn="strong_wolfe"
        )
        evaluations = itertools.count(1)  # the last line search may take more than are left

        def evaluate() -> float:
            optimizer.zero_grad()
            loss = SQUARES_WEIGHT * self._squares(ws) + self._penalty(ws)
            loss.backward()  # type: ignore[no-untyped-call]
            progress(done + min(next(evaluations), steps), ws.detach())
            return float(loss.detach())

        if steps:
            optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        return ws.detach() if ws.isfinite().all() else start

    def _penalty(self, ws: Tensor) -> Tensor:
        spread = (ws - ws.mean(0)).square().sum() / ws.shape[1]
        prior = ((ws - self.mean) @ self._whitening).square().mean()
        return SPREAD_WEIGHT * spread + PRIOR_WEIGHT * prior

    def _loss(self, ws: Tensor) -> Tensor:
        """Distance to the target in a random crop."""
        height, width = self._image.shape[2:]
        h, w = (min(side, max(1, CROP // m)) for side, m in zip((height, width), self._samples, strict=True))
        x, y = self._random.randint(width - w + 1), self._random.randint(height - h + 1)
        rows, columns = np.arange(y, y + h), np.arange(x, x + w)
        return pyramid_loss(*self._difference(ws, rows, columns))

    def _squares(self, ws: Tensor) -> Tensor:
        """Mean squared difference to the target, at rows and columns spread over it."""
        rows, columns = (
            np.linspace(0, side - 1, min(side, max(1, CROP // m))).round().astype(int)
            for side, m in zip(self._image.shape[2:], self._samples, strict=True)
        )
        difference, known = self._difference(ws, rows, columns)
        return (difference.square() * known).sum() / (RGB * known.sum()).clamp_min(1e-6)

    def _difference(self, ws: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Image minus target [1, 3, h, w] at rows [h] and columns [w] of pixels, and what is known there, [1, 1, h, w].

        Without the samples for detail finer than training images: a step would see fewer pixels by as many.
        """
        resolution, (m_y, m_x) = self._generator.config.resolution, self._samples
        height, width = self._image.shape[2:]
        places = (
            self._viewport.rows(0, height * m_y, resolution, m_y).reshape(height, m_y)[rows].ravel(),
            self._viewport.columns(0, width * m_x, resolution, m_x).reshape(width, m_x)[columns].ravel(),
        )
        synthesis, styles = self._generator.synthesis, ws.expand(self._generator.config.num_ws, -1)[None]
        lines = (
            synthesis.lines(styles, torch.from_numpy(positions).to(self._device), axis)
            for axis, positions in zip((ROWS, COLUMNS), places, strict=True)
        )
        image = F.avg_pool2d(synthesis.pixels(styles, *lines), (m_y, m_x))  # [1, 3, h, w]
        area = (..., torch.from_numpy(rows)[:, None], torch.from_numpy(columns))
        return image - self._image[area], self._known[area]

    @torch.no_grad()
    def psnr(self, ws: Tensor) -> float:
        """dB between the whole image and the target, over its known pixels."""
        styles = ws.expand(self._generator.config.num_ws, -1)[None]
        image = render(self._generator, styles, self._viewport).clamp(-1, 1)
        error = (((image - self._image) / 2).square() * self._known).sum() / (3 * self._known.sum())
        return -10 * math.log10(max(float(error), 1e-10))
