"""What the Prometheus metrics of gateways and workers have in common.

Each kind of process has a module of its own, since a metric is exported, as zero, by every process that imports it.
"""

import platform
from functools import cache
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

LabelledMetric = TypeVar("LabelledMetric", Counter, Histogram)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets from a tile on a GPU to a large image on a CPU."""

BUILD_INFO = Gauge(
    "creps_build_info",
    "1, with the version of the program and of Python.",
    ["version", "python"],
    multiprocess_mode="max",
)
BUILD_INFO.labels(version("creps-serve"), platform.python_version()).set(1)


@cache
def labelled(metric: LabelledMetric, *values: str) -> LabelledMetric:
    """The part of a metric that has these values of its labels. Looking it up by ``labels()`` takes 2 µs."""
    return metric.labels(*values)
