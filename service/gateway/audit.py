"""Audit lines: which API keys have changed, and who has cancelled or removed a job.

They have a logger of their own, so that a log collector can keep them longer than the lines of requests.
"""

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)


def job_ended(action: str, job: str, client: str | None, key: str | None) -> None:
    """``action`` is "cancelled" or "removed", ``client`` an address, ``key`` the name of an API key."""
    by = f"{client or '-'} ({key})" if key else client or "-"
    extra: dict[str, Any] = {"action": f"job.{action}", "job": job, "client": client, "key": key}
    logger.info("job %s was %s by %s", job, action, by, extra=extra)


def keys_changed(file: object, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """The entries of a file of keys by name, as last read and as they are now."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name):
            continue
        action = "added" if name not in before else "removed" if name not in after else "changed"
        extra = {"action": f"key.{action}", "key": name}
        logger.info("API key %s was %s in %s", name, action, file, extra=extra)
