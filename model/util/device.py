"""Devices by the names that users give them."""

import os

import torch

from model.errors import InputError


def find_device(name: str) -> torch.device:
    """The device called "auto", "cpu", "cuda" or "cuda:0" …

    Raises:
        InputError: there is no such device.
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
        raise InputError("device", f"{name} is not there: torch sees {torch.cuda.device_count()} GPUs")
    return device


def installed_memory(device: torch.device) -> int:
    """Bytes that the device has in all: a GPU its own, the CPU the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
