"""What the compiler makes of every kernel, on a machine that needs no GPU: registers, spills, shared memory.

``creps benchmark compile``, or ``python -m kernels.benchmark compile``. The kernels are those that a network launches,
with the same constants; what is measured here decides how fast they can be at all.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.lines import TILE, TILE_FIELDS, add_to_lines, draw_fourier_features, modulate, multiply_modulated
from kernels.network import ARITHMETIC, GpuNetwork
from kernels.pixels import PROGRAM_FIELDS, TASK_FIELDS, average_colours, draw_pixels
from kernels.plans import PLANS
from model.arguments import ArgumentParser
from model.config import PRESETS, RGB, GeneratorConfig
from model.errors import InputError
from model.files import write_atomically
from model.generator import Generator
from model.spec import Latent
from model.tables import align

SHARED_MEMORY = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""KiB that one program may have, by compute capability (CUDA C++ Programming Guide, technical specifications)."""

MATRIX_INSTRUCTIONS = {90: {"HGMMA"}, 100: {"UTCHMMA", "HMMA"}}
"""What a matrix product of fp16 becomes, where not HMMA: HGMMA is wgmma and UTCHMMA tcgen05."""

COUNTED = ("HGMMA", "UTCHMMA", "HMMA", "BAR", "LDG", "LDGSTS", "LDS", "STS")
"""Instructions worth a look: matrix products, barriers, and loads and stores of global and shared memory."""

TOOLS = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "bin"

_KERNELS: dict[str, Any] = {
    kernel.__name__: kernel
    for kernel in (modulate, draw_fourier_features, multiply_modulated, add_to_lines, draw_pixels, average_colours)
}

