"""Launches of the style kernels: mapping network, affine layers and modulation."""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.gpu.jit.lines import modulate_kernel
from kernels.gpu.jit.styles import affine_kernel, mapping_kernel
from kernels.gpu.line_inputs import LineInputs
from kernels.gpu.packing import MappingWeights, ModulatedWeights, Modulation

STYLE_ROWS = 4
"""Outputs per program of mapping_kernel and affine_kernel: 512 outputs occupy a whole GPU."""

MODULATED_ROWS = 8
"""Rows of weights per program of modulate_kernel."""

Launch = Callable[..., Any]
"""Launches a kernel. Arguments: kernel, grid, its arguments; as keywords its constants, num_warps and num_stages."""


def launch(kernel: Any, grid: tuple[int, ...], *arguments: object, **options: object) -> Any:
    """Launch a kernel on the current stream. Returns the compiled kernel, or None in Triton's interpreter."""
    return kernel[grid](*arguments, **options)


def compile_only(kernel: Any, grid: tuple[int, ...], *arguments: object, **options: object) -> None:
    """Compile a kernel without launching it."""
    kernel.warmup(*arguments, grid=grid, **options)


def map_latents(launch: Launch, weights: MappingWeights, inputs: LineInputs) -> Tensor:
    """w of all latents that are given as z, fp32 [S, w_dim]."""
    latents = len(inputs.latents)
    x = inputs.values
    for i, (weight, bias) in enumerate(zip(weights.weights, weights.biases, strict=True)):
        size, width = weight.shape
        y = torch.empty(latents, size, device=weight.device)
        launch(
            mapping_kernel,
            (latents * triton.cdiv(size, STYLE_ROWS),),
            inputs.latents,
            inputs.values,
            weight,
            bias,
            x,
            y,
            latents,
            width,
            size,
            FIRST=i == 0,
            ROWS=STYLE_ROWS,
            BLOCK=triton.next_power_of_2(width),
        )
        x = y
    return x


def style_vectors(
    launch: Launch, mapping: MappingWeights, weights: ModulatedWeights, inputs: LineInputs, mapped: Tensor
) -> Tensor:
    """Style vectors [S, size] of latents whose w is ``mapped`` [S, w_dim] or given."""
    latents, (size, width) = len(inputs.latents), weights.affine.shape
    vectors = torch.empty(latents, size, device=mapped.device)
    launch(
        affine_kernel,
        (latents * triton.cdiv(size, STYLE_ROWS),),
        inputs.latents,
        inputs.values,
        mapped,
        mapping.average,
        weights.affine,
        weights.affine_bias,
        weights.affine_source,
        vectors,
        latents,
        size,
        width,
        ROWS=STYLE_ROWS,
        BLOCK=triton.next_power_of_2(width),
    )
    return vectors


def modulate(
    launch: Launch, weights: ModulatedWeights, modulation: Modulation, parts: int, vectors: Tensor, output: Tensor
) -> None:
    """Modulate weights by the style vectors [S, …].

    Args:
        output: fp16 [S, parts, size]; or a latent table, int64 [S, LATENT_FIELDS], to write to its addresses.
    """
    launch(
        modulate_kernel,
        (triton.cdiv(len(modulation.rows), MODULATED_ROWS), len(vectors)),
        weights.weights,
        modulation.rows,
        modulation.gains,
        vectors,
        output,
        output,
        len(modulation.rows),
        vectors.shape[1],
        parts * modulation.size,
        modulation.size,
        ADDRESSED=output.dtype == torch.int64,
        ROWS=MODULATED_ROWS,
        BLOCK=triton.next_power_of_2(modulation.inputs),
        PARTS=parts,
    )
