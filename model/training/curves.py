"""A run's losses and metrics as one picture."""

import sys
from pathlib import Path

from model.training.reporting import read_metrics

PANELS: dict[str, tuple[str, ...]] = {
    "losses": ("loss_generator", "loss_discriminator"),
    "penalties": ("r1_penalty", "r2_penalty", "path_length_penalty"),
    "discriminator's verdicts and augmentation": ("sign_real", "sign_fake", "augment_p"),
    "FID": ("fid",),
    "KID": ("kid",),
    "precision and recall": ("precision", "recall"),
    "scale consistency, dB": ("scale", "scale_worst"),
}


def draw_curves(folder: Path, path: Path) -> None:
    """Writes a PNG of what metrics.jsonl of a run's folder holds, over thousands of pictures.

    Where matplotlib is missing, a line on stderr says so.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"{path} was not drawn: matplotlib is not installed", file=sys.stderr)
        return
    lines = read_metrics(folder)
    panels = {title: [n for n in names if any(n in line for line in lines)] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        return
    figure = Figure(figsize=(9, 2.2 * len(panels) + 0.5), layout="constrained")
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(all_axes, panels.items(), strict=True):
        for name in names:
            points = [(line["kimg"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None)
        axes.set_title(title, fontsize="medium", loc="left")
        axes.grid(alpha=0.25)
        if len(names) > 1:
            axes.legend(fontsize="small")
    all_axes[-1].set_xlabel("thousands of pictures")
    figure.savefig(path, dpi=120)