_TYPES = {
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


@dataclass(frozen=True)
class Variant:
    """One kernel as it is launched.

    Attributes:
        kernel: its name.
        architecture: compute capability, 90 for 9.0.
        signature: type of each argument, "constexpr" for what is known to the compiler.
        constants: values of those.
        aligned: names of arguments that are multiples of 16.
        options: num_warps and num_stages.
    """

    kernel: str
    architecture: int
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[str, ...]
    options: tuple[tuple[str, int], ...]

    @property
    def shape(self) -> str:
        """Its constants in a few words."""
        values = dict(self.constants)
        words = [ARITHMETIC[values["PARTS"]]] if "PARTS" in values else []
        if "FIRST" in values and "HEAD" in values:
            words.append(f"decoders {values['FIRST']}-{values['LAST']}")
            words += [name.lower() for name in ("START", "HEAD", "GATHER", "QUANTISE") if values[name]]
        words += [f"{name}={values[name]}" for name in ("OUTPUTS", "BLOCK_N", "BLOCK_K", "BLOCK") if name in values]
        return " ".join(words)


@dataclass(frozen=True)
class Compiled:
    """What became of a variant.

    Attributes:
        kernel, architecture, shape: the variant.
        registers: of one thread.
        spills: bytes that a thread writes to and reads from memory for want of registers, its stack included.
        shared: bytes of shared memory.
        instructions: how many of each in the program that are worth a look.
        serialised: the compiler made every wgmma wait for the one before (ptxas warning C7512).
        multiplies: whether the kernel has matrix products.
    """

    kernel: str
    architecture: int
    shape: str
    registers: int
    spills: int
    shared: int
    instructions: dict[str, int] = field(default_factory=dict)
    serialised: bool = False
    multiplies: bool = False

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        found = []
        if self.spills:
            found.append(f"spills {self.spills} bytes")
        if self.serialised:
            found.append("wgmma is serialised")
        if self.shared > SHARED_MEMORY[self.architecture] * 1024:
            found.append(f"needs {self.shared:,} bytes of shared memory of {SHARED_MEMORY[self.architecture]} KiB")
        wanted = MATRIX_INSTRUCTIONS.get(self.architecture, {"HMMA"})
        used = {"HMMA", "HGMMA", "UTCHMMA"} & self.instructions.keys()
        if self.multiplies and not (used and used <= wanted):
            found.append(f"does not multiply with {' or '.join(sorted(wanted))} alone")
        return found


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, compiles, prints a table.

    Raises:
        InputError: an option cannot be used.
        SystemExit: with status 1 where a kernel has a fault.
    """
    parser = ArgumentParser(
        prog="creps benchmark compile", description="Compiles every GPU kernel without a GPU, and looks at the result."
    )
    parser.add_argument("--preset", default="creps-512", choices=PRESETS, help="the network (default: creps-512)")
    parser.add_argument(
        "--arch", default=(80, 90), type=_architectures, metavar="LIST", help="compute capabilities (default: 80,90)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if triton.knobs.runtime.interpret:
        raise InputError("TRITON_INTERPRET", "is set: kernels are interpreted then, and cannot be compiled")
    variants = list(find_variants(PRESETS[options.preset], options.arch))
    compiled = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as executor:
        for result in executor.map(compile_variant, variants):
            compiled.append(result)
            print(f"\rcompiled {len(compiled)} of {len(variants)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(compiled))
    if options.json is not None:
        write_atomically(options.json, (json.dumps([asdict(result) for result in compiled], indent=2) + "\n").encode())
    faults = [f"sm_{c.architecture} {c.kernel} {c.shape}: {fault}" for c in compiled for fault in c.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise SystemExit(1)


def find_variants(config: GeneratorConfig, architectures: Sequence[int]) -> Iterator[Variant]:
    """Everything that a network of that shape launches: in each arithmetic, whole and gathered, exact and averaged."""
    torch.manual_seed(0)
    generator = Generator(config).requires_grad_(False)
    for architecture in architectures:
        found: dict[Variant, None] = {}

        def note(kernel: Any, grid: tuple[int, ...], *given: object, **options: Any) -> None:
            found[_variant(kernel, architecture, given, options)] = None  # noqa: B023 - called in this turn alone

        for parts in (1, 2):
            if PLANS[architecture].of(parts) is None:
                continue
            network = GpuNetwork(generator, PLANS[architecture], parts, launch=note)
            style = network.style(Latent(seed=0, class_index=0 if config.classes else None))
            positions = 16 * network.positions_per_tile
            tiles = torch.zeros(positions * config.thickness // TILE, TILE_FIELDS, dtype=torch.int64)
            axes = torch.zeros(positions, dtype=torch.int32)
            network.draw_lines(style.vector[None], torch.zeros(positions, dtype=torch.float64), axes, tiles)
            tasks = torch.zeros(1, TASK_FIELDS, dtype=torch.int64)
            programs = torch.zeros(1, PROGRAM_FIELDS, dtype=torch.int32)
            for quantise, gather in ((True, False), (False, False), (True, True)):
                network.draw_pixels(tasks, programs, network.scratch(1), quantise=quantise, gather=gather)
            network.average(torch.zeros(64, 64, RGB), torch.zeros(32, 32, RGB, dtype=torch.uint8), (0, 32), (2, 2))
        yield from found


def _variant(kernel: Any, architecture: int, given: Sequence[object], options: dict[str, Any]) -> Variant:
    """A launch as Triton would specialise it: numbers and addresses that are multiples of 16 are known to be."""
    launched = [(name, options[name]) for name in ("num_warps", "num_stages") if name in options]
    values = dict(zip(kernel.arg_names, given, strict=False)) | options
    signature, constants, aligned = [], [], []
    for parameter in kernel.params:
        value: Any = values[parameter.name]
        if isinstance(value, Tensor):
            kind = _TYPES[value.dtype]
            multiple = value.data_ptr() % 16 == 0 and not parameter.do_not_specialize_on_alignment
        elif parameter.is_constexpr or (value == 1 and not parameter.do_not_specialize):
            kind, multiple = "constexpr", False
            constants.append((parameter.name, value))
        else:
            kind = "i32" if -(2**31) <= value < 2**31 else "i64"
            multiple = value % 16 == 0 and not parameter.do_not_specialize
        signature.append((parameter.name, kind))
        if multiple:
            aligned.append(parameter.name)
    return Variant(
        kernel.fn.__name__, architecture, tuple(signature), tuple(constants), tuple(aligned), tuple(launched)
    )


def compile_variant(variant: Variant) -> Compiled:
    """Compiles one variant for its architecture and reads what became of it."""
    kernel = _KERNELS[variant.kernel]
    names = [name for name, _ in variant.signature]
    source = ASTSource(
        fn=kernel,
        signature=dict(variant.signature),
        constexprs=dict(variant.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned},
    )
    target = GPUTarget("cuda", variant.architecture, 32)
    compiled = triton.compile(source, target=target, options=dict(variant.options))
    told = _assemble(compiled.asm["ptx"], variant.architecture)
    instructions = _count_instructions(compiled.asm["cubin"])
    return Compiled(
        variant.kernel,
        variant.architecture,
        variant.shape,
        registers=_number(r"Used (\d+) registers", told),
        spills=sum(map(int, re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", told))),
        shared=compiled.metadata.shared,
        instructions={name: instructions[name] for name in COUNTED if instructions[name]},
        serialised="C7512" in told,
        multiplies="tt.dot" in compiled.asm["ttir"],
    )


def table(compiled: Sequence[Compiled]) -> str:
    """One line for each variant."""
    rows = [["sm", "kernel", "", "registers", "spilt", "shared KiB", *COUNTED]]
    for result in compiled:
        figures = result.registers, result.spills, f"{result.shared / 1024:.0f}"
        counts = [result.instructions.get(name, 0) for name in COUNTED]
        rows.append([str(cell) for cell in (result.architecture, result.kernel, result.shape, *figures, *counts)])
    return align(rows, left=(1, 2))


def _assemble(ptx: str, architecture: int) -> str:
    """What ptxas says of a program: registers, spills, warnings."""
    tool = TOOLS / ("ptxas-blackwell" if architecture >= 100 else "ptxas")
    name = f"sm_{architecture}" + ("a" if architecture >= 90 else "")  # "a": with the instructions of that chip alone
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [str(tool), f"-arch={name}", "-v", file.name, "-o", os.devnull]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout + done.stderr


def _count_instructions(cubin: bytes) -> Counter[str]:
    """How many of each instruction there are in a program."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(  # noqa: S603
            [TOOLS / "nvdisasm", "-c", file.name], capture_output=True, text=True, check=True
        )
    return Counter(
        re.findall(r"^\s*(?:/\*[0-9a-f]+\*/)?\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", done.stdout, re.MULTILINE)
    )


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"ptxas has not told {pattern!r}")
    return int(match[1])


def _architectures(text: str) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or set(found) - set(PLANS):
        raise ArgumentTypeError(f"must be of {','.join(map(str, PLANS))}, not {text[:40]!r}")
    return found
