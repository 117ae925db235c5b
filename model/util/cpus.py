"""CPUs that this process may use."""

import math
import os
from collections.abc import Iterator

from model.util.control_groups import control_groups


def available_cpus() -> int:
    """The number of CPUs of the process's affinity, or fewer that its CFS quota allows, as of ``docker --cpus``."""
    return max(min([_affinity(), *map(math.ceil, _quotas())]), 1)


def limit_threads() -> None:
    """Lets libraries that only know the affinity, such as OpenMP, follow the quota. Must precede their import."""
    if (cpus := available_cpus()) < _affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """CPUs that the process's control groups allow."""
    for folder, version in control_groups("cpu"):
        try:
            if version == 1:
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                quota, period = ((folder / name).read_text() for name in names)
            else:
                quota, period = (folder / "cpu.max").read_text().split()
            if float(quota) > 0:  # -1 is no limit
                yield float(quota) / float(period)
        except (OSError, ValueError):  # "max" is no limit
            continue
