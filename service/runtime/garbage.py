"""Python's collector of reference cycles."""

import gc

THRESHOLDS = 20_000, 20, 50
"""New objects between collections, and collections between those of older objects; Python's are 700 (2,000 since 3.13),
10 and 10. An image makes hundreds of objects and hardly any cycles."""


def collect_seldom() -> None:
    """Leave what a process has loaded out of all collections, and collect less often.

    Call it once, when the process is about to answer requests. Collections take a tenth of a gateway's time otherwise.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
