"""Launch parameters of the kernels for each GPU generation, limited by shared memory and registers.

``python -m kernels.benchmark compile`` compiles them all without a GPU and reports spilled registers.
"""

from dataclasses import dataclass

from model.errors import InputError


@dataclass(frozen=True)
class LaunchConfig:
    """Launch parameters of one precision.

    Attributes:
        block_n: maximum number of outputs per program of a line layer.
        block_k: inputs per step of a line layer.
        decoders: maximum number of decoders in a phase of the pixels that ends with features.
        head_decoders: maximum number of decoders in the phase that ends with colours.
        pixel_warps: warps per program of ``pixels_kernel`` (num_warps). A tile has 16 pixels per warp.
        pixel_programs: programs of ``pixels_kernel`` that fit one multiprocessor.
        ptxas_options: options of ptxas for kernels with matrix products, after Triton's own.
    """

    block_n: int
    block_k: int
    decoders: int
    head_decoders: int
    pixel_warps: int = 8
    pixel_programs: int = 1
    ptxas_options: str = ""


_REGISTERS = "--regAllocOptLevel=4"
"""ptxas's own default. With Triton's --regAllocOptLevel=2, ptxas 13 spills registers of ``pixels_kernel`` on 9.0, and
uses more than 128 for a line layer on 8.0, of which only one program then fits a multiprocessor."""

_SMALL = (LaunchConfig(128, 32, decoders=2, head_decoders=0),)

LAUNCH_CONFIGS: dict[int, tuple[LaunchConfig, ...]] = {
    80: (  # A100: 163 KB of shared memory for one program
        LaunchConfig(128, 64, decoders=3, head_decoders=2, ptxas_options=_REGISTERS),
    ),
    86: _SMALL,  # A10, RTX 30: 99 KB
    89: _SMALL,  # L4, L40, RTX 40: 99 KB
    90: (  # H100, H200: 227 KB, wgmma
        LaunchConfig(256, 64, decoders=4, head_decoders=3, ptxas_options=_REGISTERS),
        LaunchConfig(128, 64, decoders=1, head_decoders=0, ptxas_options=_REGISTERS),
    ),
    100: (LaunchConfig(128, 64, 1, 0, pixel_warps=2, pixel_programs=3),),  # B200: 227 KB, tcgen05
    120: _SMALL,  # RTX 50: 99 KB
}
"""Launch parameters by compute capability, 90 for 9.0: for fp16, and for fp16×3 if its weights and registers fit.

On 10.0 Triton 3.7 compiles ``pixels_kernel`` to a trap if a tile has 64 pixels or more, which tcgen05 would multiply;
several small programs per multiprocessor use mma.sync instead."""


@dataclass(frozen=True)
class Phase:
    """One launch of ``pixels_kernel``: decoders ``first`` … ``last`` − 1.

    Attributes:
        start: begins with the first line product.
        head: ends with colours.
    """

    first: int
    last: int
    start: bool
    head: bool


def get_launch_configs(major: int, minor: int) -> tuple[LaunchConfig, ...]:
    """The launch parameters for a compute capability. Raises InputError if it is not supported."""
    capability = 10 * major + minor
    if capability not in LAUNCH_CONFIGS:
        known = ", ".join(f"{known / 10:.1f}" for known in LAUNCH_CONFIGS)
        raise InputError("backend", f"triton does not support compute capability {major}.{minor}, only {known}")
    return LAUNCH_CONFIGS[capability]


def split_phases(decoders: int, config: LaunchConfig, parts: int) -> list[Phase]:
    """Distribute the decoders over as few phases as possible.

    With two parts the head needs all registers, so the first line product is in another phase.
    """
    if decoders <= config.head_decoders and parts == 1:
        return [Phase(0, decoders, start=True, head=True)]
    body = max(decoders - config.head_decoders, 0)
    count = max(-(-body // config.decoders), 1)
    phases = [Phase(i * body // count, (i + 1) * body // count, start=i == 0, head=False) for i in range(count)]
    return [*phases, Phase(body, decoders, start=False, head=True)]
