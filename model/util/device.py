"""Devices by name."""

import os

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import InputError


def find_device(name: str) -> torch.device:
    """The device of a name: "auto", "cpu", "cuda", "cuda:0" …

    Raises:
        InputError: the name is invalid or the GPU does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError("device", f"must be auto, cpu, cuda or cuda:N, not {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError("device", f"{name} does not exist: torch sees {torch.cuda.device_count()} GPUs")
    return device


def installed_memory(device: torch.device) -> int:
    """Total memory in bytes of a GPU, or of the machine for the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def to_device_async(array: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy an array to a device without waiting for the copy or for work that is queued there."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
