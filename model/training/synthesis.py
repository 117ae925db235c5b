"""Synthesis for training with bounded memory: activation checkpointing in chunks of lines and of pixels.

Line positions are independent of one another, and a pixel depends only on its row and its column. Both are computed in
chunks; only the finished lines and colors are kept, and activations are recomputed in the backward pass.

Images are computed by fused_layers.py, which saves time. Their derivative is computed by the network itself: forward
mode needs operators that do not work in place.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.generator import COLUMNS, ROWS, SynthesisNetwork
from model.training import fused_layers
from model.training.config import Precision

PIXELS_PER_LINE = 32
"""Memory of the activations of a line position, in pixels: about 1.5 MB to 41 KB in fp32 at the paper's widths."""


class TrainingSynthesis:
    """The synthesis network at its training resolution: whole images, or patches of larger ones.

    Args:
        precision: "bf16" runs it under autocast, "fp16" only the refinement, as in the original.
        chunk_pixels: number of pixels of the batch, or of lines that take as much memory, in one chunk; 0 for all.
        compiled: whether to compile the forward pass. :meth:`derivative` is never compiled, because compiled
            code cannot be differentiated twice.
    """

    def __init__(
        self, synthesis: SynthesisNetwork, precision: Precision, chunk_pixels: int, compiled: bool = False
    ) -> None:
        self.synthesis = synthesis
        self._precision = precision
        self._chunk_pixels = chunk_pixels
        self._lines: Callable[..., Any] = torch.compile(self._run_lines) if compiled else self._run_lines
        self._pixels: Callable[..., Tensor] = torch.compile(self._run_pixels) if compiled else self._run_pixels

    def __call__(self, ws: Tensor, positions: tuple[Tensor, Tensor] | None = None, samples: int = 1) -> Tensor:
        """Styles [N, num_ws, w_dim] → images [N, 3, R, R] of the same dtype, about −1 … 1.

        Args:
            positions: of the rows and columns of each image, float64 [N, R·m] each; whole images by default.
            samples: m, samples a pixel along each axis, which are averaged.
        """
        side = self.synthesis.config.resolution
        rows, columns = positions or (self._whole(ws), self._whole(ws))  # [N, R·m] or [R] each
        with torch.autocast(ws.device.type, torch.bfloat16) if self._precision == "bf16" else nullcontext():
            length = self._chunk_size(len(ws) * PIXELS_PER_LINE * samples) * samples
            parts = (torch.split(axis, length, dim=-1) for axis in (rows, columns))
            calls = [(ws, *chunk) for chunk in zip(*parts, strict=True)]
            chunks = zip(*_checkpointed(self._lines, calls), strict=True)
            row_lines, column_lines = (torch.cat(axis, dim=3) for axis in chunks)  # [N, bundles, 32, R·m, D] each
            height = self._chunk_size(len(ws) * side * samples**2) * samples
            pixel_calls = [(ws, chunk, column_lines, samples) for chunk in torch.split(row_lines, height, dim=3)]
            colors = _checkpointed(self._pixels, pixel_calls)  # [N, 3, height / m, R] each
            return torch.cat(colors, dim=2).to(ws.dtype)  # [N, 3, R, R]

    def derivative(self, ws: Tensor, direction: Tensor, weights: Tensor) -> Tensor:
        """d/dε Σ weights · images(ws + ε·direction) at ε = 0, a scalar that can be differentiated once more, in fp32.

        It is computed in forward mode. Differentiating a gradient instead would keep the activations of all chunks.

        Args:
            ws, direction: [N, num_ws, w_dim].
            weights: [N, 3, R, R].
        """
        lines: list[Tensor] = []  # rows, their tangents, columns, their tangents: [N, bundles, 32, R, D] each
        for axis in (ROWS, COLUMNS):
            positions = torch.split(self._whole(ws), self._chunk_size(len(ws) * PIXELS_PER_LINE))
            calls = [(ws, direction, chunk, axis) for chunk in positions]
            lines += [torch.cat(chunks, dim=3) for chunks in zip(*_checkpointed(self._jvp_lines, calls), strict=True)]
        rows, rows_tangent, *columns = lines
        height = self._chunk_size(len(ws) * self.synthesis.config.resolution)
        chunks = zip(*(torch.split(x, height, d) for x, d in ((rows, 3), (rows_tangent, 3), (weights, 2))), strict=True)
        sums = _checkpointed(self._jvp_pixels, [(ws, direction, *chunk, *columns) for chunk in chunks])
        return torch.stack(sums).sum()

    def _chunk_size(self, pixels: int) -> int:
        """Lines, of R, in one chunk if each counts for ``pixels``: a power of two, so all chunks have one shape."""
        side = self.synthesis.config.resolution
        if not self._chunk_pixels:
            return side
        return int(min(side, 1 << (max(1, self._chunk_pixels // pixels).bit_length() - 1)))

    def _whole(self, ws: Tensor) -> Tensor:
        """Positions of whole images along one axis, float64 [R]."""
        return torch.linspace(0.0, 1.0, self.synthesis.config.resolution, dtype=torch.float64, device=ws.device)

    def _run_lines(self, ws: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Lines at positions [L] or [N, L]: [N, bundles, 32, L, D] each."""
        return fused_layers.lines(self.synthesis, ws, rows, columns)

    def _run_pixels(self, ws: Tensor, rows: Tensor, columns: Tensor, samples: int) -> Tensor:
        """Rows [N, bundles, 32, m·H, D] and columns [N, bundles, 32, m·W, D] → colors [N, 3, H, W]."""
        g = fused_layers.fuse(self.synthesis, rows, columns)  # [N, 32, H·W]
        rgb = self.synthesis.to_rgb(g)  # [N, 3, H·W]
        with torch.autocast(ws.device.type, torch.float16) if self._precision == "fp16" else nullcontext():
            rgb = fused_layers.refine(self.synthesis, g, rgb, ws[:, -1])  # [N, 3, H·W]
        rgb = rgb.reshape(*rgb.shape[:2], rows.shape[3], columns.shape[3])  # [N, 3, m·H, m·W]
        return rgb if samples == 1 else F.avg_pool2d(rgb.to(torch.promote_types(rgb.dtype, torch.float32)), samples)

    def _jvp_lines(self, ws: Tensor, direction: Tensor, positions: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Lines and their tangents, [N, bundles, 32, L, D] each."""
        with forward_ad.dual_level():
            return _unpack(self.synthesis.lines(_pack(ws, direction), positions, axis))

    def _jvp_pixels(
        self, ws: Tensor, direction: Tensor, rows: Tensor, rows_tangent: Tensor, weights: Tensor,
        columns: Tensor, columns_tangent: Tensor,
    ) -> Tensor:  # fmt: skip
        """Σ weights · the tangents of the colors, a scalar."""
        with forward_ad.dual_level():
            duals = ((ws, direction), (rows, rows_tangent), (columns, columns_tangent))
            _, tangent = _unpack(self.synthesis.pixels(*(_pack(value, tangent) for value, tangent in duals)))
            return (tangent * weights).sum()


def _pack(value: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(value, tangent)  # type: ignore[no-untyped-call]
    return dual


def _unpack(dual: Tensor) -> tuple[Tensor, Tensor]:
    value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    assert tangent is not None  # noqa: S101 - every line and color depends on the style
    return value, tangent


def _checkpointed(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Results of the function for each tuple of arguments. With several calls, activations are recomputed."""
    if len(calls) == 1:
        return [function(*calls[0])]
    return [checkpoint(function, *call, use_reentrant=False, preserve_rng_state=False) for call in calls]
