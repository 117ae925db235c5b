"""Shared memory that pixel kernels ask for, with stand-ins for driver and GPU."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernels.gpu import carve_out
from kernels.gpu.carve_out import carveout_percent, prefer_l1_cache

H200 = 228 * 1024


@pytest.mark.parametrize(
    ("kib", "programs", "percent"), [(160, 1, 71), (191, 1, 85), (227, 1, 100), (40, 3, 54), (120, 2, 100)]
)
def test_a_kernel_asks_for_what_its_programs_need(kib: int, programs: int, percent: int) -> None:
    assert carveout_percent(kib * 1024, programs, H200) == percent


@pytest.mark.parametrize("error", [0, 1])
def test_the_driver_is_asked_and_may_refuse(
    error: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[Any, ...]] = []

    def set_attribute(function: ctypes.c_void_p, attribute: int, value: int) -> int:
        asked.append((function.value, attribute, value))
        return error

    monkeypatch.setattr(carve_out, "_driver", lambda: SimpleNamespace(cuFuncSetAttribute=set_attribute))
    properties = SimpleNamespace(shared_memory_per_multiprocessor=H200)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    kernel = SimpleNamespace(function=2**40 + 8, metadata=SimpleNamespace(shared=160 * 1024))
    prefer_l1_cache(kernel, 1, torch.device("cuda"))
    assert asked == [(2**40 + 8, 9, 71)]
    assert len(caplog.records) == error
