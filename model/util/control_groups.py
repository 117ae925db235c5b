"""The process's control groups, by which containers limit CPUs and memory (man 7 cgroups)."""

from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIPS = Path("/proc/self/cgroup")


def control_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of the groups that limit this process and those around them, each with the version, 1 or 2."""
    for line in MEMBERSHIPS.read_text().splitlines() if MEMBERSHIPS.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CONTROL_GROUPS / (controller if controllers else "")
        # In a container the path may be the host's, of which only the root, which is the container's own group, exists.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield folder, 1 if controllers else 2
