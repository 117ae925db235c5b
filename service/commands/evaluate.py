"""``creps evaluate``: quality metrics of a checkpoint, and a figure that shows what enlarging cannot."""

import json
import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.arguments import ArgumentParser
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.evaluation import DEFAULT_COUNT, METRICS, SCALE_COUNT
from model.files import write_atomically
from model.spec import Latent, RenderSpec
from model.viewport import Viewport
from service.catalog import DEMO_NAME, open_checkpoint

if TYPE_CHECKING:
    from kernels.renderer import Renderer
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.pictures import Draw

FIGURE_SEEDS = range(3)
"""Seeds that the figure shows, a row each."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, measures, prints a table and writes the files that were asked for.

    Raises:
        InputError: names the option that cannot be used; nothing has been drawn or written then.
    """
    options = _parser().parse_args(arguments)
    metrics = _split(options.metrics)
    if not metrics and options.figure is None:
        raise InputError("metrics", f"must be of {', '.join(METRICS)}, or --figure be given")
    checkpoint = open_checkpoint(options.checkpoint)
    for name in ("json", "figure"):
        _check_output(name, getattr(options, name))

    from kernels.renderer import Renderer  # here, so that --help and mistakes need no torch
    from model.device import find_device

    device = find_device(options.device)
    evaluation = _prepare(options, checkpoint, metrics)
    if device.type == "cuda":
        print("preparing the GPU, which takes a while the first time …", file=sys.stderr)
    renderer = Renderer(checkpoint, options.device)
    draw = _make_draw(renderer, evaluation, options.psi)
    values = evaluation.measure(draw)
    print(_as_text(evaluation, values))
    if options.json is not None:
        write_atomically(options.json, _as_json(options, renderer, evaluation, values))
    if options.figure is not None:
        from model.evaluation.figure import draw_figure

        seeds = FIGURE_SEEDS[: options.count]
        write_atomically(options.figure, draw_figure(draw, checkpoint.config.resolution, seeds))


def _parser() -> ArgumentParser:
    listing = "\n".join(f"  {name:6} {meaning}" for name, meaning in METRICS.items())
    parser = ArgumentParser(
        prog="creps evaluate",
        description="Measures how good a checkpoint's pictures are. Nothing is ever downloaded.",
        epilog=f"metrics:\n{listing}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    seeds = f"draw seeds 0 … N−1 (default: {DEFAULT_COUNT}; of them, scale takes the first {SCALE_COUNT})"
    add("checkpoint", metavar="CHECKPOINT", help=f'a checkpoint file, or "{DEMO_NAME}" for the bundled one')
    add("--metrics", metavar="LIST", help=f"what to measure, separated by commas: {','.join(METRICS)}")
    add("--data", type=Path, metavar="PATH", help="folder or zip of real pictures (creps dataset); scale needs none")
    add("--count", type=int, default=DEFAULT_COUNT, metavar="N", help=seeds)
    add("--size", type=int, metavar="S", help="draw S×S pixels (default: as the data; scale: as it was trained)")
    add("--psi", type=float, default=1.0, help="truncation: 1 as drawn (default), towards 0 the mean picture")
    add("--inception-weights", type=Path, metavar="FILE", help="weights of the network that fid and kid look through")
    add("--vgg-weights", type=Path, metavar="FILE", help="weights of the network that pr looks through")
    add("--json", type=Path, metavar="FILE", help="write the values and all that they depend on")
    add("--figure", type=Path, metavar="PNG", help="draw details beside what Lanczos makes of the small picture")
    add("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    add("--batch", type=int, default=32, metavar="N", help="pictures at once, fewer where they are large (default: 32)")
    return parser


def _split(metrics: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in metrics.split(","))) if metrics else []


def _check_output(option: str, path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        raise InputError(option, f"{path} is a folder")
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(option, f"{path} cannot be written: {existing} is no folder that may be written to")


def _prepare(options: Namespace, checkpoint: Checkpoint, metrics: Sequence[str]) -> "Evaluation":
    """Checks all the rest, and loads what the metrics need. Raises InputError."""
    from model.device import find_device
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.pictures import open_data

    config = checkpoint.config
    try:
        Latent(seed=0, class_index=0 if config.classes else None, psi=options.psi).check(config)
    except InputError as error:
        raise InputError("psi", error.message) from None
    return Evaluation(
        config,
        metrics,
        None if options.data is None else open_data(options.data),
        options.count,
        options.size,
        find_device(options.device),
        options.inception_weights,
        options.vgg_weights,
        options.batch,
    )


def _make_draw(renderer: "Renderer", evaluation: "Evaluation", psi: float) -> "Draw":
    classes = evaluation.classes

    def draw(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.uint8]]:
        latents = [Latent(seed, class_index=None if classes is None else classes[seed], psi=psi) for seed in seeds]
        return renderer.render_batch([RenderSpec(renderer.checkpoint.name, latent, viewport) for latent in latents])

    return draw


def _as_text(evaluation: "Evaluation", values: dict[str, float]) -> str:
    """A line for each value, and what it was measured on."""
    drawn = f"{evaluation.count:,} pictures of {evaluation.size}²"
    pairs = f"{evaluation.scale_count:,} pictures of {evaluation.scale_size}² and twice that"
    rows = [
        (name, f"{value:.2f} dB" if name.startswith("scale") else f"{value:.5g}", pairs if "scale" in name else drawn)
        for name, value in values.items()
    ]
    return "\n".join(f"{name:12} {value:>10}   {measured}" for name, value, measured in rows)


def _as_json(options: Namespace, renderer: "Renderer", evaluation: "Evaluation", values: dict[str, float]) -> bytes:
    """The values and what they depend on."""
    data = evaluation.data
    quality = evaluation.quality
    report: dict[str, Any] = {
        "checkpoint": renderer.checkpoint.name,
        "digest": renderer.checkpoint.digest,
        "values": values,
        "psi": options.psi,
        "device": str(renderer.device),
        "backend": renderer.backend,
        "versions": {name: _version(name) for name in ("creps-serve", "torch", "torch-fidelity", "numpy")},
    }
    if data is not None:
        report["data"] = {"path": str(options.data), "digest": data.digest, "count": len(data), "size": data.resolution}
    if quality is not None:
        report["drawn"] = {"count": evaluation.count, "size": evaluation.size, "grid": "corners"}
        report["weights"] = quality.weights
        if "kid" in values:
            report["kid_subset_size"] = quality.kid_subset_size(evaluation.count)
    if "scale" in values:
        report["scale"] = {"count": evaluation.scale_count, "size": evaluation.scale_size, "grid": "centers"}
    return (json.dumps(report, indent=2) + "\n").encode()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
