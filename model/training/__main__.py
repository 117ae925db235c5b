"""``creps train``; as ``python -m model.training`` where only torch, numpy, safetensors and pillow are installed.

With several GPUs or machines: ``torchrun --nproc-per-node 8 -m model.training …``.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from model.arguments import ArgumentParser, run
from model.config import GeneratorConfig
from model.device import find_device
from model.errors import InputError
from model.evaluation import METRICS
from model.training.config import TrainingConfig
from model.training.dataset import ImageDataset
from model.training.estimate import estimate
from model.training.loop import Judge, train
from model.training.presets import PRESETS, resolve
from model.training.processes import Processes, join
from model.training.transfer import Source


def main(arguments: Sequence[str]) -> None:
    """Trains, or resumes what the output folder holds.

    Raises:
        InputError: an option cannot be used, or options, data and folder do not fit together.
    """
    options = _parser().parse_args(arguments)
    config = _resolve(options)
    with join(find_device(options.device)) as (processes, device):
        config.check_processes(processes.size)
        if options.dry_run:
            if processes.first:
                print(json.dumps(config.to_dict(), indent=2))
                print(estimate(config, processes.size, device), file=sys.stderr)
            return
        _train(options, config, processes, device)


def _train(options: argparse.Namespace, config: TrainingConfig, processes: Processes, device: torch.device) -> None:
    for name in ("data", "outdir"):
        if getattr(options, name) is None:
            raise InputError(name, "is missing (only --dry-run does without)")
    if processes.first:
        shared = f" in {processes.size} processes" if processes.size > 1 else ""
        print(f"{options.outdir}: {config.total_kimg:g} kimg of {options.data} on {device}{shared}", file=sys.stderr)
    dataset = ImageDataset(options.data, config.generator.resolution, config.mirror)
    judge = _prepare_judge(options, config, device) if processes.first else None
    train(
        config,
        dataset,
        options.outdir,
        device,
        _default_workers(device) if options.workers is None else options.workers,
        processes=processes,
        transfer=options.transfer,
        judge=judge,
    )


def _parser() -> ArgumentParser:
    presets = "\n".join(f"  {name:11} {preset.purpose}" for name, preset in PRESETS.items())
    parser = ArgumentParser(
        prog="creps train",
        description="Trains a CREPS network. A run that was stopped goes on where it stopped.",
        epilog=f"presets:\n{presets}\n\nseveral GPUs: torchrun --nproc-per-node 8 -m model.training OPTIONS",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder or zip of square pictures (creps dataset)")
    parser.add_argument("--outdir", type=Path, help="folder of the run")
    parser.add_argument("--preset", choices=PRESETS, required=True, help="the recipe to begin with")
    parser.add_argument(
        "--transfer", type=Path, metavar="FILE", help="begin with this checkpoint or training state (state-….pt)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the recipe, and the memory and time that it needs"
    )
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, cpu or auto (default)")
    parser.add_argument("--workers", type=int, choices=range(65), metavar="N", help="processes that read pictures")
    group = parser.add_argument_group("metrics at every snapshot")
    group.add_argument("--metrics", default="scale", help=f"of {', '.join(METRICS)}; none for none (default: scale)")
    group.add_argument("--metrics-count", type=int, default=50_000, help="pictures drawn for them (default: 50000)")
    group.add_argument("--inception-weights", type=Path, metavar="FILE", help="needed by fid and kid")
    group.add_argument("--vgg-weights", type=Path, metavar="FILE", help="needed by pr")
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
        elif get_origin(kind) is Literal:
            group.add_argument(option, choices=get_args(kind))


def _resolve(options: argparse.Namespace) -> TrainingConfig:
    """The preset with the values that were given on the command line, and the blocks of what is transferred."""

    def given(table: type[Any]) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(table))
        return {name: value for name in names if (value := getattr(options, name, None)) is not None}

    network = given(GeneratorConfig)
    source = Source(options.transfer) if options.transfer else None
    if source is not None:
        resolution = network.get("resolution", PRESETS[options.preset].config.generator.resolution)
        network["last_block"] = source.generator_at(resolution).last_block
    config = resolve(options.preset, given(TrainingConfig), network, transfer=source is not None)
    if source is not None:
        source.check(config)
    return config


def _prepare_judge(options: argparse.Namespace, config: TrainingConfig, device: torch.device) -> Judge | None:
    """The metrics that were asked for, with everything that can be refused refused."""
    metrics = [name for name in options.metrics.split(",") if name != "none"]
    if not metrics:
        return None
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.network import GeneratorDrawer

    evaluation = Evaluation(
        config.generator,
        metrics,
        ImageDataset(options.data, config.generator.resolution),  # the original compares without mirror images
        count=options.metrics_count,
        device=device,
        inception_weights=options.inception_weights,
        vgg_weights=options.vgg_weights,
    )
    return lambda generator: evaluation.measure(GeneratorDrawer(generator, evaluation.classes))


def _default_workers(device: torch.device) -> int:
    """None on the CPU, where they would take the cores from the training itself."""
    return 0 if device.type == "cpu" else min(4, os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(run("python -m model.training", main, sys.argv[1:]))
