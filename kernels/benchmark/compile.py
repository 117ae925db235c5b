"""``creps benchmark compile``: compiles every kernel without a GPU and reports registers, spills and shared memory.

The kernels are those that a network launches, with the same constants. They are assembled by the ptxas that Triton
uses: its own, or that of TRITON_PTXAS_PATH (TRITON_PTXAS_BLACKWELL_PATH for 10.0 and above).
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

from kernels.backend import any_latent
from kernels.benchmark.hazards import find_hazards
from kernels.benchmark.sass import parse_sass
from kernels.gpu.launch_config import LAUNCH_CONFIGS
from kernels.gpu.model import ARITHMETIC, PackedModel
from kernels.gpu.renderer import TritonBackend
from model.config import PRESETS, GeneratorConfig
from model.errors import InputError
from model.generator import Generator
from model.util.arguments import ArgumentParser, some_of
from model.util.files import write_json
from model.util.tables import align
from model.viewport import Viewport

SHARED_MEMORY = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""KiB per program by compute capability (CUDA C++ Programming Guide, technical specifications)."""

MATRIX_INSTRUCTIONS = {90: {"HGMMA"}, 100: {"UTCHMMA", "HMMA"}}
"""Instructions of fp16 matrix products other than HMMA: HGMMA is wgmma, UTCHMMA is tcgen05."""

COUNTED = ("HGMMA", "UTCHMMA", "HMMA", "BAR", "LDG", "LDGSTS", "LDS", "STS")
"""Instructions in the report: matrix products, barriers, loads and stores of global and shared memory."""


@dataclass(frozen=True)
class Compiled:
    """A kernel, compiled with the constants of one launch.

    Attributes:
        architecture: compute capability, 90 for 9.0.
        shape: summary of the constants.
        registers: registers per thread.
        spills: bytes per thread of stack, spill stores and spill loads.
        shared: bytes of shared memory.
        instructions: number of each instruction in COUNTED.
        serialised: the compiler serialised wgmma instructions (ptxas warning C7512).
        multiplies: the kernel has matrix products.
        hazards: uses of registers before a wgmma has finished, see kernels.benchmark.hazards.
        loop_barriers: number of barriers in loops.
    """

    kernel: str
    architecture: int
    shape: str
    registers: int
    spills: int
    shared: int
    instructions: dict[str, int]
    serialised: bool
    multiplies: bool
    hazards: tuple[str, ...] = ()
    loop_barriers: int = 0

    @property
    def faults(self) -> list[str]:
        found = []
        if self.spills:
            found.append(f"spills {self.spills} bytes")
        if self.serialised:
            found.append("wgmma is serialised")
        if self.hazards:
            found.append(f"{len(self.hazards)} hazards, the first: {self.hazards[0]}")
        if self.shared > SHARED_MEMORY[self.architecture] * 1024:
            found.append(f"needs {self.shared:,} bytes of shared memory of {SHARED_MEMORY[self.architecture]} KiB")
        allowed = MATRIX_INSTRUCTIONS.get(self.architecture, {"HMMA"})
        used = {"HMMA", "HGMMA", "UTCHMMA"} & self.instructions.keys()
        if self.multiplies and not (used and used <= allowed):
            found.append(f"does not multiply with {' or '.join(sorted(allowed))} alone")
        return found


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, compile and print a table. Exits with status 1 if a kernel has a fault."""
    parser = ArgumentParser(
        prog="creps benchmark compile", description="Compile every GPU kernel without a GPU and report its resources."
    )
    parser.add_argument("--preset", default="creps-512", choices=PRESETS, help="the network (default: creps-512)")
    parser.add_argument(
        "--arch",
        default=(80, 90),
        type=some_of(LAUNCH_CONFIGS),
        metavar="LIST",
        help="compute capabilities (default: 80,90)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args(arguments)
    if triton.knobs.runtime.interpret:
        raise InputError("TRITON_INTERPRET", "is set: kernels are interpreted and cannot be compiled")
    compiled = []
    for architecture in options.arch:
        print(f"compiling for sm_{architecture} with ptxas {get_ptxas(architecture).version} …", file=sys.stderr)
        compiled += compile_network(PRESETS[options.preset], architecture)
    print(table(compiled))
    if options.json is not None:
        write_json(options.json, [asdict(result) for result in compiled])
    faults = [f"sm_{c.architecture} {c.kernel} {c.shape}: {fault}" for c in compiled for fault in c.faults]
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        raise SystemExit(1)


def compile_network(config: GeneratorConfig, architecture: int) -> list[Compiled]:
    """Compile all kernels that a network launches on an architecture: in each precision, exact, averaged and warped."""
    torch.manual_seed(0)
    generator = Generator(config).requires_grad_(False)
    kernels: dict[Any, tuple[str, str]] = {}

    def compile_only(kernel: Any, grid: tuple[int, ...], *arguments: object, **options: Any) -> None:
        compiled = kernel.warmup(*arguments, grid=grid, **options)  # the same object for the same specialisation
        kernels[compiled] = kernel.__name__, describe_constants(options)

    driver = SimpleNamespace(  # compiles for its architecture, and cannot launch
        get_current_target=lambda: GPUTarget("cuda", architecture, 32),
        get_current_device=lambda: architecture,  # key of the cache of compiled kernels
        get_current_stream=lambda device: None,
    )
    triton.runtime.driver.set_active(driver)
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        with triton.AsyncCompileMode(executor):
            for parts, launch_config in enumerate(LAUNCH_CONFIGS[architecture], start=1):
                backend = TritonBackend(PackedModel(generator, launch_config, parts, launch=compile_only))
                backend.warm_up()
                backend.warp_colours(any_latent(config), np.zeros((1, 1, 2)), Viewport.resolve(1, 1))
        found = executor.map(lambda item: read_resources(item[0], architecture, *item[1]), kernels.items())
        return list(found)


def describe_constants(constants: dict[str, Any]) -> str:
    """Summary of a launch's constants."""
    words = [ARITHMETIC[constants["PARTS"]]] if "PARTS" in constants else []
    if "HEAD" in constants:
        words.append(f"decoders {constants['FIRST']}-{constants['LAST']}")
        words += [name.lower() for name in ("START", "HEAD", "INTERPOLATE", "QUANTISE") if constants[name]]
    sizes = ("OUTPUTS", "BLOCK_N", "BLOCK_K", "BLOCK")
    return " ".join(words + [f"{name}={constants[name]}" for name in sizes if name in constants])


