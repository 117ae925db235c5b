"""Measurements in processes of their own, so that each has its own peak of memory."""

import re
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from model.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")


def in_own_process(what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a new process.

    Args:
        what: description of the call, printed on stderr.

    Raises:
        InputError: the process ended without a result, as it does when memory runs out.
    """
    print(f"{what} …", file=sys.stderr)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        try:
            return executor.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            raise InputError("benchmark", f"{what} ended too early, perhaps for want of memory") from None


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: what torch allocated on a GPU, or else all of it, Python included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage's value begins with that of the parent process
    if status.exists() and (match := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(match[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
