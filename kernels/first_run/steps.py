"""The steps, in their order. Each takes the name of a preset and returns JSON-ready values."""

import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import triton

from kernels.accuracy import make_probes, measure
from kernels.first_run import ON_GPU
from kernels.first_run.compilers import ROOT, compile_with, find_ptxas, first_line, run_with_ptxas
from kernels.first_run.images import DEVICE, launch_configs, make_backend, make_generator, measure_speed, render
from kernels.gpu.model import ARITHMETIC
from kernels.gpu.self_check import check_image

RENDERINGS = 10 if ON_GPU else 2
"""Renderings of one image, which must be equal."""

Result = dict[str, Any]


class NotAvailableError(Exception):
    """A step cannot run on this machine, which is no failure."""


@dataclass(frozen=True)
class Step:
    """``run`` takes a preset; ``seconds`` is the time limit."""

    run: Callable[[str], Result]
    seconds: float


def versions(preset: str) -> Result:
    """Versions, the GPU, compilers and the environment."""
    prefixes = "TRITON_", "CREPS_", "CUDA_", "OMP_", "PYTORCH_"
    found: Result = {
        "preset": preset,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "numpy": np.__version__,
        "cpu": first_line("lscpu", start="Model name"),
        "cpus": os.cpu_count(),
        "C compiler": first_line(os.environ.get("CC", "cc"), "--version"),
        "revision": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "ptxas": find_ptxas(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(prefixes)},
    }
    if ON_GPU:
        properties = torch.cuda.get_device_properties(DEVICE)
        query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.memory,power.limit", "--format=csv,noheader"
        found |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "driver, clocks, power": first_line("nvidia-smi", *query),
        }
    return found


def self_check(preset: str | None, side: int) -> Result:
    """Accuracy of single pixels, and an image as it is served, in every arithmetic."""
    generator = make_generator(preset)
    probes = make_probes(generator)[: None if ON_GPU else 1]
    found: Result = {}
    usable = False
    for parts in range(1, len(launch_configs()) + 1):
        backend = make_backend(generator, parts)
        pixels, image = measure(ARITHMETIC[parts], backend.colours, probes), check_image(backend, generator, side)
        usable |= pixels.passes and image.passes
        found[ARITHMETIC[parts]] = {
            "pixels": asdict(pixels),
            # Random weights may need more than fp16, but every arithmetic must give the same bytes each time.
            "image": {**asdict(image), "passes": not image.unrepeatable and not image.crop},
            "graphs": backend.graph_sizes,
        }
        backend.close()
    return {**found, "accurate enough": {"passes": usable}}


def hazards(preset: str) -> Result:
    """Registers, spills and hazards of all kernels, as each ptxas assembles them."""
    if not ON_GPU:
        raise NotAvailableError("kernels are interpreted; use creps benchmark compile")
    return {version: compile_with(path, preset) for version, path in find_ptxas().items()}


def answer(preset: str) -> Result:
    """Digests of an image that is rendered several times."""
    backend, digests = make_backend(make_generator(preset)), set()
    for _ in range(RENDERINGS):
        backend.release_caches()
        digests.add(hashlib.sha256(render(backend, 3, 512 if ON_GPU else 12).tobytes()).hexdigest())
    return {"digests": sorted(digests), "passes": len(digests) == 1}


def answers(preset: str) -> Result:
    """Whether an image is the same in every rendering, and with each ptxas."""
    if not ON_GPU:
        return {"interpreter": answer(preset)}
    found: Result = {}
    for version, path in find_ptxas().items():
        with tempfile.TemporaryDirectory() as cache:
            done = run_with_ptxas(path, cache, "kernels.first_run", "--child=answer", f"--preset={preset}")
        lines = done.stdout.splitlines()
        found[version] = json.loads(lines[-1]) if lines else {"error": done.stderr[-3000:]}
    digests = {tuple(one.get("digests", ())) for one in found.values()}
    return {**found, "equal": {"passes": len(digests) == 1}}


def tests(_: str) -> Result:
    """The tests of the GPU kernels."""
    if not ON_GPU:
        raise NotAvailableError("pytest runs them in the interpreter")
    if importlib.util.find_spec("pytest") is None or not (ROOT / "tests").is_dir():
        raise NotAvailableError("pytest or the tests are not installed")
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "tests/kernels/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    return {"passes": done.returncode == 0, "output": done.stdout[-6000:]}


def large_images(preset: str) -> Result:
    return measure_speed(preset, 4096 if ON_GPU else 16, repeats=9 if ON_GPU else 1)


def small_images(preset: str) -> Result:
    side, repeats = (512, 50) if ON_GPU else (8, 1)
    return {f"batch {n}": measure_speed(preset, side, repeats, n) for n in ((1, 8) if ON_GPU else (1,))}


def training_step(_: str) -> Result:
    """Each kind of training step, on random images."""
    from model.training.presets import resolve
    from model.training.profiling.measure import measure_training

    config = resolve("small-128", {}, {}) if ON_GPU else resolve("tiny-32", {"batch": 2}, {"resolution": 8})
    return asdict(measure_training(config, str(DEVICE), 5 if ON_GPU else 1))


STEPS = {
    "versions": Step(versions, 60),
    "small-check": Step(lambda _: self_check(None, 128 if ON_GPU else 12), 120),
    "full-check": Step(lambda preset: self_check(preset, 512 if ON_GPU else 16), 180),
    "hazards": Step(hazards, 240),
    "answers": Step(answers, 240),
    "tests": Step(tests, 300),
    "large-images": Step(large_images, 120),
    "small-images": Step(small_images, 120),
    "training": Step(training_step, 120),
}

PARTS = {"answer": Step(answer, 120)}
"""Parts of steps that run in processes of their own."""
