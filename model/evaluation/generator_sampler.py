"""Pictures of a generator that is at hand as a torch module, drawn by the readable network."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.drawing import draw
from model.generator import Generator
from model.spec import Latent
from model.viewport import Viewport


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
        colours = draw(self._generator, self._styles(seeds), viewport)
        levels = (colours * 127.5 + 128).clamp(0, 255).nan_to_num(0)  # as the original tools, but not cut
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
