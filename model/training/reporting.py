"""What a run shows while it goes: a progress bar, and scalars in metrics.jsonl and TensorBoard."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from model.files import write_atomically
from model.measuring import peak_memory

METRICS = "metrics.jsonl"


class Reporter:
    """Writes scalars; shows pictures seen, pictures a second, memory and the time left.

    TensorBoard and tqdm are used where they are installed; without tqdm, progress is a plain line.

    Args:
        folder: of the run. What a longer run has written there after ``images`` is forgotten.
        images, total_images: pictures seen so far and in the whole run.
        device: whose memory is shown.
    """

    def __init__(self, folder: Path, images: int, total_images: int, device: torch.device) -> None:
        self._path = folder / METRICS
        lines = [line for line in read_metrics(folder) if line["kimg"] <= images / 1000]
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in lines).encode())
        self._board = _tensorboard(folder, images)
        self._bar = _progress_bar(images, total_images)
        self._total = total_images
        self._device = device
        self._since = (time.monotonic(), images)

    def step(self, images: int) -> None:
        """Moves the progress bar by so many pictures."""
        if self._bar is not None:
            self._bar.update(images)

    def write(self, images: int, scalars: dict[str, float]) -> None:
        """Writes scalars, the rate since the last call and the memory as one line and to TensorBoard."""
        now = time.monotonic()
        rate = (images - self._since[1]) / max(now - self._since[0], 1e-9)
        self._since = (now, images)
        values = scalars | {"images_per_second": rate, "memory_gib": peak_memory(self._device) / 2**30}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kimg": images / 1000, "time": time.time(), **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, images)
        if self._bar is not None:
            shown = {name: f"{value:.3g}" for name, value in values.items() if name.startswith(("loss", "augment"))}
            self._bar.set_postfix(shown | {"GiB": f"{values['memory_gib']:.1f}"}, refresh=False)
        else:
            left = (self._total - images) / max(rate, 1e-9)
            shown_line = " ".join(f"{name} {value:.3g}" for name, value in values.items())
            self.message(
                f"{images / 1000:.1f} of {self._total / 1000:.1f} kimg, {left / 60:.0f} min left, {shown_line}"
            )

    def message(self, text: str) -> None:
        """A line above the progress bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._board, self._bar):
            if part is not None:
                part.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl; none where there is no such file. A line cut short by a crash is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _tensorboard(folder: Path, images: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=images)


def _progress_bar(images: int, total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # In a log file, which keeps every state of the bar, a few lines a minute are enough.
    interval = 1.0 if sys.stderr.isatty() else 20.0
    return tqdm(total=total, initial=images, unit="img", unit_scale=True, dynamic_ncols=True, mininterval=interval)