def read_resources(compiled: Any, architecture: int, kernel: str, shape: str) -> Compiled:
    """The resources that a compiled kernel uses, as reported by ptxas and nvdisasm."""
    # The options that Triton passes, then those of the launch.
    options = [f"-arch={sm_arch_from_capability(architecture)}", "--regAllocOptLevel=2"]
    options += (compiled.metadata.ptx_options or "").split()
    log = run_tool(get_ptxas(architecture).path, compiled.asm["ptx"].encode(), *options, "-v", "-o", os.devnull)
    registers = re.search(r"Used (\d+) registers", log)
    if registers is None:
        raise ValueError("no number of registers in the output of ptxas")
    sass = run_tool(triton.knobs.nvidia.nvdisasm.path, compiled.asm["cubin"], "-c")
    functions = parse_sass(sass)
    count = Counter(i.operation for function in functions for i in function.instructions)
    return Compiled(
        kernel,
        architecture,
        shape,
        registers=int(registers[1]),
        spills=sum(map(int, re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", log))),
        shared=compiled.metadata.shared,
        instructions={name: count[name] for name in COUNTED if count[name]},
        serialised="C7512" in log,
        multiplies="tt.dot" in compiled.asm["ttir"],
        hazards=tuple(map(str, find_hazards(sass))),
        loop_barriers=sum(i.operation == "BAR" for function in functions for i in function.in_loops),
    )


def table(compiled: Sequence[Compiled]) -> str:
    """One line per kernel."""
    rows = [["sm", "kernel", "", "registers", "spilled", "shared KiB", "hazards", *COUNTED, "BAR in loops"]]
    for c in compiled:
        cells = c.architecture, c.kernel, c.shape, c.registers, c.spills, f"{c.shared / 1024:.0f}", len(c.hazards)
        counts = *(c.instructions.get(name, 0) for name in COUNTED), c.loop_barriers
        rows.append([*map(str, cells + counts)])
    return align(rows, left=(1, 2))


def run_tool(tool: str, content: bytes, *options: str) -> str:
    """Output of a tool of Triton's on a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        command = [tool, *options, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout + done.stderr
