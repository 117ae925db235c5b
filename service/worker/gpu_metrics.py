"""Metric of a worker's GPU memory, read at each scrape."""

from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Gauge


def register_gpu_memory(cuda: Any, device: str, registry: CollectorRegistry = REGISTRY) -> None:
    """Adds ``creps_gpu_memory_bytes``: ``allocated`` to tensors, ``reserved`` by the allocator, and ``total``.

    ``cuda`` is the module torch.cuda, ``device`` a name such as ``cuda:0``.
    """
    gauge = Gauge("creps_gpu_memory_bytes", "Memory of a worker's GPU.", ["device", "kind"], registry=registry)
    gauge.labels(device, "allocated").set_function(lambda: cuda.memory_allocated(device))
    gauge.labels(device, "reserved").set_function(lambda: cuda.memory_reserved(device))
    gauge.labels(device, "total").set_function(lambda: cuda.get_device_properties(device).total_memory)
