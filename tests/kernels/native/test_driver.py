"""The kernels under sanitizers, and on emulated CPUs: without AVX-512, and of arm64."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.native.backend import NativeBackend
from kernels.native.compiler import find_compiler
from kernels.native.library import Library, load_library, supported_targets
from kernels.native.targets import FLAGS, SOURCE, TARGETS, TILES, Target
from model.latents.latent import Latent
from tests.kernels.native.available import NEEDS_COMPILER
from tests.kernels.native.test_backend import MODEL_FLAGS
from tests.kernels.networks import TINY, random_network

ROWS, COLUMNS = np.linspace(0, 1, 11), np.linspace(-0.3, 1.2, 21)

SANITIZERS = "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]


class Unpacked(Library):
    """Packs nothing: weights stay readable. 16 is a multiple of every target's colour_outputs."""

    colour_outputs = 16
    lanes = 1
    target = "none"
    precision = "fp32"

    def __init__(self) -> None:
        """Loads nothing."""

    def pack(self, weight: Tensor) -> Tensor:
        return weight.float().contiguous()


def build(folder: Path, compiler: str, target: Target, flags: Sequence[str] = ()) -> Path:
    path = folder / "driver"
    sources = [str(SOURCE / name) for name in target.sources]
    compile_flags = [flag for flag in FLAGS if flag != "-shared"]
    driver = str(Path(__file__).with_name("driver.cpp"))
    subprocess.run(
        [compiler, *compile_flags, *target.flags, *flags, f"-I{SOURCE}", "-o", str(path), driver, *sources], check=True
    )
    return path


def recorded() -> bytes:
    """The input of driver.cpp for an image of a small network."""
    backend = NativeBackend(random_network(TINY), Unpacked(), threads=1)
    style = backend.style(Latent(seed=1))
    parts: list[bytes] = []

    def add(values: Sequence[int] | NDArray[np.generic]) -> None:
        array = np.asarray(values, np.int64) if isinstance(values, list) else np.asarray(values)
        parts.extend((np.int64(array.size).tobytes(), array.tobytes()))

    def read(address: int | None, count: int, kind: Any = ctypes.c_float) -> NDArray[np.generic]:
        values: NDArray[np.generic] = np.array((kind * count).from_address(address) if address else [], np.dtype(kind))
        return values

    half, thickness = style.inputs[0].half, TINY.thickness
    sizes = [thickness, TINY.bundles, backend._width, 1, len(ROWS), len(COLUMNS)]
    add([*sizes, len(style.line_layers), len(style.pixel_layers), half])
    for line in style.line_layers:
        add([line.outputs, line.inputs, line.bundle])
        add(read(line.weight, line.outputs * line.inputs))
        for vector in (line.bias, line.gain, line.next, line.line):
            add(read(vector, line.outputs))
    for layer in style.pixel_layers:
        add([layer.outputs, layer.inputs, layer.activation, layer.bundle])
        add(read(layer.weight, layer.outputs * layer.inputs))
        add(read(layer.bias, layer.outputs))
    for fourier, positions in zip(style.inputs, (ROWS, COLUMNS), strict=True):
        add(read(fourier.frequencies, thickness * half, ctypes.c_double))
        add(read(fourier.factors, thickness * 2 * half))
        add(positions)
    return b"".join(parts)


def run(command: Sequence[str]) -> Tensor:
    done = subprocess.run(command, input=recorded(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).view(len(ROWS), len(COLUMNS), 3)


def expected(target: str) -> Tensor:
    backend = NativeBackend(random_network(TINY), load_library(target), threads=1)
    return backend.colours(Latent(seed=1), ROWS, COLUMNS)


@pytest.mark.parametrize("target", [name for name in supported_targets() if name != "amx"])
def test_sanitizers_find_nothing(target: str, tmp_path: Path) -> None:
    found = run([str(build(tmp_path, find_compiler(), TARGETS[target], SANITIZERS))])
    torch.testing.assert_close(found, expected(target), rtol=0, atol=1e-5)  # optimised less, it fuses less


@pytest.mark.skipif("avx512" not in supported_targets(), reason="the model of AMX needs AVX-512")
def test_sanitizers_find_nothing_on_amx(tmp_path: Path) -> None:
    target = Target("model", TARGETS["avx512"].flags, TILES)
    found = run([str(build(tmp_path, find_compiler(), target, (*SANITIZERS, *MODEL_FLAGS)))])
    torch.testing.assert_close(found, expected("avx512"), rtol=0, atol=1e-4)


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="Debian's qemu-user is not installed")
def test_a_cpu_without_avx512(tmp_path: Path) -> None:
    """The kernels for AVX2 have no other instruction, and those for AVX-512 do not run there."""
    if "avx2" not in supported_targets():
        pytest.skip("the expected bytes are computed with AVX2")
    emulator = "qemu-x86_64", "-cpu", "Haswell"
    assert torch.equal(run([*emulator, str(build(tmp_path, find_compiler(), TARGETS["avx2"]))]), expected("avx2"))


@pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-g++")),
    reason="Debian's qemu-user and g++-aarch64-linux-gnu are not installed",
)
def test_arm64(tmp_path: Path) -> None:
    """NEON fuses products and sums like AVX2, so the bytes are the same."""
    if "avx2" not in supported_targets():
        pytest.skip("the expected bytes are computed with AVX2")
    path = build(tmp_path, "aarch64-linux-gnu-g++", TARGETS["generic"], ("-static",))
    assert torch.equal(run(["qemu-aarch64", str(path)]), expected("avx2"))
