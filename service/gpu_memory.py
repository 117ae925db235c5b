"""Metric of a worker's GPU memory, read when it is asked for."""

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class GpuMemory(Collector):
    """``creps_gpu_memory_bytes`` of one device: ``allocated`` to tensors by this process, ``reserved`` by it from the
    device (the rest is kept for its next tensors), and ``total``, which the device has.

    Args:
        cuda: the module ``torch.cuda``.
        device: such as ``cuda:0``.
    """

    def __init__(self, cuda: Any, device: str) -> None:
        self._cuda = cuda
        self._device = device

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        kinds = {
            "allocated": self._cuda.memory_allocated(self._device),
            "reserved": self._cuda.memory_reserved(self._device),
            "total": self._cuda.get_device_properties(self._device).total_memory,
        }
        for kind, size in kinds.items():
            family.add_metric([self._device, kind], size)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily("creps_gpu_memory_bytes", "Memory of a worker's GPU.", labels=["device", "kind"])
