"""Small data sets for the tests of the trainer."""

import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from model.config import GeneratorConfig
from model.data.dataset import ImageDataset
from model.training.config import TrainingConfig


def tiny_config(**overrides: object) -> TrainingConfig:
    """A recipe that takes a step within milliseconds."""
    generator = GeneratorConfig(8, z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8, thickness=2)
    values: dict[str, object] = {
        "generator": generator,
        "batch": 4,
        "gamma": 0.1,
        "r1_interval": 2,
        "discriminator_channel_base": 64,
        "discriminator_channel_max": 8,
        "ema_kimg": 0.01,
        "total_kimg": 0.024,
        "snapshot_kimg": 0.012,
        "log_kimg": 0.008,
    }
    return TrainingConfig(**(values | overrides))  # type: ignore[arg-type]


def tiny_data(folder: Path, config: TrainingConfig | None = None) -> ImageDataset:
    """A data set of noise for a tiny recipe."""
    config = config or tiny_config()
    size = config.generator.resolution
    return ImageDataset(folder if folder.exists() else write_images(folder, size=size), size, config.mirror)


def write_images(folder: Path, count: int = 6, size: int = 8, seed: int = 0) -> Path:
    """A folder of PNGs of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    return folder


def write_zip(path: Path, folder: Path, labels: dict[str, int] | None = None, classes: list[str] | None = None) -> Path:
    """The folder's images as a zip in StyleGAN's layout."""
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted(folder.iterdir()):
            archive.write(image, f"00000/{image.name}")
        if labels is not None:
            named = [[f"00000/{name}", label] for name, label in labels.items()]
            archive.writestr("dataset.json", json.dumps({"labels": named, "classes": classes}))
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says that it holds so many pixels."""
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    return content
