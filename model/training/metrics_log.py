"""The log of a run: metrics.jsonl, TensorBoard's events, log.txt with the lines of stderr, and at the end curves.png.

TensorBoard's events and curves.png are left out where tensorboard or matplotlib (extra ``train``) is not installed.
"""

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.errors import InputError
from model.training.distributed import Distributed
from model.util.files import append_line, write_atomically
from model.util.measuring import peak_memory
from model.util.progress import open_bar, say
from model.util.text import duration

METRICS = "metrics.jsonl"
TEXT = "log.txt"

ADVICE = "earlier snapshots are kept; try a larger gamma, a smaller learning_rate, or precision fp32"

PANELS: dict[str, tuple[str, ...]] = {
    "losses": ("loss_generator", "loss_discriminator"),
    "penalties": ("r1_penalty", "r2_penalty", "path_length_penalty"),
    "signs of the logits and augmentation": ("sign_real", "sign_real_patches", "sign_fake", "augment_p"),
    "FID": ("fid",),
    "KID": ("kid",),
    "FID of patches": ("pfid_1", "pfid_2", "pfid_4", "pfid_8"),
    "difference of spectra, dB": ("spectra_1", "spectra_2", "spectra_4", "spectra_8"),
    "width of edges, pixels": ("edges_1", "edges_2", "edges_4", "edges_8"),
    "precision and recall": ("precision", "recall"),
    "scale consistency, dB": ("scale", "scale_worst"),
}
"""Panels of curves.png: titles, and the scalars that each shows."""


class MetricsLog(AbstractContextManager["MetricsLog"]):
    """Averages the scalars of the steps and writes the means. Only the main process writes.

    Args:
        folder: of the run. Lines that a longer run has written after ``images`` are removed.
        images, total_images: images seen so far, and of the whole run.
        device: whose peak memory is logged.
        distributed: the processes over which scalars are averaged.
        collected: scalars since the last line of a run that was stopped.
    """

    def __init__(
        self,
        folder: Path,
        images: int,
        total_images: int,
        device: torch.device,
        distributed: Distributed,
        collected: Mapping[str, Tensor],
    ) -> None:
        self._folder, self._total, self._device, self._distributed = folder, total_images, device, distributed
        self._scalars: defaultdict[str, list[tuple[int, Tensor]]] = defaultdict(list)
        for name, pairs in collected.items():
            self._scalars[name] = [(int(step), value.float().to(device)) for step, value in pairs]
        self._start, self._first = time.monotonic(), images
        self._last_write = (self._start, images)
        self._tensorboard: Any = None
        self._bar: Any = None
        if distributed.is_main:
            self._bar = open_bar("training", total_images, images)
            (folder / TEXT).touch()
            lines = [line for line in read_metrics(folder) if line["kimg"] <= images / 1000]
            write_atomically(folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines).encode())
            with suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self._tensorboard = SummaryWriter(str(folder), purge_step=images + 1)

    def add(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Collects the scalars of one step without waiting for the device. Some come at some steps only."""
        for name, value in scalars.items():
            self._scalars[name].append((step, value.detach().float()))

    def advance(self, images: int) -> None:
        """Moves the progress bar on by a number of images."""
        if self._bar is not None:
            with suppress(OSError):  # the terminal was closed, or the disk of stderr is full
                self._bar.update(images)

    def collected(self) -> dict[str, Tensor]:
        """The scalars since the last line by name, averaged over all processes: [steps, 2], step and value.

        Raises:
            InputError: a value is NaN or infinite; all processes raise it.
        """
        collected = {}
        for name, pairs in self._scalars.items():
            values = self._distributed.all_reduce_mean(torch.stack([value for _, value in pairs])).double().cpu()
            if not values.isfinite().all():
                first = int(values.isfinite().logical_not().nonzero()[0])
                raise InputError(name, f"is {values[first].item()} at step {pairs[first][0]}; {ADVICE}")
            collected[name] = torch.stack([torch.tensor([step for step, _ in pairs]).double(), values], dim=1)
        return collected

    def take_means(self) -> dict[str, float]:
        """Means of the collected scalars, by name; clears the collection. Raises as :meth:`collected`."""
        means = {name: pairs[:, 1].mean().item() for name, pairs in self.collected().items()}
        self._scalars.clear()
        return means

    def write(self, images: int, scalars: dict[str, float]) -> None:
        """Writes scalars with the images per second since the last call and the peak memory."""
        if not self._distributed.is_main or not scalars:
            return
        now, (before, images_before) = time.monotonic(), self._last_write
        self._last_write = (now, images)
        rate = (images - images_before) / max(now - before, 1e-9)
        values = scalars | {"images_per_second": rate, "memory_gib": peak_memory(self._device) / 2**30}
        try:
            append_line(self._folder / METRICS, json.dumps({"kimg": images / 1000, "time": time.time(), **values}))
        except OSError as error:  # training goes on: there may be space again before the next snapshot
            self.print(f"{self._folder / METRICS}: a line is missing: {error.strerror}")
        self._write_events(images, values)
        each = (now - self._start) / max(images - self._first, 1)  # with snapshots and metrics
        left = duration(each * max(self._total - images, 0))
        shown = " ".join(f"{name} {value:.3g}" for name, value in values.items())
        kimg = f"{images / 1000:g} of {self._total / 1000:g} kimg"
        self.print(f"{kimg}, {now - self._start:.0f} s, {left} left, {shown}")

    def _write_events(self, images: int, values: Mapping[str, float]) -> None:
        if self._tensorboard is None:
            return
        try:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, images)
            self._tensorboard.flush()
        except OSError as error:
            self.print(f"{self._folder}: TensorBoard's events end here: {error.strerror}")
            self._tensorboard = None

    def print(self, text: str) -> None:
        """A line in log.txt and on stderr, of the main process only."""
        if self._distributed.is_main:
            with suppress(OSError):  # as in advance
                say(text)
            with suppress(OSError):  # as in write
                append_line(self._folder / TEXT, text)

    def __exit__(self, *error: object) -> None:
        for part in (self._tensorboard, self._bar):
            if part is not None:
                with suppress(OSError):
                    part.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl, without those that a crash has spoilt; empty if there is no such file."""
    path = folder / METRICS
    lines = []
    for text in path.read_bytes().splitlines() if path.exists() else ():
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict) and isinstance(line.get("kimg"), int | float):
                lines.append(line)
    return lines


def plot_curves(folder: Path) -> None:
    """Draws curves.png from a run's metrics.jsonl, over thousands of images."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    lines = read_metrics(folder)
    logged = {name for line in lines for name in line}
    panels = {title: present for title, names in PANELS.items() if (present := [n for n in names if n in logged])}
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
    all_axes[-1].set_xlabel("thousands of images")
    figure.savefig(folder / "curves.png", dpi=120)
