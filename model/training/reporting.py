"""What a run shows: a progress bar, scalars in metrics.jsonl and TensorBoard, and grids of pictures."""

import io
import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.files import write_atomically
from model.generator import Generator

GRID_BATCH = 16


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """[N, 3, H, W] in −1 … 1 → [N, H, W, 3] of 0 … 255, cut to integers as the original tools do."""
    levels = (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    array: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).cpu().numpy()
    return array


def save_grid(path: Path, pictures: NDArray[np.uint8], columns: int) -> None:
    """Pictures [N, H, W, 3] side by side, ``columns`` in a row, as one PNG."""
    n, h, w, _ = pictures.shape
    sheet = np.full((math.ceil(n / columns) * h, columns * w, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * h, i % columns * w
        sheet[y : y + h, x : x + w] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


@torch.no_grad()
def draw_samples(generator: Generator, z: Tensor, label: Tensor | None, psi: float = 1.0) -> NDArray[np.uint8]:
    """Pictures of z [N, z_dim] at the training resolution, [N, R, R, 3]."""
    pictures = []
    for i in range(0, len(z), GRID_BATCH):
        part = slice(i, i + GRID_BATCH)
        pictures.append(to_uint8(generator(z[part], None if label is None else label[part], psi=psi)))
    return np.concatenate(pictures)


class Reporter:
    """Averages scalars between two log lines and writes them; shows pictures seen, pictures a second and the time left.

    TensorBoard and tqdm are used where they are installed; without tqdm, progress is a plain line.
    """

    def __init__(self, folder: Path, images: int, total_images: int) -> None:
        self._sums: dict[str, list[float]] = {}
        self._log = (folder / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(folder)
        self._bar = _progress_bar(images, total_images)
        self._total = total_images
        self._since = (time.monotonic(), images)

    def add(self, **scalars: Tensor | float) -> None:
        """Adds one step's values to the running means."""
        for name, value in scalars.items():
            self._sums.setdefault(name, []).append(float(value))

    def step(self, images: int) -> None:
        """Moves the progress bar by so many pictures."""
        if self._bar is not None:
            self._bar.update(images)

    def write(self, images: int, **scalars: float) -> None:
        """Writes the means since the last call, and the rate, as one line and to TensorBoard."""
        values = {name: sum(parts) / len(parts) for name, parts in self._sums.items()} | scalars
        self._sums.clear()
        now = time.monotonic()
        values["images_per_second"] = (images - self._since[1]) / max(now - self._since[0], 1e-9)
        self._since = (now, images)
        # NaN is not JSON; null says the same.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._log.write(json.dumps({"kimg": images / 1000, "time": time.time(), **finite}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, images)
        if self._bar is not None:
            self._bar.set_postfix({k: f"{v:.3g}" for k, v in values.items() if k.startswith("loss")}, refresh=False)
        else:
            left = (self._total - images) / max(values["images_per_second"], 1e-9)
            shown = " ".join(f"{name} {value:.3g}" for name, value in values.items())
            print(
                f"{images / 1000:.1f} of {self._total / 1000:.1f} kimg, {left / 60:.0f} min left, {shown}", flush=True
            )

    def message(self, text: str) -> None:
        """A line above the progress bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, flush=True)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        for part in (self._board, self._bar):
            if part is not None:
                part.close()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def _progress_bar(images: int, total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # In a log file, which keeps every state of the bar, a few lines a minute are enough.
    interval = 1.0 if sys.stderr.isatty() else 20.0
    return tqdm(total=total, initial=images, unit="img", unit_scale=True, dynamic_ncols=True, mininterval=interval)
