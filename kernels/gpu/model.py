"""A checkpoint packed for a GPU, and the launches of its kernels: styles, lines and pixels."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.gpu.carve_out import prefer_l1_cache
from kernels.gpu.jit.lines import (
    fourier_features_kernel,
    modulated_matmul_kernel,
    to_lines_kernel,
)
from kernels.gpu.jit.pixels import TILE_WIDTH, average_colours_kernel, pixels_kernel
from kernels.gpu.launch_config import LaunchConfig, split_phases
from kernels.gpu.line_inputs import LineInputs, positions_per_tile
from kernels.gpu.packing import REFINEMENT_SIZE, LineLayer, MappingWeights, ModulatedWeights, PixelWeights
from kernels.gpu.styles import Launch, compile_only, launch, map_latents, modulate, style_vectors
from model.config import FEATURES, RGB
from model.generator import Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles

ARITHMETIC = {1: "fp16", 2: "fp16×3"}
"""Names by the number of fp16 parts of a value."""

AVERAGED_PIXELS = 64
"""Pixels per program of average_colours_kernel."""

FOURIER_ROWS = 16
"""Rows per program of fourier_features_kernel, a divisor of TILE."""

LINE_STAGES = 3
"""Steps of a line layer whose loads are in flight (num_stages)."""


class PackedModel:
    """Computes lines and pixels in one precision. All work is queued on the current stream.

    Args:
        generator: fp32, on the device.
        launch_config: launch parameters of the device and precision.
        parts: fp16 parts of a value, 1 or 2.
        launch: launches a kernel, or only records the launch.

    Attributes:
        programs: number of programs of ``pixels_kernel`` that fit the device.
        highest_frequency: highest frequency of the Fourier input, in cycles per unit of network coordinates.
    """

    @torch.no_grad()
    def __init__(self, generator: Generator, launch_config: LaunchConfig, parts: int, launch: Launch = launch) -> None:
        self.parts = parts
        self._launch = launch
        self.config = generator.config
        self.device = generator.mapping.w_avg.device
        multiprocessors = 2  # in Triton's interpreter, so that tests run several programs
        if self.device.type == "cuda":
            multiprocessors = torch.cuda.get_device_properties(self.device).multi_processor_count
        self._mapping = MappingWeights.pack(generator)
        self._mapping_network = generator.mapping
        self._launch_config = launch_config
        self.programs = multiprocessors * launch_config.pixel_programs
        self._phases = split_phases(self.config.decoder_count, launch_config, parts)
        self._modulated = ModulatedWeights.pack(generator)
        self.highest_frequency = float(self._modulated.frequencies.abs().max())
        self._pixels = PixelWeights.pack(generator, parts)
        self._prefer_l1_cache: set[int] = set()  # functions

    @contextmanager
    def compile_only(self, threads: int) -> Iterator[None]:
        """Compile kernels in threads instead of launching them, until the end of the block.

        A kernel that cannot be compiled raises its error when it is launched.
        """
        launch, self._launch = self._launch, compile_only
        try:
            with (
                ThreadPoolExecutor(threads, thread_name_prefix="compile") as executor,
                triton.AsyncCompileMode(executor, ignore_errors=True),
            ):
                yield
        finally:
            self._launch = launch

    @property
    def line_shape(self) -> tuple[int, int, int, int]:
        """Shape [bundles, D, parts, 32] of the line of one position, fp16."""
        return self.config.bundles, self.config.thickness, self.parts, FEATURES

    @property
    def line_bytes(self) -> int:
        """Bytes of the line of one position."""
        return 2 * math.prod(self.line_shape)

    @property
    def positions_per_tile(self) -> int:
        """Pages are padded to a multiple of this number of positions, so that they consist of whole tiles."""
        return positions_per_tile(self.config)

    @property
    def pixel_tile(self) -> tuple[int, int]:
        """Width and height of a tile of pixels."""
        return TILE_WIDTH, self._launch_config.pixel_warps * 16 // TILE_WIDTH

    def resolve(self, latent: Latent) -> Tensor:
        """w+ [num_ws, w_dim] of a composed latent."""
        return layer_styles(self.config, self._mapping_network, latent)[0].contiguous()

    def compute_styles(self, inputs: LineInputs) -> Tensor:
        """Style vectors, fp32 [S, size]. Also writes the refinement's modulated weights to the latents' addresses."""
        mapped = map_latents(self._launch, self._mapping, inputs)
        vectors = style_vectors(self._launch, self._mapping, self._modulated, inputs, mapped)
        modulate(self._launch, self._modulated, self._modulated.refinement, self.parts, vectors, inputs.latents)
        return vectors

    def compute_lines(self, inputs: LineInputs) -> None:
        """Compute styles and lines of several latents and both axes, and write the lines to pages."""
        vectors = self.compute_styles(inputs)
        modulated = self._empty(len(vectors), self.parts, self._modulated.lines.size)
        modulate(self._launch, self._modulated, self._modulated.lines, self.parts, vectors, modulated)
        x = self._fourier_features(vectors, inputs)  # [parts, M, C]
        running = torch.empty(x.shape[1], FEATURES, dtype=torch.float32, device=self.device)  # [M, 32]
        for layer in self._modulated.line_layers:
            if layer.to_line is None:
                x = self._modulated_layer(layer, x, modulated, inputs.tiles)  # [parts, M, C]
            else:
                self._to_lines(layer, x, modulated, inputs.tiles, running)

    def allocate_refinement(self) -> Tensor:
        """Memory for the refinement's modulated weights of one latent, fp16 [parts, REFINEMENT_SIZE]."""
        return self._empty(self.parts, REFINEMENT_SIZE)

    def _fourier_features(self, vectors: Tensor, inputs: LineInputs) -> Tensor:
        """The first activation, fp16 [parts, M, C]."""
        weights, channels = self._modulated, self.config.channels[0]
        rows = len(inputs.positions) * self.config.thickness
        x = self._empty(self.parts, rows, channels)
        block = min(64, triton.next_power_of_2(channels // 2))
        self._launch(
            fourier_features_kernel,
            (rows // FOURIER_ROWS, triton.cdiv(channels // 2, block)),
            inputs.positions,
            inputs.axes,
            weights.frequencies,
            weights.input_weights,
            vectors,
            inputs.tiles,
            x,
            vectors.shape[1],
            rows * channels,
            THICKNESS=self.config.thickness,
            HALF=channels // 2,
            ROWS=FOURIER_ROWS,
            BLOCK=block,
            PARTS=self.parts,
        )
        return x

    def _modulated_layer(self, layer: LineLayer, x: Tensor, modulated: Tensor, tiles: Tensor) -> Tensor:
        """fp16 [parts, M, C_in] → [parts, M, C_out]."""
        rows = x.shape[1]
        y = self._empty(self.parts, rows, layer.outputs)
        block_n = self._launch_config.block_n if layer.outputs >= 512 else 128
        block_n = min(block_n, max(16, triton.next_power_of_2(layer.outputs)))
        self._launch(
            modulated_matmul_kernel,
            (len(tiles) * triton.cdiv(layer.outputs, block_n),),
            x,
            modulated[:, :, layer.offset :],
            self._modulated.biases[layer.bias_offset :],
            tiles,
            y,
            len(tiles),
            *self._strides(layer, rows),
            rows * layer.outputs,
            OUTPUTS=layer.outputs,
            BLOCK_N=block_n,
            **self._k_blocks(layer),
            num_warps=8,
            num_stages=LINE_STAGES,
            **self._compiler_options(),
        )
        return y

    def _to_lines(self, layer: LineLayer, x: Tensor, modulated: Tensor, tiles: Tensor, running: Tensor) -> None:
        """Add ToLine of x, fp16 [parts, M, C_in], to the running bundle, fp32 [M, 32], and copy it to the pages."""
        skipped = self.config.blocks - 1 - self.config.bundles  # not 0 if fusion is "last"
        addition = layer.to_line or 0
        self._launch(
            to_lines_kernel,
            (len(tiles),),
            x,
            modulated[:, :, layer.offset :],
            self._modulated.biases[layer.bias_offset :],
            tiles,
            running,
            addition - skipped,
            *self._strides(layer, x.shape[1]),
            BUNDLES=self.config.bundles,
            THICKNESS=self.config.thickness,
            FIRST=addition == 0,
            **self._k_blocks(layer),
            num_warps=4,  # 32 outputs are little work
            num_stages=LINE_STAGES,
            **self._compiler_options(),
        )

    def _strides(self, layer: LineLayer, rows: int) -> tuple[int, int, int, int]:
        """The kernels' arguments inputs, weights_size, weights_low_part and x_low_part."""
        size = self._modulated.lines.size
        return layer.inputs, self.parts * size, size, rows * layer.inputs

    def _k_blocks(self, layer: LineLayer) -> dict[str, Any]:
        block_k = min(self._launch_config.block_k, max(16, triton.next_power_of_2(layer.inputs)))
        return {"BLOCK_K": block_k, "EVEN_K": layer.inputs % block_k == 0, "PARTS": self.parts}

    def _compiler_options(self) -> dict[str, str]:
        """Options of kernels with matrix products. Triton's interpreter has no ptxas."""
        return {} if triton.knobs.runtime.interpret else {"ptx_options": self._launch_config.ptxas_options}

    def render_pixels(
        self, tasks: Tensor, programs: Tensor, workspace: Tensor, *, quantise: bool = True, warp: bool = False
    ) -> None:
        """Render the pixels of several tasks.

        Args:
            tasks: int64 [tasks, TASK_FIELDS], see :data:`kernels.gpu.jit.pixels.TASK_FIELDS`.
            programs: int32 [programs, PROGRAM_FIELDS], see :func:`kernels.gpu.pixel_tasks.share_programs`.
            workspace: fp16 [tiles of all tasks, pixels of a tile, parts, 32]; unused if there is only one phase.
            quantise: write uint8, else fp32 colours.
            warp: the tasks have coordinates.
        """
        weights, config = self._pixels, self.config
        for phase in self._phases:
            kernel = self._launch(
                pixels_kernel,
                (len(programs),),
                tasks,
                programs,
                weights.weights,
                weights.biases,
                weights.colour_biases,
                workspace,
                weights.weights.shape[1],
                REFINEMENT_SIZE,
                BUNDLES=config.bundles,
                THICKNESS=config.thickness,
                DECODERS=config.decoder_count,
                FIRST=phase.first,
                LAST=phase.last,
                START=phase.start,
                HEAD=phase.head,
                PARTS=self.parts,
                INTERPOLATE=warp,
                QUANTISE=quantise and phase.head,
                WARPS=self._launch_config.pixel_warps,
                num_warps=self._launch_config.pixel_warps,
                num_stages=1,  # more would take shared memory from the weights
                **self._compiler_options(),
            )
            if kernel is not None and kernel.function not in self._prefer_l1_cache:
                self._prefer_l1_cache.add(kernel.function)
                prefer_l1_cache(kernel, self._launch_config.pixel_programs, self.device)

    def average_colours(
        self, colours: Tensor, output: Tensor, columns: tuple[int, int], factors: tuple[int, int]
    ) -> None:
        """Average supersampled colours, and quantise them unless the output is fp32.

        Args:
            colours: fp32 [height · m_y, width · m_x, 3].
            output: uint8 or fp32 [height, W, 3], of which only ``columns`` are written.
            columns: start and end.
            factors: m_y and m_x.
        """
        left, right = columns
        self._launch(
            average_colours_kernel,
            (len(output), triton.cdiv(right - left, AVERAGED_PIXELS)),
            colours,
            output.view(-1)[left * RGB :],
            right - left,
            colours.shape[1],
            output.shape[1],
            factors[1],
            factors[0],
            BLOCK=AVERAGED_PIXELS,
            QUANTISE=output.dtype == torch.uint8,
        )

    def allocate_workspace(self, tiles: int) -> Tensor:
        """Memory for the features of a number of tiles of pixels between two phases."""
        width, height = self.pixel_tile
        return self._empty(tiles if len(self._phases) > 1 else 1, width * height, self.parts, FEATURES)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float16, device=self.device)
