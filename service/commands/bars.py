"""Progress bars of rendering."""

from typing import NoReturn

from tqdm import tqdm

PROGRESS_DELAY = 2.0
"""Seconds before a progress bar appears."""

_SMOOTHING = 0.05
"""Weight of the newest measurement in the estimate of the remaining time. Tiles arrive in bursts."""


def rendering_bar(description: str, total: int) -> "tqdm[NoReturn]":
    """A bar of ``total`` units of work, which appears after PROGRESS_DELAY."""
    return tqdm(
        desc=description,
        total=total,
        delay=PROGRESS_DELAY,
        disable=None,  # without a terminal
        smoothing=_SMOOTHING,
        bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} < {remaining}",
    )


def rename(bar: "tqdm[NoReturn]", description: str) -> None:
    """Change the description of a bar, and show it if the bar has appeared."""
    bar.set_description(description, refresh=bar.format_dict["elapsed"] > PROGRESS_DELAY)
