"""The naive baseline: model/generator.py, eager or compiled, on whole images or large bands of rows."""

from collections.abc import Callable

import torch
from torch import Tensor

from model.config import RGB
from model.generator import COLUMNS, ROWS, Generator
from model.viewport import Viewport

BAND_PIXELS = 1 << 22
"""Pixels per band on a GPU. Their widest activations are 2 GiB in fp32."""


class NaiveBaseline:
    """Renders images with a generator in bands.

    Args:
        variant: "eager" or "compiled", and "fp32", "tf32" (fp32 with matrix products in TF32) or "fp16" (autocast's mix
            of fp16 and fp32), such as "eager fp32". Sets the process's precision of fp32 products.
        band_pixels: maximum number of network positions in a band.
    """

    def __init__(self, generator: Generator, variant: str = "eager fp32", band_pixels: int = BAND_PIXELS) -> None:
        self.variant = variant
        self.config = generator.config
        self._device = generator.mapping.w_avg.device
        self._autocast = variant.endswith("fp16")
        torch.set_float32_matmul_precision("high" if variant.endswith("tf32") else "highest")
        self._band_pixels = band_pixels
        self._lines: Callable[..., Tensor] = generator.synthesis.lines
        self._pixels: Callable[..., Tensor] = generator.synthesis.pixels
        if variant.startswith("compiled"):
            torch.compiler.reset()
            self._lines, self._pixels = torch.compile(self._lines), torch.compile(self._pixels)

    def lines(self, ws: Tensor, viewport: Viewport) -> tuple[Tensor, Tensor]:
        """Row lines [N, bundles, 32, H·m_y, D] and column lines [N, bundles, 32, W·m_x, D] of ws [N, num_ws, w_dim]."""
        resolution, (m_x, m_y) = (
            self.config.resolution,
            viewport.supersampling(self.config.resolution, self.config.max_scale),
        )
        rows = torch.from_numpy(viewport.rows(0, viewport.height * m_y, resolution, m_y)).to(self._device)
        columns = torch.from_numpy(viewport.columns(0, viewport.width * m_x, resolution, m_x)).to(self._device)
        with torch.autocast(self._device.type, torch.float16, enabled=self._autocast):
            return self._lines(ws, rows, ROWS), self._lines(ws, columns, COLUMNS)

    def band(self, batch: int, viewport: Viewport) -> int:
        """Rows of network positions per band, a multiple of m_y."""
        m_x, m_y = viewport.supersampling(self.config.resolution, self.config.max_scale)
        return max(self._band_pixels // (batch * viewport.width * m_x) // m_y, 1) * m_y

    def pixels(self, ws: Tensor, lines: tuple[Tensor, Tensor], viewport: Viewport) -> Tensor:
        """Pixels uint8 [N, H, W, 3] of lines."""
        m_x, m_y = viewport.supersampling(self.config.resolution, self.config.max_scale)
        output = torch.empty((len(ws), viewport.height, viewport.width, RGB), dtype=torch.uint8, device=self._device)
        height = self.band(len(ws), viewport)
        with torch.autocast(self._device.type, torch.float16, enabled=self._autocast):
            for top in range(0, viewport.height * m_y, height):
                colours = self._pixels(ws, lines[0][:, :, :, top : top + height], lines[1]).float()  # [N, 3, H, W]
                if m_x * m_y > 1:
                    colours = torch.nn.functional.avg_pool2d(colours, (m_y, m_x))
                levels = (colours * 127.5 + 128).clamp(0, 255).to(torch.uint8)
                output[:, top // m_y : (top + height) // m_y] = levels.permute(0, 2, 3, 1)
        return output

    def render(self, ws: Tensor, viewport: Viewport) -> Tensor:
        """Pixels uint8 [N, H, W, 3] of styles ws [N, num_ws, w_dim]."""
        return self.pixels(ws, self.lines(ws, viewport), viewport)
