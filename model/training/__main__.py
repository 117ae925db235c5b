"""The command line of training: ``creps train``, or ``python -m model.training`` without the service installed.

On several GPUs or machines: ``torchrun --nproc-per-node 8 -m model.training …``.
"""

import argparse
import inspect
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from model.config import GeneratorConfig
from model.data.dataset import ImageDataset
from model.errors import InputError
from model.evaluation import METRICS
from model.training.config import TrainingConfig
from model.training.device import multiplies_bf16
from model.training.distributed import Distributed, init_distributed
from model.training.ladder import Stage, parse_sizes, plan_ladder
from model.training.loop import MetricFn, train
from model.training.patches import check_patches
from model.training.presets import PRESETS, resolve
from model.training.profiling.estimate import estimate
from model.training.run_metadata import RUN_METADATA, read_run_config
from model.training.state import list_states
from model.training.threads import choose_threads
from model.training.transfer import TransferSource, discriminator_shape
from model.util.arguments import ArgumentParser, run
from model.util.cpus import available_cpus
from model.util.device import find_device
from model.util.progress import say
from model.util.text import counted

STYLEGAN_OPTIONS = {
    "--kimg": "--total-kimg",
    "--tick": "--log-kimg",
    "--snap": "--snapshot-kimg, which counts thousands of images",
    "--cfg": "--preset",
    "--resume": "--transfer (a stopped run is resumed by the same command)",
    "--cond": "--classes",
    "--aug": "--augmentation",
    "--augpipe": "--ada-kinds",
    "--target": "--ada-target",
    "--batch-gpu": "--microbatch",
    "--glr": "--learning-rate",
    "--dlr": "--learning-rate",
    "--cbase": "--channel-base",
    "--cmax": "--channel-max",
    "--map-depth": "--mapping-layers",
    "--mbstd-group": "--minibatch-group",
    "--freezed": "--freeze-d",
    "--fp32": "--precision fp32",
    "--gpus": "torchrun --nproc-per-node N -m model.training",
}
"""Options of StyleGAN's train.py, and the ones of this command in their place."""


def main(arguments: Sequence[str]) -> None:
    """Starts a run, or resumes the one in the output folder.

    Raises:
        InputError: an option is invalid, or options, data and folder do not fit together.
        SystemExit: a signal ended the run, with the status EX_TEMPFAIL: the same command goes on with it.
    """
    options = _parser().parse_args(arguments)
    device = find_device(options.device)
    stages = _plan_stages(options, device)
    with init_distributed(device) as (distributed, device):
        for stage in stages:
            stage.config.check_processes(distributed.size)
        if not options.dry_run:
            _train(options, stages, distributed, device)
            return
        dataset = None if options.data is None else _open_dataset(options, stages, distributed)
        if distributed.is_main:
            print(json.dumps(stages[-1].config.to_dict(), indent=2))
            _choose_threads(stages[-1].config, distributed, device)
            if dataset is not None:
                print(f"data    {counted(len(dataset.names), 'image')} in {options.data}", file=sys.stderr)
            for stage in stages:
                if options.ladder:
                    print(f"{stage.config.generator.resolution}²", file=sys.stderr)
                print(estimate(stage.config, distributed.size, device), file=sys.stderr)


def _open_dataset(options: argparse.Namespace, stages: Sequence[Stage], distributed: Distributed) -> ImageDataset:
    """The images to train on. A new run decodes all of them first. Raises InputError for unusable data."""
    config, outdir = stages[-1].config, stages[0].outdir
    dataset = ImageDataset(options.data, config.generator.resolution, config.mirror, config.generator.classes > 0)
    check_patches(config, dataset)
    classes = config.generator.classes
    if classes and not dataset.classes:
        raise InputError("data", "has no classes, which a conditional network needs")
    if classes and dataset.classes > classes:
        raise InputError("classes", f"the data has {dataset.classes} classes, not {classes}")
    if options.ladder and not dataset.keeps_sizes:
        advice = (
            f"creps dataset ORIGINALS NEW.zip --keep-size --resolution {config.generator.resolution} makes such data"
        )
        raise InputError("data", f"has images of one size only, but a ladder reads them at several; {advice}")
    started = outdir is not None and (outdir / RUN_METADATA).exists()
    if distributed.broadcast(options.check_images and not started):
        dataset.check_pixels(distributed.rank, distributed.size)
    return dataset


def _train(
    options: argparse.Namespace, stages: Sequence[Stage], distributed: Distributed, device: torch.device
) -> None:
    for name in ("data", "outdir"):
        if getattr(options, name) is None:
            raise InputError(name, "is required without --dry-run")
    dataset = _open_dataset(options, stages, distributed)
    metric_fns = [_make_metric_fn(options, stage.config, device) if distributed.is_main else None for stage in stages]
    workers = options.workers
    if workers is None:  # none on the CPU, where they would compete with training for the cores
        workers = 0 if device.type == "cpu" else min(4, available_cpus())
    transfer = options.transfer
    for stage, metric_fn in zip(stages, metric_fns, strict=True):
        config, outdir = stage.config, stage.outdir
        assert outdir is not None  # noqa: S101 - checked above
        _choose_threads(config, distributed, device)
        last = train(
            config,
            dataset.at(config.generator.resolution) if options.ladder else dataset,
            outdir,
            device,
            workers,
            distributed=distributed,
            transfer=transfer,
            metric_fn=metric_fn,
        )
        if int(last.stem.rpartition("-")[2]) < round(config.total_kimg * 1000):
            sys.exit(os.EX_TEMPFAIL)
        transfer = next(iter(list_states(outdir)), None)


