"""The readable network itself as a backend, on any device: slow, and what every other backend is measured by."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import layer_styles
from model.generator import Generator
from model.spec import Latent


class ReferenceBackend:
    """Calls model.generator block by block."""

    name = "reference"

    def __init__(self, generator: Generator, device: torch.device) -> None:
        self._generator = generator.to(device)
        self._device = device
        # A GPU needs more pixels at once to be busy. 256² pixels of 128 channels are 32 MiB.
        self.side = 64 if device.type == "cpu" else 256

    def style(self, latent: Latent) -> Tensor:
        """The styles [1, num_ws, w_dim]."""
        return layer_styles(self._generator.config, self._generator.mapping, latent)

    @torch.no_grad()
    def lines(self, style: Tensor, positions: NDArray[np.float64], axis: int) -> Tensor:
        u = torch.from_numpy(positions).to(self._device)
        return self._generator.synthesis.lines(style, u, axis)[0]

    @torch.no_grad()
    def pixels(self, style: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self._generator.synthesis.pixels(style, rows[None], columns[None])[0].permute(1, 2, 0)
