"""``creps evaluate``: quality metrics of a checkpoint; a figure and a video beside Lanczos upscaling."""

import json
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.evaluation import DEFAULT_COUNT, METRICS, PAIR_METRICS, PATCH_METRICS, SCALE_COUNT
from model.evaluation.spectra_figure import check_matplotlib, plot_spectra
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.util.arguments import ArgumentParser
from model.util.files import write_atomically
from model.viewport import Viewport
from service.commands.options import add_checkpoint, check_output
from service.imaging.video import find_kind
from service.imaging.video_spec import KINDS_BY_SUFFIX
from service.models.catalog import open_checkpoint

if TYPE_CHECKING:
    from kernels.renderer import Renderer
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.image_sets import Sampler
    from model.evaluation.size_zoom import SizeZoom

UNITS = {"scale": "dB", "eqt": "dB", "eqr": "dB", "spectra": "dB", "edges": "px"}

MOVED = {"eqt": "moved", "eqr": "turned"}

FIGURE_SEEDS = range(3)
"""Seeds of the rows of the figure."""


def main(arguments: Sequence[str]) -> None:
    """Compute metrics, print a table and write the report and the figure. Raises InputError for an invalid option,
    before anything is rendered or written."""
    options = _parser().parse_args(arguments)
    metrics = _split(options.metrics)
    if options.spectra_figure is not None and "spectra" not in metrics:
        metrics.append("spectra")
    if not metrics and options.figure is None and options.zoom_video is None:
        raise InputError("metrics", f"must be some of {', '.join(METRICS)}, unless --figure or --zoom-video is given")
    checkpoint = open_checkpoint(options.checkpoint)
    compared = _open_compared(options, checkpoint)
    for name in ("json", "figure", "spectra-figure", "zoom-video"):
        if (path := getattr(options, name.replace("-", "_"))) is not None:
            check_output(name, path)
    if options.zoom_video is not None:
        find_kind("zoom-video", options.zoom_video)
        if not 0 <= options.zoom_seed < options.count:
            raise InputError("zoom-seed", f"must be from 0 to {options.count - 1:,} (--count), not {options.zoom_seed}")
    if options.spectra_figure is not None:
        check_matplotlib("spectra-figure")

    from kernels.renderer import Renderer  # not at the top: --help and errors need no torch
    from model.util.device import find_device

    device = find_device(options.device)
    evaluation = _prepare(options, checkpoint, metrics)
    if device.type == "cuda":
        print("preparing the GPU, which takes a while the first time …", file=sys.stderr)
    renderer = Renderer(checkpoint, options.device)
    sampler = _make_sampler(renderer, evaluation, options.psi)
    values = evaluation.measure(sampler)
    if values:
        print(_as_text(evaluation, values))
    zoom = None
    if options.zoom_video is not None:
        from model.evaluation.size_zoom import SizeZoom

        zoom = SizeZoom(sampler, options.zoom_seed, checkpoint.config.resolution)
    if options.json is not None:
        write_atomically(options.json, _as_json(options, renderer, evaluation, values, zoom))
    networks = {_label(checkpoint): sampler}
    if compared is not None:
        other = _make_sampler(Renderer(compared, options.device), evaluation, options.psi)
        networks = {_label(compared, unlike=checkpoint): other} | networks
    _write_figures(options, networks, checkpoint.config.resolution, evaluation)
    if zoom is not None:
        _write_zoom_video(options.zoom_video, zoom)


def _open_compared(options: Namespace, checkpoint: Checkpoint) -> Checkpoint | None:
    """The network of --compare. Raises InputError if it is not shown, or has other classes."""
    if options.compare is None:
        return None
    if options.figure is None and options.spectra_figure is None:
        raise InputError("compare", "is for --figure and --spectra-figure")
    try:
        compared = open_checkpoint(options.compare)
    except InputError as error:
        raise InputError("compare", error.message) from None
    if compared.config.classes != checkpoint.config.classes:
        counts = f"{compared.config.classes} classes, not {checkpoint.config.classes}"
        raise InputError("compare", f"{compared.name} has {counts} as {checkpoint.name}")
    return compared


def _write_figures(
    options: Namespace, networks: Mapping[str, "Sampler"], resolution: int, evaluation: "Evaluation"
) -> None:
    if options.figure is not None:
        from model.evaluation.figure import render_figure

        seeds = FIGURE_SEEDS[: options.count]
        write_atomically(options.figure, render_figure(networks, resolution, seeds))
    if options.spectra_figure is not None and (patches := evaluation.patches) is not None:
        spectra = {name: patches.spectra(sampler) for name, sampler in networks.items()}
        content = plot_spectra({"data": patches.real_spectra} | spectra, patches.side)
        write_atomically(options.spectra_figure, content)


def _write_zoom_video(path: Path, zoom: "SizeZoom") -> None:
    from model.evaluation.size_zoom import FPS, HEIGHT, WIDTH
    from service.imaging.local_video import write_images

    write_images(find_kind("zoom-video", path), zoom.frames(), len(zoom.sizes), FPS, path)
    print(f"{path}: {len(zoom.sizes)} frames of {WIDTH}×{HEIGHT} pixels, {path.stat().st_size:,} bytes")


def _label(checkpoint: Checkpoint, unlike: Checkpoint | None = None) -> str:
    """A name for the figures: of a run's checkpoint, that of the run's folder, unless another one has it."""
    name = checkpoint.path.resolve().parent.name if checkpoint.name.startswith("checkpoint-") else checkpoint.name
    return checkpoint.name if unlike is not None and name == _label(unlike) else name


