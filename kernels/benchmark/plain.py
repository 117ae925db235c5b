"""The plain network on a GPU, eager and compiled: what the kernels are measured against."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kernels.benchmark.figures import Measurement, make_measurement, quantiles
from model.config import RGB
from model.generator import COLUMNS, ROWS, Generator
from model.viewport import Viewport

SLOW = 0.5
"""Seconds from which a picture is timed once, not many times."""

REFERENCE_PIXELS = 1 << 22
"""Pixels that are drawn at once: their widest activations are 2 GiB in fp32."""


def reference_name(*, autocast: bool, compiled: bool) -> str:
    """As in "eager fp32"; fp16 is autocast's mix of it with fp32."""
    return f"{'compiled' if compiled else 'eager'} {'fp16' if autocast else 'fp32'}"


class Reference:
    """model.generator, in bands of rows that fit a GPU's memory."""

    def __init__(self, generator: Generator, *, autocast: bool, compiled: bool) -> None:
        self.name = reference_name(autocast=autocast, compiled=compiled)
        self.config = generator.config
        self._autocast = autocast
        synthesis = generator.synthesis
        self._lines: Callable[..., Tensor] = synthesis.lines
        self._pixels: Callable[..., Tensor] = synthesis.pixels
        if compiled:
            torch.compiler.reset()
            self._lines, self._pixels = torch.compile(synthesis.lines), torch.compile(synthesis.pixels)

    def band(self, batch: int, columns: int, down: int) -> int:
        """Rows of a band: whole boxes of ``down`` rows, but for one box no more than REFERENCE_PIXELS allow."""
        return max(REFERENCE_PIXELS // (batch * columns) // down, 1) * down

    def draw(self, ws: Tensor, rows: Tensor, columns: Tensor, factors: tuple[int, int]) -> Tensor:
        """Pixels of boxes of colours.

        Args:
            ws: styles [N, num_ws, w_dim].
            rows, columns: network coordinates [H · m_y] and [W · m_x].
            factors: m_y and m_x.

        Returns:
            uint8 [N, H, W, 3].
        """
        down, across = factors
        shape = len(ws), len(rows) // down, len(columns) // across, RGB
        output = torch.empty(shape, dtype=torch.uint8, device=ws.device)
        height = self.band(len(ws), len(columns), down)
        with torch.autocast(ws.device.type, torch.float16, enabled=self._autocast):
            row_lines, column_lines = self._lines(ws, rows, ROWS), self._lines(ws, columns, COLUMNS)
            for top in range(0, len(rows), height):
                colours = self._pixels(ws, row_lines[:, :, :, top : top + height], column_lines).float()
                if down * across > 1:
                    colours = torch.nn.functional.avg_pool2d(colours, factors)
                pixels = (colours * 127.5 + 128).clamp(0, 255).to(torch.uint8)
                output[:, top // down : (top + height) // down] = pixels.permute(0, 2, 3, 1)
        return output


def measure_reference(reference: Reference, viewport: Viewport, batch: int) -> Measurement:
    """Pictures of the plain network, without the mapping, which takes no time."""
    config = reference.config
    ws = torch.randn(batch, config.num_ws, config.w_dim, device="cuda")
    m_x, m_y = viewport.supersampling(config.resolution)
    rows = torch.from_numpy(viewport.rows(0, viewport.height * m_y, config.resolution, m_y)).cuda()
    columns = torch.from_numpy(viewport.columns(0, viewport.width * m_x, config.resolution, m_x)).cuda()

    def draw() -> None:
        reference.draw(ws, rows, columns, (m_y, m_x))

    draw()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    draw()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() - viewport.pixels * batch * RGB
    times = quantiles(draw) if seconds < SLOW else (seconds * 1e3,) * 3
    bands = -(-len(rows) // reference.band(batch, len(columns), m_y))
    return replace(make_measurement(reference.name, config, viewport, batch, times, peak), bands=bands)
