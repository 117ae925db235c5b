"""Images of a generator that is a torch module, for metrics."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.generator import Generator
from model.latents.latent import Latent
from model.render import render
from model.viewport import Viewport


class GeneratorSampler:
    """A Sampler that renders on the generator's device in float32.

    Args:
        generator: used with the weights that it has at each call.
        classes: class of every seed, for a conditional network.
        psi: truncation ψ of all styles.
    """

    def __init__(self, generator: Generator, classes: Sequence[int] | None = None, psi: float = 1.0) -> None:
        self._generator = generator
        self._classes = classes
        self._psi = psi

    @torch.no_grad()
    def __call__(self, seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
        """An image [h, w, 3] of each seed, in levels 0 … 255 that are not rounded; NaN becomes 0."""
        images = render(self._generator, self._styles(seeds), viewport)  # [N, 3, h, w]
        levels = (images * 127.5 + 128).clamp(0, 255).nan_to_num(0)  # as the original tools, which then truncate
        return list(levels.permute(0, 2, 3, 1).cpu().numpy())

    def _styles(self, seeds: Sequence[int]) -> Tensor:
        """[N, num_ws, w_dim]."""
        config, mapping = self._generator.config, self._generator.mapping
        z = self._to_device(np.concatenate([Latent(seed=seed).sample_z(config.z_dim) for seed in seeds]))  # [N, z_dim]
        label = None
        if self._classes is not None:
            indices = self._to_device(np.array([self._classes[seed] for seed in seeds]))
            label = F.one_hot(indices, config.classes).float()  # [N, classes]
        return mapping.truncate(mapping(z, label), config.num_ws, self._psi)

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._generator.mapping.w_avg.device)
