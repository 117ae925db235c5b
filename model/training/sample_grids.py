"""Grids of sample images from the EMA generator."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from model.data.dataset import ImageDataset
from model.generator import Generator
from model.render import render
from model.util.files import new_file
from model.util.progress import progress
from model.util.text import printable
from model.viewport import Viewport

MAX_SIZE = (4096, 3072)
"""Maximum width and height of a grid in pixels."""

MAX_GRID = (8, 6)
MAX_LARGE_GRID = (4, 2)
"""Maximum columns and rows of the grid and of the large grid."""

LARGE_SCALE = 4
"""Size of the large grid's images, relative to the training resolution."""

MAX_NAME = 30
"""Characters of a class's name beside its row."""

SEED = 0


def save_sample_grids(folder: Path, generator: Generator, dataset: ImageDataset, images: int) -> None:
    """Writes ``grid-<images>.png`` at the training resolution and ``grid4x-<images>.png`` at four times that.

    The latents and classes are the same at every snapshot. A conditional network has one class in each row, with the
    same latents; the rows are spread over the classes of the data.
    """
    config, device = generator.config, generator.mapping.w_avg.device
    count = math.prod(grid_layout(config.resolution, MAX_GRID))
    z = torch.randn(count, config.z_dim, generator=torch.Generator().manual_seed(SEED)).to(device)
    present = sorted(set(dataset.labels)) if config.classes else []
    for name, scale, limit in (("grid", 1, MAX_GRID), ("grid4x", LARGE_SCALE, MAX_LARGE_GRID)):
        side = config.resolution * scale
        columns, rows = grid_layout(side, limit)
        shown = [present[row * len(present) // rows] for row in range(rows)] if len(present) > rows else present
        latents = z[:columns].repeat(len(shown), 1) if shown else z[: columns * rows]
        labels = torch.tensor(shown or [0] * rows, device=device).repeat_interleave(columns)
        samples = draw_samples(generator, latents, one_hot(labels, config.classes), side)
        names = [dataset.class_names[label] if dataset.class_names else f"class {label}" for label in shown]
        save_grid(folder / f"{name}-{images:09d}.png", samples, columns, names)


def save_data_grid(folder: Path, dataset: ImageDataset) -> None:
    """Writes ``data.png``: some of the training images."""
    columns, rows = grid_layout(dataset.resolution, MAX_GRID)
    order = torch.randperm(len(dataset.names), generator=torch.Generator().manual_seed(SEED)).tolist()
    images = torch.stack([dataset[i][0] for i in order[: columns * rows]])
    save_grid(folder / "data.png", images.permute(0, 2, 3, 1).numpy(), columns)


@torch.no_grad()
def draw_samples(generator: Generator, z: Tensor, label: Tensor, side: int) -> NDArray[np.uint8]:
    """Draws z [N, z_dim] with one-hot classes [N, classes], one image at a time: [N, side, side, 3]."""
    viewport = Viewport.resolve(side, side)
    images = []
    for i in progress(range(len(z)), len(z), "drawing samples"):
        w = generator.mapping(z[i : i + 1], label[i : i + 1])  # [1, w_dim]
        ws = generator.mapping.truncate(w, generator.config.num_ws)  # [1, num_ws, w_dim]
        levels = (render(generator, ws, viewport) * 127.5 + 128).clamp(0, 255)  # [1, 3, side, side]
        images.append(levels.to(torch.uint8).permute(0, 2, 3, 1))  # truncated as in the original
    drawn: NDArray[np.uint8] = torch.cat(images).cpu().numpy()
    return drawn


def grid_layout(side: int, limit: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of images of ``side``² pixels: at most ``limit``, and at least one, within MAX_SIZE."""
    columns, rows = (max(1, min(count, pixels // side)) for count, pixels in zip(limit, MAX_SIZE, strict=True))
    return columns, rows


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """[N] → [N, classes]; no columns for an unconditional network."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def save_grid(path: Path, images: NDArray[np.uint8], columns: int, names: Sequence[str] = ()) -> None:
    """Writes images [N, H, W, 3] as one PNG with ``columns`` of them in a row, and to the right the rows' names."""
    n, h, w, _ = images.shape
    grid = np.full((math.ceil(n / columns) * h, columns * w, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * h, i % columns * w
        grid[y : y + h, x : x + w] = image
    image = Image.fromarray(grid)
    if names:
        font = ImageFont.load_default(min(max(h // 4, 10), 40))
        texts = [printable(name)[:MAX_NAME] for name in names]
        margin = max(math.ceil(font.getlength(text)) for text in texts) + 16
        image = ImageOps.expand(image, (0, 0, margin, 0), "white")
        for row, text in enumerate(texts):
            ImageDraw.Draw(image).text((columns * w + 8, row * h + h // 2), text, "black", font, anchor="lm")
    with new_file(path) as file:
        image.save(file, "PNG")
