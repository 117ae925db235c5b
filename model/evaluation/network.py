"""Pictures of a generator that is at hand as a torch module, drawn by the readable network."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.generator import COLUMNS, ROWS, Generator
from model.spec import Latent
from model.viewport import Viewport

PIXELS_AT_ONCE = 2**18
"""Pixels whose activations are held, for all pictures of a batch: 128 channels of them are 128 MiB."""


class GeneratorDrawer:
    """Draws on the generator's device, in fp32. It is a Draw; its levels are not rounded.

    Args:
        generator: is used as it is, whenever something is drawn.
        classes: the class of every seed, for a conditional network.
        psi: truncation ψ of all styles.
    """

    def __init__(self, generator: Generator, classes: Sequence[int] | None = None, psi: float = 1.0) -> None:
        self._generator = generator
        self._classes = classes
        self._psi = psi

    @torch.no_grad()
    def __call__(self, seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
        """A picture [h, w, 3] of each seed, of 0 … 255. A value that is not a number becomes 0."""
        generator = self._generator
        x, y, w, h = viewport.crop
        resolution = generator.config.resolution
        fx, fy = viewport.supersampling(resolution)
        ws = self._styles(seeds)
        rows = generator.synthesis.lines(ws, self._upload(viewport.rows(y * fy, (y + h) * fy, resolution, fy)), ROWS)
        columns = generator.synthesis.lines(
            ws, self._upload(viewport.columns(x * fx, (x + w) * fx, resolution, fx)), COLUMNS
        )
        at_once = fy * max(1, PIXELS_AT_ONCE // (len(seeds) * w * fx * fy))
        bands = [generator.synthesis.pixels(ws, band, columns) for band in torch.split(rows, at_once, dim=3)]
        colours = torch.cat([F.avg_pool2d(band, (fy, fx)) for band in bands], dim=2)
        levels = (colours.float() * 127.5 + 128).clamp(0, 255).nan_to_num(0)  # as the original tools, but not cut
        return list(levels.permute(0, 2, 3, 1).cpu().numpy())

    def _styles(self, seeds: Sequence[int]) -> Tensor:
        """[N, num_ws, w_dim]."""
        config, mapping = self._generator.config, self._generator.mapping
        z = self._upload(np.concatenate([Latent(seed=seed).draw_z(config.z_dim) for seed in seeds]))
        label = None
        if self._classes is not None:
            indices = self._upload(np.array([self._classes[seed] for seed in seeds]))
            label = F.one_hot(indices, config.classes).float()
        return mapping.truncate(mapping(z, label), config.num_ws, self._psi)

    def _upload(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._generator.mapping.w_avg.device)
