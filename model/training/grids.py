"""What the averaged generator draws, as sheets of pictures to look at."""

import io
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.config import GeneratorConfig
from model.drawing import draw
from model.files import write_atomically
from model.generator import Generator
from model.training.dataset import ImageDataset
from model.viewport import Viewport

SHEET = (4096, 3072)
"""Largest width and height of a sheet in pixels."""

GRID = (8, 6)
"""Columns and rows of a sheet, at most."""

SCALE = 4
"""The large sheet's pictures have so many times the width of the training pictures."""

LARGE_GRID = (4, 2)

SEED = 0


class SampleSheets:
    """The same latents and classes, drawn again whenever a run takes a snapshot."""

    def __init__(self, config: GeneratorConfig, dataset: ImageDataset, device: torch.device) -> None:
        columns, rows = layout(config.resolution, GRID)
        generator = torch.Generator().manual_seed(SEED)
        count = columns * rows
        self._z = torch.randn(count, config.z_dim, generator=generator).to(device)
        labels = torch.tensor([dataset.labels[i % len(dataset.labels)] for i in range(count)], device=device)
        self._label = one_hot(labels, config.classes)
        self._config = config

    def save(self, generator: Generator, folder: Path, images: int) -> None:
        """Writes ``grid-<pictures>.png`` at the training size and ``grid4x-<pictures>.png`` at four times that."""
        for name, scale, most in (("grid", 1, GRID), ("grid4x", SCALE, LARGE_GRID)):
            side = self._config.resolution * scale
            columns, rows = layout(side, most)
            count = min(columns * rows, len(self._z))
            label = None if self._label is None else self._label[:count]
            pictures = draw_samples(generator, self._z[:count], label, side)
            save_sheet(folder / f"{name}-{images:09d}.png", pictures, columns)


def save_data_sheet(folder: Path, dataset: ImageDataset) -> None:
    """Writes ``data.png``: some of the training pictures."""
    columns, rows = layout(dataset.resolution, GRID)
    order = torch.randperm(len(dataset.names), generator=torch.Generator().manual_seed(SEED)).tolist()
    pictures = torch.stack([dataset[i][0] for i in order[: columns * rows]])
    save_sheet(folder / "data.png", pictures.permute(0, 2, 3, 1).numpy(), columns)


def draw_samples(
    generator: Generator, z: Tensor, label: Tensor | None, side: int | None = None, psi: float = 1.0
) -> NDArray[np.uint8]:
    """Pictures of z [N, z_dim], of side × side pixels or at the training resolution, [N, side, side, 3]."""
    side = generator.config.resolution if side is None else side
    viewport = Viewport.resolve(side, side)
    pictures = []
    with torch.no_grad():
        for i in range(len(z)):
            one = slice(i, i + 1)
            w = generator.mapping(z[one], None if label is None else label[one])
            ws = generator.mapping.truncate(w, generator.config.num_ws, psi)
            pictures.append(to_uint8(draw(generator, ws, viewport)))
    return np.concatenate(pictures)


def layout(side: int, most: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of pictures of that side: at most ``most``, no more than fit a sheet, and one at least."""
    columns, rows = (max(1, min(count, pixels // side)) for count, pixels in zip(most, SHEET, strict=True))
    return columns, rows


def one_hot(labels: Tensor, classes: int) -> Tensor | None:
    """[N] → [N, classes]; None for an unconditional network."""
    return F.one_hot(labels, classes).float() if classes else None


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """[N, 3, H, W] in −1 … 1 → [N, H, W, 3] of 0 … 255, cut to integers as the original tools do."""
    levels = (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    array: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).cpu().numpy()
    return array


def save_sheet(path: Path, pictures: NDArray[np.uint8], columns: int) -> None:
    """Pictures [N, H, W, 3] side by side, ``columns`` in a row, as one PNG."""
    n, h, w, _ = pictures.shape
    sheet = np.full((math.ceil(n / columns) * h, columns * w, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * h, i % columns * w
        sheet[y : y + h, x : x + w] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
