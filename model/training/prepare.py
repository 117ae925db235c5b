"""``creps dataset``: pictures of any size → a zip of square pictures of one size, in StyleGAN's layout."""

import io
import json
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageColor, ImageOps

from model.arguments import ArgumentParser, run
from model.errors import InputError
from model.training.dataset import LABELS, Archive

RESOLUTIONS = [1 << i for i in range(3, 13)]

MAX_PICTURE_PIXELS = 1 << 28
"""Larger pictures are skipped: a small file may unpack to a huge one."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and prepares the data set."""
    parser = ArgumentParser(prog="creps dataset", description="Prepares pictures for training.")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder or zip of pictures of any size")
    parser.add_argument("destination", type=Path, metavar="DEST.zip", help="the data set to write")
    parser.add_argument("--resolution", type=int, choices=RESOLUTIONS, required=True, metavar="R", help="8, 16 … 4096")
    parser.add_argument("--match", default="", metavar="REGEX", help="take only files whose name matches")
    parser.add_argument("--background", default="white", help="colour behind transparent pictures (default white)")
    options = parser.parse_args(arguments)
    try:
        pattern = re.compile(options.match)
    except re.error as error:
        raise InputError("match", f"is not a regular expression: {error}") from None
    try:
        ImageColor.getrgb(options.background)
    except ValueError:
        raise InputError("background", f"is not a colour: {options.background!r}") from None
    written, skipped = prepare(options.source, options.destination, options.resolution, pattern, options.background)
    print(f"{options.destination}: {written} pictures of {options.resolution}², {skipped} skipped")


def prepare(
    source: Path, destination: Path, resolution: int, match: re.Pattern[str], background: str = "white"
) -> tuple[int, int]:
    """Crops each picture to its centred square, reduces it with antialiasing and stores it as PNG.

    Labels of the source's dataset.json are carried over. Files that cannot be read are reported and skipped. The zip
    appears under its name only when it is complete.

    Returns:
        How many pictures were written and how many were skipped.

    Raises:
        InputError: source or destination cannot be used, or nothing is left.
    """
    if destination.suffix != ".zip":
        raise InputError("destination", f"must end in .zip, not {destination.name!r}")
    archive = Archive(source)
    labels = archive.labels()
    names = [name for name in archive.pictures if match.search(name)]
    stored_labels: list[tuple[str, int]] = []
    written = 0
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
            for name in _progress(names):
                try:
                    content = _convert(archive.read(name), resolution, background)
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                    print(f"skipped {name}: {error}", file=sys.stderr)
                    continue
                stored = f"{written // 1000:05d}/img{written:08d}.png"
                target.writestr(stored, content)
                written += 1
                if name in labels:
                    stored_labels.append((stored, labels[name]))
            if not written:
                raise InputError("source", f"{source} holds no picture that can be used")
            target.writestr(LABELS, json.dumps({"labels": stored_labels or None}))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(destination)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return written, len(names) - written


def _convert(content: bytes, resolution: int, background: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the one that counts
        with Image.open(io.BytesIO(content)) as file:
            if file.width * file.height > MAX_PICTURE_PIXELS:
                raise Image.DecompressionBombError(f"larger than {MAX_PICTURE_PIXELS} pixels")
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
            square = ImageOps.fit(image.convert("RGB"), (resolution, resolution), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    square.save(buffer, "PNG")
    return buffer.getvalue()


def _progress(names: Sequence[str]) -> Iterable[str]:
    try:
        from tqdm import tqdm
    except ImportError:
        return names
    return tqdm(names, unit="img", delay=2)


if __name__ == "__main__":
    sys.exit(run("python -m model.training.prepare", main, sys.argv[1:]))
