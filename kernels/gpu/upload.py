"""Small host arrays that are copied to the device together: each copy costs as much as a launch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT = 16
"""Bytes. Triton compiles another variant of a kernel for a pointer that is not a multiple of 16."""

DTYPES = {"uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64, "float32": torch.float32}


def aligned(size: int) -> int:
    """A number of bytes, rounded up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Upload:
    """Collects arrays and copies them to the device with one copy, on the current stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._arrays: list[NDArray[np.generic]] = []
        self._starts = [0]
        self._buffer: Tensor | None = None

    def add(self, array: NDArray[np.generic]) -> int:
        """Add an array and return its number. It must not change before :meth:`start`."""
        self._arrays.append(array)
        self._starts.append(self._starts[-1] + aligned(array.nbytes))
        return len(self._arrays) - 1

    def start(self) -> None:
        """Copy all arrays, without waiting for the copy or for work that is queued on the device."""
        if not self._arrays:
            return
        on_gpu = self._device.type == "cuda"
        host = torch.empty(self._starts[-1], dtype=torch.uint8, pin_memory=on_gpu)
        memory = host.numpy()
        for array, start in zip(self._arrays, self._starts, strict=False):
            memory[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._buffer = host.to(self._device, non_blocking=True)

    def __getitem__(self, number: int) -> Tensor:
        """The array of that number on the device. Its memory is that of the whole upload."""
        if self._buffer is None:
            raise ValueError("the upload has not been started")
        array, start = self._arrays[number], self._starts[number]
        return self._buffer[start : start + array.nbytes].view(DTYPES[array.dtype.name]).view(array.shape)
