"""Divides the memory of a multiprocessor between L1 cache and shared memory."""

import ctypes
import logging
from functools import cache
from typing import Any

import torch

logger = logging.getLogger(__name__)

RESERVED_BYTES = 1024
"""Shared memory that CUDA reserves for each program, from compute capability 8.0."""

_PREFERRED_CARVEOUT = 9
"""CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT of the CUDA driver API, in percent."""


@cache
def carveout_percent(program_bytes: int, programs: int, multiprocessor_bytes: int) -> int:
    """Percentage of a multiprocessor's shared memory that a number of programs need, rounded up."""
    return min(-(-100 * programs * (program_bytes + RESERVED_BYTES) // multiprocessor_bytes), 100)


def prefer_l1_cache(kernel: Any, programs: int, device: torch.device) -> None:
    """Ask the driver for the shared memory that a kernel needs, and no more. The rest is L1 cache.

    Triton asks for all of it if a program needs more than 48 KiB. This is a hint, so an error of the driver is logged.

    Args:
        kernel: result of a Triton launch on a GPU.
        programs: programs per multiprocessor.
    """
    available = torch.cuda.get_device_properties(device).shared_memory_per_multiprocessor
    percent = carveout_percent(kernel.metadata.shared, programs, available)
    error = _driver().cuFuncSetAttribute(ctypes.c_void_p(kernel.function), _PREFERRED_CARVEOUT, percent)
    if error:
        logger.warning("the CUDA driver does not divide shared memory and L1 cache as asked: error %d", error)


@cache
def _driver() -> Any:
    """The CUDA driver, which torch has loaded."""
    return ctypes.CDLL("libcuda.so.1")