def _parser() -> ArgumentParser:
    listing = "\n".join(f"  {name:7} {meaning}" for name, meaning in METRICS.items())
    parser = ArgumentParser(
        prog="creps evaluate",
        description="Measures the quality of a checkpoint's images. Nothing is downloaded.",
        epilog=f"metrics:\n{listing}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_checkpoint(parser)
    add = parser.add_argument
    seeds = f"render seeds 0 … N−1 (default: {DEFAULT_COUNT}; {', '.join(PAIR_METRICS)} use the first {SCALE_COUNT})"
    add("--metrics", metavar="LIST", help=f"comma-separated list of {','.join(METRICS)}")
    add(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder or zip of real images (creps dataset); not for scale, eqt, eqr",
    )
    add("--count", type=int, default=DEFAULT_COUNT, metavar="N", help=seeds)
    add("--size", type=int, metavar="S", help="render S×S pixels (default: as the data; scale: as it was trained)")
    add("--psi", type=float, default=1.0, help="truncation: 1 for none (default), towards 0 the mean image")
    add("--inception-weights", type=Path, metavar="FILE", help="weights of the feature network of fid, kid and pfid")
    add("--vgg-weights", type=Path, metavar="FILE", help="weights of the feature network of pr")
    add("--json", type=Path, metavar="FILE", help="write the values and all settings they depend on")
    add("--figure", type=Path, metavar="PNG", help="render details beside Lanczos upscalings of the small image")
    add(
        "--spectra-figure",
        type=Path,
        metavar="PNG",
        help="plot the spectra of the metric spectra, with the data's",
    )
    add(
        "--zoom-video",
        type=Path,
        metavar="FILE",
        help=f"render a zoom through the image's sizes beside its enlargement; ends in .{', .'.join(KINDS_BY_SUFFIX)}",
    )
    add("--zoom-seed", type=int, default=0, metavar="SEED", help="the seed of --zoom-video (default: 0)")
    add("--compare", metavar="CHECKPOINT", help="another network that the figures show, too")
    add("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    add("--batch", type=int, default=32, metavar="N", help="images at once, fewer if they are large (default: 32)")
    return parser


def _split(metrics: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in metrics.split(","))) if metrics else []


def _prepare(options: Namespace, checkpoint: Checkpoint, metrics: Sequence[str]) -> "Evaluation":
    """Check the remaining options and load the data and networks of the metrics. Raises InputError."""
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.image_sets import open_dataset
    from model.util.device import find_device

    config, data = checkpoint.config, options.data
    try:
        Latent(seed=0, class_index=0 if config.classes else None, psi=options.psi).check(config)
    except InputError as error:
        raise InputError("psi", error.message) from None
    return Evaluation(
        config,
        metrics,
        None if data is None else open_dataset(data, config.classes > 0, options.size or config.resolution),
        options.count,
        options.size,
        find_device(options.device),
        options.inception_weights,
        options.vgg_weights,
        options.batch,
    )


def _make_sampler(renderer: "Renderer", evaluation: "Evaluation", psi: float) -> "Sampler":
    classes = evaluation.classes

    def sampler(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.uint8]]:
        latents = [Latent(seed, class_index=None if classes is None else classes[seed], psi=psi) for seed in seeds]
        return renderer.render_batch([RenderSpec(renderer.checkpoint.name, latent, viewport) for latent in latents])

    return sampler


def _as_text(evaluation: "Evaluation", values: dict[str, float]) -> str:
    """One line for each value, with the images it was measured on."""
    rendered = f"{evaluation.count:,} images of {evaluation.size}²"
    pairs = f"{evaluation.scale_count:,} images of {evaluation.scale_size}² and of twice that"

    def measured(name: str) -> str:
        metric, _, scale = name.removesuffix("_data").partition("_")
        if metric == "scale":
            return pairs
        if metric in PAIR_METRICS:
            return f"{evaluation.scale_count:,} images of {evaluation.scale_size}², plain and {MOVED[metric]}"
        if metric not in PATCH_METRICS or evaluation.data is None:
            return rendered
        side = evaluation.data.resolution
        return f"patches of {side}² of images of {int(scale) * side}²"

    def shown(name: str, value: float) -> str:
        return f"{value:.2f} {UNITS[unit]}" if (unit := name.partition("_")[0]) in UNITS else f"{value:.5g}"

    return "\n".join(f"{name:12} {shown(name, value):>10}   {measured(name)}" for name, value in values.items())


def _as_json(
    options: Namespace,
    renderer: "Renderer",
    evaluation: "Evaluation",
    values: dict[str, float],
    zoom: "SizeZoom | None",
) -> bytes:
    data = evaluation.data
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
    if (distribution := evaluation.distribution) is not None:
        report["drawn"] = {"count": evaluation.count, "size": evaluation.size, "grid": evaluation.grid}
        report["weights"] = distribution.weights
        if "kid" in values:
            report["kid_subset_size"] = distribution.kid_subset_size(evaluation.count)
    if data is not None and (patches := evaluation.patches) is not None:
        report["patches"] = {"count": evaluation.count, "size": data.resolution, "scales": patches.scales}
    if any(name in values for name in PAIR_METRICS):
        report["scale"] = {"count": evaluation.scale_count, "size": evaluation.scale_size, "grid": "centers"}
    if zoom is not None:
        report["zoom"] = {"seed": options.zoom_seed, "curve": [asdict(agreement) for agreement in zoom.curve]}
    return (json.dumps(report, indent=2) + "\n").encode()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
