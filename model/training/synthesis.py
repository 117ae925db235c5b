"""Training pictures from styles with bounded memory: in chunks, whose activations are computed again when needed.

Lines do not depend on one another, and pixels only on their own row and column. So both are computed a few at a time,
and all that is kept are the finished lines and the colours.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.generator import COLUMNS, ROWS, Synthesis
from model.training.config import Precision

PIXELS_PER_LINE = 32
"""What the activations of one line position weigh, in pixels: about 1.5 MB to 41 KB in fp32 at the source's widths."""


class TrainingSynthesis:
    """The synthesis network at its training resolution, corner to corner.

    Args:
        synthesis: the network.
        precision: "bf16" runs it under autocast, "fp16" the refinement alone, as the original does.
        chunk_pixels: the activations of about so many of a batch's pixels, or of as many lines as weigh the same, are
            kept at a time; 0 keeps them all.
        compiled: whether to compile what a call does. What :meth:`derivative` does is never compiled, for compiled code
            cannot be differentiated twice.
    """

    def __init__(self, synthesis: Synthesis, precision: Precision, chunk_pixels: int, compiled: bool = False) -> None:
        self.synthesis = synthesis
        self._precision = precision
        self._chunk_pixels = chunk_pixels
        self._lines: Callable[..., Tensor] = torch.compile(synthesis.lines) if compiled else synthesis.lines
        self._pixels: Callable[..., Tensor] = torch.compile(self._draw_pixels) if compiled else self._draw_pixels

    def __call__(self, ws: Tensor) -> Tensor:
        """Styles [N, num_ws, w_dim] → pictures [N, 3, R, R] in the styles' type, about −1 … 1."""
        with torch.autocast(ws.device.type, torch.bfloat16) if self._precision == "bf16" else nullcontext():
            rows, columns = (
                torch.cat(_recompute(self._lines, [(ws, positions, axis) for positions in self._positions(ws)]), dim=3)
                for axis in (ROWS, COLUMNS)
            )
            chunks = torch.split(rows, self._at_once(len(ws) * self.synthesis.config.resolution), dim=3)
            colours = _recompute(self._pixels, [(ws, chunk, columns) for chunk in chunks])
            return torch.cat(colours, dim=2).to(ws.dtype)

    def derivative(self, ws: Tensor, direction: Tensor, weights: Tensor) -> Tensor:
        """d/dε Σ weights · pictures(ws + ε·direction) at ε = 0, in fp32: a scalar to be differentiated once more.

        Derivatives are carried forward beside the values. To differentiate a gradient instead would keep the
        activations of all chunks.

        Args:
            ws, direction: [N, num_ws, w_dim].
            weights: [N, 3, R, R].
        """
        lines: list[Tensor] = []  # rows and their derivatives, columns and theirs
        for axis in (ROWS, COLUMNS):
            parts = _recompute(self._derive_lines, [(ws, direction, part, axis) for part in self._positions(ws)])
            lines += [torch.cat(part, dim=3) for part in zip(*parts, strict=True)]
        rows, rows_tangent, *columns = lines
        height = self._at_once(len(ws) * self.synthesis.config.resolution)
        chunks = zip(*(torch.split(x, height, d) for x, d in ((rows, 3), (rows_tangent, 3), (weights, 2))), strict=True)
        sums = _recompute(self._derive_pixels, [(ws, direction, *chunk, *columns) for chunk in chunks])
        return torch.stack(sums).sum()

    def _at_once(self, weight: int) -> int:
        """How many lines to take together, each of which weighs so many pixels: a power of two, so that all chunks are
        of one shape."""
        side = self.synthesis.config.resolution
        if not self._chunk_pixels:
            return side
        return int(min(side, 1 << (max(1, self._chunk_pixels // weight).bit_length() - 1)))

    def _positions(self, ws: Tensor) -> Sequence[Tensor]:
        """The positions of one axis in chunks, float64 [L] each."""
        positions = torch.linspace(0.0, 1.0, self.synthesis.config.resolution, dtype=torch.float64, device=ws.device)
        return torch.split(positions, self._at_once(len(ws) * PIXELS_PER_LINE))

    def _draw_pixels(self, ws: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[N, 3, H, W]."""
        if self._precision != "fp16":
            return self.synthesis.pixels(ws, rows, columns)
        g = self.synthesis.fuse(rows, columns)
        rgb = self.synthesis.to_rgb(g)
        with torch.autocast(ws.device.type, torch.float16):
            rgb = self.synthesis.refine(g, rgb, ws[:, -1])
        return rgb.reshape(*rgb.shape[:2], rows.shape[3], columns.shape[3])

    def _derive_lines(self, ws: Tensor, direction: Tensor, positions: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Lines and their derivatives along the direction, [N, bundles, 32, L, D] each."""
        with forward_ad.dual_level():
            return _unpack(self.synthesis.lines(_pack(ws, direction), positions, axis))

    def _derive_pixels(
        self, ws: Tensor, direction: Tensor, rows: Tensor, rows_tangent: Tensor, weights: Tensor,
        columns: Tensor, columns_tangent: Tensor,
    ) -> Tensor:  # fmt: skip
        """Σ weights · the derivative of the pixels' colours, a scalar."""
        with forward_ad.dual_level():
            duals = ((ws, direction), (rows, rows_tangent), (columns, columns_tangent))
            _, tangent = _unpack(self.synthesis.pixels(*(_pack(value, tangent) for value, tangent in duals)))
            return (tangent * weights).sum()


def _pack(value: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(value, tangent)  # type: ignore[no-untyped-call]
    return dual


def _unpack(dual: Tensor) -> tuple[Tensor, Tensor]:
    value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    assert tangent is not None  # noqa: S101 - every line and colour depends on the style
    return value, tangent


def _recompute(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The function's result for each call's arguments. Of several calls none keeps its activations."""
    if len(calls) == 1:
        return [function(*calls[0])]
    return [checkpoint(function, *call, use_reentrant=False, preserve_rng_state=False) for call in calls]