def _choose_threads(config: TrainingConfig, distributed: Distributed, device: torch.device) -> None:
    if device.type == "cpu" and distributed.size == 1 and (choice := choose_threads(config)):
        say(choice)


def _parser() -> ArgumentParser:
    presets = "\n".join(f"  {name:16} {preset.purpose}" for name, preset in PRESETS.items())
    parser = ArgumentParser(
        prog="creps train",
        description="Train a CREPS network, or resume a run that was stopped.",
        epilog=f"presets:\n{presets}\n\nseveral GPUs: torchrun --nproc-per-node 8 -m model.training OPTIONS",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        renamed=STYLEGAN_OPTIONS,
    )
    parser.add_argument("--data", type=Path, help="folder or zip of square images (creps dataset)")
    parser.add_argument("--outdir", type=Path, help="folder of the run")
    parser.add_argument("--preset", choices=PRESETS, required=True, help="the settings to start from")
    parser.add_argument(
        "--transfer", type=Path, metavar="FILE", help="start from this checkpoint or training state (state-….pt)"
    )
    parser.add_argument(
        "--ladder",
        type=parse_sizes,
        metavar="SIZES",
        help="train at these sizes one after the other, such as 16,32,64, each in a folder of outdir",
    )
    parser.add_argument("--dry-run", action="store_true", help="check --data; print the settings and what they need")
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, cpu or auto (default)")
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(65),
        metavar="N",
        help="processes that read images (default: 4; none on a CPU)",
    )
    parser.add_argument(
        "--check-images",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode all images before a new run's first step (default), to find damaged ones",
    )
    group = parser.add_argument_group("metrics at every snapshot")
    group.add_argument("--metrics", default="scale", help=f"of {', '.join(METRICS)}, or none (default: scale)")
    group.add_argument("--metrics-count", type=int, default=50_000, help="images drawn for them (default: 50000)")
    group.add_argument("--inception-weights", type=Path, metavar="FILE", help="required by fid and kid")
    group.add_argument("--vgg-weights", type=Path, metavar="FILE", help="required by pr")
    _add_overrides(parser, "training settings", TrainingConfig)
    _add_overrides(parser, "network settings", GeneratorConfig)
    return parser


def _add_overrides(parser: ArgumentParser, title: str, config_class: type[Any]) -> None:
    group = parser.add_argument_group(f"{title}, which override the preset's")
    texts = _attribute_texts(config_class)
    for name, kind in get_type_hints(config_class).items():
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=texts[name])
        elif kind in (int, float, int | None):
            number = float if kind is float else int
            group.add_argument(option, type=number, metavar=number.__name__, help=texts[name])
        elif get_origin(kind) is Literal:
            group.add_argument(option, choices=get_args(kind), help=texts[name])


def _attribute_texts(config_class: type[Any]) -> dict[str, str]:
    """What a docstring says of each attribute, as help texts."""
    section = (inspect.getdoc(config_class) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).replace("%", "%%") for names, text in entries for name in names.split(", ")}


def _plan_stages(options: argparse.Namespace, device: torch.device) -> list[Stage]:
    """The runs of the command: one, or one for each size of a ladder.

    Settings are the preset's and those of the command line and, for --transfer, the trained networks' architecture. A
    run that was started already has that architecture in its run.json, so that the source is not needed again. A
    preset's bf16 is fp32 on CPUs that do not have it.
    """

    def overrides(config_class: type[Any]) -> dict[str, Any]:
        names = (field.name for field in fields(config_class))
        return {name: value for name in names if (value := getattr(options, name, None)) is not None}

    network, training = overrides(GeneratorConfig), overrides(TrainingConfig)
    if device.type == "cpu" and PRESETS[options.preset].config.precision == "bf16" and not multiplies_bf16():
        training.setdefault("precision", "fp32")
    if options.ladder:
        if options.transfer is not None:
            raise InputError("transfer", "cannot be combined with --ladder, which starts from new networks")
        return plan_ladder(options.ladder, options.preset, training, network, options.outdir)
    if options.transfer is None:
        return [Stage(resolve(options.preset, training, network), options.outdir)]
    if options.outdir is not None and (started := read_run_config(options.outdir)) is not None:
        training, network = discriminator_shape(started) | training, asdict(started.generator) | network
        return [Stage(resolve(options.preset, training, network, transfer=True), options.outdir)]
    source = TransferSource(options.transfer)
    preset = PRESETS[options.preset].config.generator
    resolution, max_scale = (network.get(name, getattr(preset, name)) for name in ("resolution", "max_scale"))
    training, network = source.discriminator | training, asdict(source.generator_at(resolution, max_scale)) | network
    config = resolve(options.preset, training, network, transfer=True)
    source.check(config)
    return [Stage(config, options.outdir)]


def _make_metric_fn(options: argparse.Namespace, config: TrainingConfig, device: torch.device) -> MetricFn | None:
    """The function that computes the requested metrics; raises InputError before training if it could not."""
    metrics = [name for name in options.metrics.split(",") if name != "none"]
    if "eqr" in metrics:
        raise InputError("metrics", "eqr is measured by creps evaluate alone")
    if not metrics:
        return None
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.generator_sampler import GeneratorSampler

    evaluation = Evaluation(
        config.generator,
        metrics,
        # As in the original, without mirror images.
        ImageDataset(options.data, config.generator.resolution, conditional=config.generator.classes > 0),
        count=options.metrics_count,
        device=device,
        inception_weights=options.inception_weights,
        vgg_weights=options.vgg_weights,
    )
    return lambda generator: evaluation.measure(GeneratorSampler(generator, evaluation.classes))


if __name__ == "__main__":
    sys.exit(run("python -m model.training", main, sys.argv[1:]))
