"""Reference backend: model/generator.py itself, on any device. Slow; every other backend is compared with it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.block_renderer import BlockBackend
from model.generator import Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles


class ReferenceBackend(BlockBackend[Tensor]):
    """Calls the generator for each block; its style is ws [1, num_ws, w_dim]."""

    name = "reference"

    def __init__(self, generator: Generator, device: torch.device, threads: int | None = None) -> None:
        # A GPU needs larger blocks to be busy. 256² pixels of 128 channels are 32 MiB.
        super().__init__(generator, device, 64 if device.type == "cpu" else 256, threads)
        unit = torch.backends.cpu.get_cpu_capability().lower() if device.type == "cpu" else "gpu"
        self.arithmetic = f"fp32-reference-{unit}"

    def style(self, latent: Latent) -> Tensor:
        return layer_styles(self._config, self._generator.mapping, latent)

    @torch.no_grad()
    def block_lines(self, style: Tensor, positions: NDArray[np.float64], axis: int) -> Tensor:
        return self._generator.synthesis.lines(style, torch.from_numpy(positions).to(self._device), axis)[0]

    @torch.no_grad()
    def block_colours(self, style: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        colours = self._generator.synthesis.pixels(style, rows[None], columns[None])  # [1, 3, H, W]
        return colours[0].permute(1, 2, 0)
