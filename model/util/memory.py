"""Memory that this process may use."""

import os
from collections.abc import Iterator

from model.util.control_groups import control_groups

LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def memory_limit() -> int:
    """Bytes: the machine's memory, or less where a control group allows less, as of ``docker --memory``."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits()])


def _limits() -> Iterator[int]:
    for folder, version in control_groups("memory"):
        try:
            yield int((folder / LIMIT_FILES[version]).read_text())
        except (OSError, ValueError):  # "max" is no limit
            continue
