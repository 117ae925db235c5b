"""How kernels are launched on each generation of GPUs: what fits its shared memory and registers.

``python -m kernels.benchmark compile`` compiles every plan without a GPU and tells of spills.
"""

from dataclasses import dataclass

from model.errors import InputError


@dataclass(frozen=True)
class LinePlan:
    """Blocks of a modulated layer's matrix product.

    Attributes:
        block_n: outputs of one program at most.
        block_k: inputs that are loaded at once.
        stages: blocks in flight from memory.
        warps: of one program.
    """

    block_n: int
    block_k: int
    stages: int
    warps: int = 8


@dataclass(frozen=True)
class PixelPlan:
    """What one launch of ``draw_pixels`` does.

    Attributes:
        decoders: most decoders of a phase that ends with features.
        head_decoders: most decoders of the phase that ends with colours.
        warps: of one program, which draws tiles of 16 pixels for each.
        programs: so many have room on one multiprocessor.
    """

    decoders: int
    head_decoders: int
    warps: int = 8
    programs: int = 1


@dataclass(frozen=True)
class LaunchPlan:
    """Plans for one generation.

    Attributes:
        capability: the lowest compute capability, 90 for 9.0.
        lines, pixels: for fp16.
        precise_lines, precise_pixels: for fp16×3; None where its weights or registers do not fit.
    """

    capability: int
    lines: LinePlan
    pixels: PixelPlan
    precise_lines: LinePlan | None = None
    precise_pixels: PixelPlan | None = None

    def of(self, parts: int) -> tuple[LinePlan, PixelPlan] | None:
        """The plans for values of one or two fp16 parts."""
        if parts == 1:
            return self.lines, self.pixels
        if self.precise_lines is None or self.precise_pixels is None:
            return None
        return self.precise_lines, self.precise_pixels


_AMPERE = LaunchPlan(80, LinePlan(128, 64, 3), PixelPlan(3, 2))
_SMALL = LinePlan(128, 32, 3), PixelPlan(2, 0)
_HOPPER = LaunchPlan(90, LinePlan(256, 64, 3), PixelPlan(4, 3), LinePlan(128, 64, 3), PixelPlan(1, 0))

PLANS: dict[int, LaunchPlan] = {
    80: _AMPERE,  # A100: 163 KB of shared memory for one program
    86: LaunchPlan(86, *_SMALL),  # A10, RTX 30: 99 KB
    89: LaunchPlan(89, *_SMALL),  # L4, L40, RTX 40: 99 KB
    90: _HOPPER,  # H100, H200: 227 KB, wgmma
    100: LaunchPlan(100, LinePlan(128, 64, 3), PixelPlan(1, 0, warps=2, programs=3)),  # B200: 227 KB, tcgen05
    120: LaunchPlan(120, *_SMALL),  # RTX 50: 99 KB
}
"""Compute capabilities for which kernels are known to compile. On 10.0 Triton 3.7 makes a trap of ``draw_pixels`` where
tiles have 64 pixels or more, which tcgen05 would multiply; small programs side by side take mma.sync instead."""


@dataclass(frozen=True)
class Phase:
    """Decoders ``first`` … ``last`` − 1 of a pixel in one launch.

    Attributes:
        start: begins with the first product.
        head: ends with colours.
    """

    first: int
    last: int
    start: bool
    head: bool


def find_plan(major: int, minor: int) -> LaunchPlan:
    """The plan for a device's compute capability.

    Raises:
        InputError: there is none.
    """
    capability = 10 * major + minor
    if capability not in PLANS:
        known = ", ".join(f"{known / 10:.1f}" for known in PLANS)
        raise InputError(
            "backend", f"triton has no launch plan for compute capability {major}.{minor}, only for {known}"
        )
    return PLANS[capability]


def split_phases(decoders: int, plan: PixelPlan, parts: int) -> list[Phase]:
    """The phases of a pixel, as few as the plan allows.

    Where values have two parts, the head fills the registers, and so the first product is in another phase.
    """
    if decoders <= plan.head_decoders and parts == 1:
        return [Phase(0, decoders, start=True, head=True)]
    body = max(decoders - plan.head_decoders, 0)
    count = max(-(-body // plan.decoders), 1)
    phases = [Phase(i * body // count, (i + 1) * body // count, start=i == 0, head=False) for i in range(count)]
    return [*phases, Phase(body, decoders, start=False, head=True)]
