"""Training at growing sizes: a network learns at a small one first, where a step takes a fraction of the time."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import InputError
from model.training.config import TrainingConfig
from model.training.presets import resolve


@dataclass(frozen=True)
class Stage:
    """One run of a command: its settings, and the folder that it writes to."""

    config: TrainingConfig
    outdir: Path | None


def parse_sizes(text: str) -> list[int]:
    """``16,32,64``: increasing powers of two."""
    sizes = [int(part) for part in text.split(",")]
    if len(sizes) < 2 or sizes != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(f"must be two or more increasing sizes such as 16,32,64, not {text}")
    return sizes


def plan_ladder(
    sizes: list[int], preset: str, training: dict[str, Any], network: dict[str, Any], outdir: Path | None
) -> list[Stage]:
    """The runs of a ladder, each in a folder ``outdir/<size>``.

    Networks have the blocks of the last size from the beginning. Each size takes twice as many images as the one
    before; together they are ``total_kimg``. γ is the same at all sizes. Patches are for the last size alone.

    Raises:
        InputError: a value is out of range.
    """
    if "resolution" in network:
        raise InputError("resolution", "follows from --ladder")
    network = {"last_block": sizes[-1]} | network
    last = resolve(preset, training, network | {"resolution": sizes[-1]}, transfer=True)
    share = last.total_kimg / (2 ** len(sizes) - 1)
    stages = []
    for i, size in enumerate(sizes):
        values = training | {"gamma": last.gamma, "total_kimg": share * 2**i}
        shape = network | {"resolution": size}
        if size != sizes[-1]:
            values, shape = values | {"patches": False}, shape | {"max_scale": 1.0}
        config = resolve(preset, values, shape, transfer=i > 0)
        stages.append(Stage(config, outdir and outdir / str(size)))
    return stages
