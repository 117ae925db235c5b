"""What benchmarks share: processes of their own, so that each peak of memory is one measurement's, and networks."""

import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from model.checkpoint import save_checkpoint
from model.config import PRESETS
from model.errors import InputError
from model.generator import Generator

P = ParamSpec("P")
T = TypeVar("T")


def in_own_process(what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a function in a fresh process and, when it takes longer, tells on stderr for how long.

    Raises:
        InputError: the process ended without a result, as it does when memory runs out.
    """
    begin = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        future = executor.submit(function, *args, **kwargs)
        while True:
            try:
                return future.result(timeout=1.0)
            except FutureTimeoutError:
                print(f"\r{what}: {time.perf_counter() - begin:.0f} s", end="", file=sys.stderr, flush=True)
            except BrokenProcessPool:
                raise InputError("benchmark", f"{what} ended too early, perhaps for want of memory") from None
            finally:
                if future.done() and time.perf_counter() - begin > 1.0:
                    print(file=sys.stderr)


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held: of a GPU what torch took there, else all of it, Python included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage's figure begins with that of the parent process
    if status.exists() and (match := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(match[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_random_checkpoint(path: Path, preset: str) -> None:
    """A network of a preset's shape with random weights, always the same: as costly as a trained one."""
    torch.manual_seed(0)
    save_checkpoint(path, Generator(PRESETS[preset]))
