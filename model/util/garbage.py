"""Python's collector of reference cycles."""

import atexit
import gc

THRESHOLDS = 20_000, 20, 50
"""New objects between collections, and collections between those of older objects; Python's are 700 (2,000 since 3.13),
10 and 10. An image makes hundreds of objects and hardly any cycles."""


def collect_seldom() -> None:
    """Collect less often, and not when the process ends: a quarter of the time of one that only imports torch."""
    gc.set_threshold(*THRESHOLDS)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def freeze_loaded() -> None:
    """Collect seldom, and leave what the process has loaded out of all collections.

    Call it once, when the process is about to answer requests. Collections take a tenth of a gateway's time otherwise.
    """
    collect_seldom()
    gc.collect()
    gc.freeze()
