"""One checkpoint on a GPU: its packed weights, and the launches that make styles, lines and pixels of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.backend import layer_styles
from kernels.lines import TILE, add_to_lines, draw_fourier_features, modulate, multiply_modulated
from kernels.packing import REFINEMENT_SIZE, LineLayer, ModulatedWeights, Modulation, PixelWeights, move
from kernels.pixels import TILE_WIDTH, average_colours, draw_pixels
from kernels.plans import LaunchPlan, split_phases
from model.config import FEATURES, RGB
from model.errors import InputError
from model.generator import Generator
from model.spec import Latent

ARITHMETIC = {1: "fp16", 2: "fp16×3"}
"""Names by the number of fp16 parts of a value."""


MODULATED_ROWS = 8
"""Rows of weights that one program modulates."""

AVERAGED_PIXELS = 64
"""Pixels that one program averages."""

FOURIER_ROWS = 16
"""Rows of the matrix that one program begins with; TILE is a multiple of it."""


Launch = Callable[..., object]
"""Runs a kernel: the kernel, its grid, its arguments, and by name its constants, ``num_warps`` and ``num_stages``."""


def launch(kernel: Any, grid: tuple[int, ...], *arguments: object, **options: object) -> None:
    """Runs a kernel on the current stream."""
    kernel[grid](*arguments, **options)


@dataclass(frozen=True)
class Style:
    """What a latent makes of the network.

    Attributes:
        vector: fp32 [size], the style of every modulated channel.
        refinement: fp16 [parts, REFINEMENT_SIZE], the refinement's modulated weights.
    """

    vector: Tensor
    refinement: Tensor


class GpuNetwork:
    """Draws lines and pixels in one arithmetic. All work goes to the current stream, and nothing waits for it.

    Args:
        generator: on the device, fp32.
        plan: how kernels are launched there.
        parts: fp16 parts of a value, 1 or 2.
        launch: runs the kernels, or only notes what would be run.

    Attributes:
        programs: of ``draw_pixels`` that the device has room for.
        highest_frequency: of the Fourier input, in cycles for each unit of network coordinates.

    Raises:
        InputError: the plan has none for two parts.
    """

    @torch.no_grad()
    def __init__(self, generator: Generator, plan: LaunchPlan, parts: int, launch: Launch = launch) -> None:
        plans = plan.of(parts)
        if plans is None:
            raise InputError(
                "backend", f"{ARITHMETIC[parts]} does not fit compute capability {plan.capability / 10:.1f}"
            )
        self.parts = parts
        self._launch = launch
        self.config = generator.config
        self.device = generator.mapping.w_avg.device
        multiprocessors = 2  # of Triton's interpreter, so that tests see several programs
        if self.device.type == "cuda":
            multiprocessors = torch.cuda.get_device_properties(self.device).multi_processor_count
        self._mapping = generator.mapping
        self._line_plan, self._pixel_plan = plans
        self.programs = multiprocessors * self._pixel_plan.programs
        self._phases = split_phases(self.config.decoder_count, self._pixel_plan, parts)
        self._modulated = move(ModulatedWeights.pack(generator), self.device)
        self.highest_frequency = float(self._modulated.frequencies.abs().max())
        self._pixels = move(PixelWeights.pack(generator, parts), self.device)

    @property
    def line_shape(self) -> tuple[int, int, int, int]:
        """Shape [bundles, D, parts, 32] of one position's line, fp16."""
        return self.config.bundles, self.config.thickness, self.parts, FEATURES

    @property
    def line_bytes(self) -> int:
        """Bytes of one position's line."""
        return 2 * math.prod(self.line_shape)

    @property
    def positions_per_tile(self) -> int:
        """The number of positions whose lines a tile table's entries are made for is a multiple of this."""
        return TILE // math.gcd(TILE, self.config.thickness)

    @property
    def pixel_tile(self) -> tuple[int, int]:
        """Width and height of a tile of pixels."""
        return TILE_WIDTH, self._pixel_plan.warps * 16 // TILE_WIDTH

    @torch.no_grad()
    def style(self, latent: Latent) -> Style:
        """The style of one latent. A batch is made one by one: its size would change the last bits of a product."""
        weights = self._modulated
        ws = layer_styles(self.config, self._mapping, latent)[0]
        vector = (ws @ weights.affine.t()).gather(0, weights.affine_source[None])[0] + weights.affine_bias
        # Zeros, for the rows that pad colours.
        refinement = torch.zeros(1, self.parts, REFINEMENT_SIZE, dtype=torch.float16, device=self.device)
        self._modulate(weights.refinement, vector[None], refinement)
        return Style(vector, refinement[0])

    def draw_lines(self, vectors: Tensor, positions: Tensor, axes: Tensor, tiles: Tensor) -> None:
        """The lines of network coordinates, of several latents and both axes.

        Args:
            vectors: style vectors [S, size].
            positions: fp64 [L], a multiple of :attr:`positions_per_tile`.
            axes: int32 [L], ROWS or COLUMNS.
            tiles: int64 [L·D / TILE, TILE_FIELDS], for each tile of rows its style's index and where its lines go.
        """
        lines = self._modulated.lines
        modulated = self._empty(len(vectors), self.parts, lines.size)
        self._modulate(lines, vectors, modulated)
        rows = len(positions) * self.config.thickness
        x = self._fourier_features(vectors, positions, axes, tiles)
        running = torch.empty(rows, FEATURES, dtype=torch.float32, device=self.device)
        for layer in self._modulated.line_layers:
            if layer.to_line is None:
                x = self._multiply_modulated(layer, x, modulated, tiles)
            else:
                self._add_to_lines(layer, x, modulated, tiles, running)

    def _fourier_features(self, vectors: Tensor, positions: Tensor, axes: Tensor, tiles: Tensor) -> Tensor:
        """The first activation, fp16 [parts, M, C]."""
        weights, channels = self._modulated, self.config.channels[0]
        rows = len(positions) * self.config.thickness
        x = self._empty(self.parts, rows, channels)
        block = min(64, _power_of_two(channels // 2))
        self._launch(
            draw_fourier_features,
            (rows // FOURIER_ROWS, -(-channels // 2 // block)),
            positions,
            axes,
            weights.frequencies,
            weights.input_weights,
            vectors,
            tiles,
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

    def _multiply_modulated(self, layer: LineLayer, x: Tensor, modulated: Tensor, tiles: Tensor) -> Tensor:
        """fp16 [parts, M, C_in] → [parts, M, C_out]."""
        rows, plan = x.shape[1], self._line_plan
        y = self._empty(self.parts, rows, layer.outputs)
        block_n = min(plan.block_n if layer.outputs >= 512 else 128, max(16, _power_of_two(layer.outputs)))
        self._launch(
            multiply_modulated,
            (len(tiles) * -(-layer.outputs // block_n),),
            x,
            modulated[:, :, layer.offset :],
            self._modulated.biases[layer.bias_offset :],
            tiles,
            y,
            len(tiles),
            *self._sizes(layer, rows),
            rows * layer.outputs,
            OUTPUTS=layer.outputs,
            BLOCK_N=block_n,
            **self._blocks(layer),
            num_warps=plan.warps,
            num_stages=plan.stages,
        )
        return y

    def _add_to_lines(self, layer: LineLayer, x: Tensor, modulated: Tensor, tiles: Tensor, running: Tensor) -> None:
        """ToLine of x, fp16 [parts, M, C_in], to the running bundle, fp32 [M, 32], and to the tiles' pages."""
        skipped = self.config.blocks - 1 - self.config.bundles  # where only the last bundle is used
        addition = layer.to_line or 0
        self._launch(
            add_to_lines,
            (len(tiles),),
            x,
            modulated[:, :, layer.offset :],
            self._modulated.biases[layer.bias_offset :],
            tiles,
            running,
            addition - skipped,
            *self._sizes(layer, x.shape[1]),
            BUNDLES=self.config.bundles,
            THICKNESS=self.config.thickness,
            FIRST=addition == 0,
            **self._blocks(layer),
            num_warps=4,  # 32 outputs are little work
            num_stages=self._line_plan.stages,
        )

    def _sizes(self, layer: LineLayer, rows: int) -> tuple[int, int, int, int]:
        """Inputs; numbers from one style's weights to the next, from weights to their low parts, and from x to its."""
        size = self._modulated.lines.size
        return layer.inputs, self.parts * size, size, rows * layer.inputs

    def _blocks(self, layer: LineLayer) -> dict[str, Any]:
        block_k = min(self._line_plan.block_k, max(16, _power_of_two(layer.inputs)))
        return {"BLOCK_K": block_k, "EVEN": layer.inputs % block_k == 0, "PARTS": self.parts}

    def draw_pixels(
        self, tasks: Tensor, programs: Tensor, scratch: Tensor, *, quantise: bool = True, gather: bool = False
    ) -> None:
        """The pixels of several tasks.

        Args:
            tasks: int64 [tasks, TASK_FIELDS], see :data:`kernels.pixels.TASK_FIELDS`.
            programs: int32 [programs, PROGRAM_FIELDS], see :func:`kernels.tasks.share_programs`.
            scratch: fp16 [tiles of all tasks, 128, parts, 32]; unused where there is but one phase.
            quantise: write uint8, else colours as fp32.
            gather: the tasks have coordinates.
        """
        weights, config = self._pixels, self.config
        for phase in self._phases:
            self._launch(
                draw_pixels,
                (len(programs),),
                tasks,
                programs,
                weights.weights,
                weights.biases,
                weights.colour_biases,
                scratch,
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
                GATHER=gather,
                QUANTISE=quantise and phase.head,
                WARPS=self._pixel_plan.warps,
                num_warps=self._pixel_plan.warps,
                num_stages=1,  # more would take shared memory from the weights
            )

    def average(self, colours: Tensor, output: Tensor, columns: tuple[int, int], factors: tuple[int, int]) -> None:
        """Pixels from several colours each.

        Args:
            colours: fp32 [height · m_y, width · m_x, 3].
            output: uint8 [height, W, 3], of which columns ``columns`` are filled.
            columns: the first of them and the one after the last.
            factors: m_y and m_x.
        """
        left, right = columns
        self._launch(
            average_colours,
            (len(output), -(-(right - left) // AVERAGED_PIXELS)),
            colours,
            output.view(-1)[left * RGB :],
            right - left,
            colours.shape[1],
            output.shape[1],
            factors[1],
            factors[0],
            BLOCK=AVERAGED_PIXELS,
        )

    def scratch(self, tiles: int) -> Tensor:
        """Room for the features of that many tiles of pixels between two phases."""
        width, height = self.pixel_tile
        return self._empty(tiles if len(self._phases) > 1 else 1, width * height, self.parts, FEATURES)

    def _modulate(self, modulation: Modulation, vectors: Tensor, output: Tensor) -> None:
        """Fills output, fp16 [S, parts, size], with the weights that style vectors [S, …] make."""
        self._launch(
            modulate,
            (-(-len(modulation.rows) // MODULATED_ROWS), len(vectors)),
            self._modulated.weights,
            modulation.rows,
            modulation.gains,
            vectors,
            output,
            len(modulation.rows),
            vectors.shape[1],
            self.parts * modulation.size,
            modulation.size,
            ROWS=MODULATED_ROWS,
            BLOCK=_power_of_two(modulation.inputs),
            PARTS=self.parts,
        )

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float16, device=self.device)


def _power_of_two(number: int) -> int:
    """The smallest one that is not less."""
    return 1 << (number - 1).bit_length()
