"""``creps train``; as ``python -m model.training`` where only torch, numpy, safetensors and pillow are installed."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from model.arguments import ArgumentParser, run
from model.config import GeneratorConfig
from model.device import find_device
from model.errors import InputError
from model.training.config import PRESETS, TrainingConfig
from model.training.dataset import ImageDataset
from model.training.loop import train


def main(arguments: Sequence[str]) -> None:
    """Trains, or resumes what the output folder holds."""
    options = _parser().parse_args(arguments)
    device = find_device(options.device)
    config = _resolve(options)
    dataset = ImageDataset(options.data, config.generator.resolution)
    if options.classes and not dataset.classes:
        raise InputError("data", f"{options.data} has no classes, so it cannot train a conditional network")
    if config.generator.classes and dataset.classes > config.generator.classes:
        raise InputError("classes", f"the data has {dataset.classes} classes, not {config.generator.classes}")
    workers = options.workers if options.workers is not None else _default_workers(device)
    pictures = f"{len(dataset)} pictures of {config.generator.resolution}²"
    print(f"{options.data}: {pictures}; {options.outdir}: {config.total_kimg:g} kimg on {device}", file=sys.stderr)
    train(config, options.data, options.outdir, device, workers)


def _parser() -> ArgumentParser:
    presets = "\n".join(f"  {name:11} {preset.purpose}" for name, preset in PRESETS.items())
    parser = ArgumentParser(
        prog="creps train",
        description="Trains a CREPS network. A run that was stopped goes on where it stopped.",
        epilog=f"presets:\n{presets}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder or zip of square pictures (creps dataset)")
    parser.add_argument("--outdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", choices=PRESETS, required=True, help="the recipe to begin with")
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, cpu or auto (default)")
    parser.add_argument("--workers", type=int, help="processes that read pictures")
    _add_overrides(parser, "recipe", TrainingConfig)
    _add_overrides(parser, "network", GeneratorConfig)
    return parser


def _add_overrides(parser: ArgumentParser, title: str, table: type[Any]) -> None:
    group = parser.add_argument_group(f"{title}, in place of the preset's values")
    for name, kind in get_type_hints(table).items():
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=None)
        elif kind in (int, float):
            group.add_argument(option, type=kind, metavar=kind.__name__)
        elif choices := get_args(kind):
            group.add_argument(option, choices=choices)


def _resolve(options: argparse.Namespace) -> TrainingConfig:
    """The preset with the values that were given on the command line."""

    def given(table: type[Any]) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(table))
        return {name: value for name in names if (value := getattr(options, name, None)) is not None}

    config = PRESETS[options.preset].config
    generator = dataclasses.replace(config.generator, **given(GeneratorConfig))
    return dataclasses.replace(config, generator=generator, **given(TrainingConfig))


def _default_workers(device: torch.device) -> int:
    """None on the CPU, where they would take the cores from the training itself."""
    return 0 if device.type == "cpu" else min(4, os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(run("python -m model.training", main, sys.argv[1:]))
