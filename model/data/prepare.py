"""``creps dataset``: converts images of any size to square ones in StyleGAN's layout, a zip or folder.

The square images have one size, or each its own (model/data/pyramid.py).
"""

import argparse
import re
import secrets
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import ImageColor

from model.data.archive import Archive
from model.data.convert import Files, convert, convert_all, convert_at_own_size
from model.data.labels import LABELS, Labels, labels_from_folders
from model.data.pyramid import describe_sizes
from model.errors import InputError
from model.util.arguments import ArgumentParser, run
from model.util.cpus import available_cpus
from model.util.files import new_file
from model.util.progress import progress, say
from model.util.text import printable

RESOLUTIONS = [1 << i for i in range(3, 13)]

STYLEGAN_OPTIONS = {
    "--source": "SOURCE, the first argument",
    "--dest": "DEST.zip, the second argument",
    "--width": "--resolution",
    "--height": "--resolution",
    "--transform": "--resolution, which always takes the centred square",
}
"""Options of StyleGAN's dataset_tool.py, and what this command has in their place."""


@dataclass(frozen=True)
class Prepared:
    """Result of a preparation.

    Attributes:
        written, skipped: numbers of images in the data set, and of those that could not be read.
        others: files that are no images, counted by suffix; see :meth:`model.data.archive.Archive.others`.
        labels: classes of the written images by their new names.
        sizes: sides of the written images by their new names, if they were kept.
    """

    written: int
    skipped: int
    others: str
    labels: Labels
    sizes: dict[str, int]


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, prepare the data set and print a summary."""
    parser = ArgumentParser(
        prog="creps dataset",
        description="Prepares images for training: each is cropped to its centred square and resized with "
        "antialiasing. Files that cannot be read are named and skipped. Classes in SOURCE's dataset.json are kept.",
        renamed=STYLEGAN_OPTIONS,
    )
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder, zip or tar of images of any size and format"
    )
    parser.add_argument(
        "destination",
        type=Path,
        metavar="DEST",
        help="NAME.zip or a folder to write in StyleGAN's layout",
    )
    parser.add_argument(
        "--resolution", type=_side, choices=RESOLUTIONS, required=True, metavar="R", help="8, 16 … 4096, or 8x8 …"
    )
    parser.add_argument(
        "--keep-size",
        action="store_true",
        help="keep the images' own sizes for training with patches; those with fewer than R pixels a side are skipped",
    )
    parser.add_argument("--pad", action="store_true", help="take whole images, with the background on two sides")
    parser.add_argument("--max-images", type=int, metavar="N", help="take only the first N files")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing DEST.zip")
    parser.add_argument("--match", default="", metavar="REGEX", help="take only files whose path in SOURCE matches")
    parser.add_argument("--background", default="white", help="colour behind and beside images (default white)")
    parser.add_argument("--class-folders", action="store_true", help="make each top-level folder of SOURCE a class")
    options = parser.parse_args(arguments)
    try:
        pattern = re.compile(options.match)
    except re.error as error:
        raise InputError("match", f"is not a regular expression: {error}") from None
    try:
        ImageColor.getrgb(options.background)
    except ValueError:
        raise InputError("background", f"is not a colour: {options.background!r}") from None
    if options.max_images is not None and options.max_images < 1:
        raise InputError("max-images", f"must be at least 1, not {options.max_images}")
    if options.destination.is_file() and not options.overwrite:
        raise InputError("destination", f"{options.destination} exists already; --overwrite replaces it")
    prepared = prepare(
        options.source,
        options.destination,
        options.resolution,
        pattern,
        options.background,
        options.class_folders,
        pad=options.pad,
        max_images=options.max_images,
        keep_size=options.keep_size,
    )
    size = describe_sizes(prepared.sizes.values() or [options.resolution])
    print(f"{options.destination}: {_images(prepared.written)} of {size}, {prepared.skipped} skipped")
    if prepared.others:
        print(f"left out, in no known format: {prepared.others}")
    for line in _class_counts(prepared.labels):
        print(line)


def prepare(
    source: Path,
    destination: Path,
    resolution: int,
    match: re.Pattern[str],
    background: str = "white",
    class_folders: bool = False,
    workers: int | None = None,
    pad: bool = False,
    max_images: int | None = None,
    keep_size: bool = False,
) -> Prepared:
    """Write every readable image as a PNG [R, R], in the order of the names, and the labels.

    The zip or folder appears when it is complete. Its bytes depend on the source's content alone (and on the versions
    of Pillow and zlib), not on times, owners or the number of workers.

    Args:
        match: searched for in each image's name in the source.
        background: colour behind transparent images.
        class_folders: make each top-level folder of the source a class.
        workers: threads that convert. Default: one for each core.
        pad: take whole images, with the background on two sides, instead of centred squares.
        max_images: take only so many files, from the first.
        keep_size: write images at their own size, as several PNGs. Images with fewer than R pixels a side are skipped.

    Raises:
        InputError: source or destination is invalid, or no image is left.
        OSError: the destination cannot be written.
    """
    _check_destination(destination, source)
    archive = Archive(source, "source")
    if archive.sizes():
        raise InputError("source", f"{source} is a data set of images in tiles; start from the original images")
    names = [name for name in archive.images if match.search(name)][:max_images]
    others = archive.others(match.search)
    if not names:
        but = f", only {others}" if others else ""
        raise InputError("source", f"{source} holds no image{' that matches' if match.pattern else ''}{but}")
    labels = _find_labels(archive, names, class_folders)

    def convert_one(content: bytes) -> tuple[int, Files]:
        if keep_size:
            return convert_at_own_size(content, resolution, background, pad)
        return resolution, {".png": convert(content, resolution, background, pad)}

    new_labels: dict[str, int] = {}
    sizes: dict[str, int] = {}
    written = 0
    results = convert_all(archive, names, convert_one, workers or available_cpus())
    with _new_data_set(destination) as store, closing(results):
        for name, converted in progress(results, len(names), "preparing"):
            if isinstance(converted, str):
                say(f"skipped {printable(name)}: {converted}")
                continue
            stored = f"{written // 1000:05d}/img{written:08d}"
            side, files = converted
            for suffix, content in files.items():
                store(stored + suffix, content)
            written += 1
            if labels.by_name:
                new_labels[f"{stored}.png"] = labels.by_name[name]
            if keep_size:
                sizes[f"{stored}.png"] = side
        if not written:
            raise InputError("source", f"{source} holds no usable image")
        kept = Labels(new_labels, labels.class_names)
        store(LABELS, kept.to_json(sizes))
    return Prepared(written, len(names) - written, others, kept, sizes)


def _check_destination(destination: Path, source: Path) -> None:
    if destination.suffix not in (".zip", ""):
        raise InputError("destination", f"must end in .zip or be a folder without suffix, not {destination.name!r}")
    if destination.is_dir() and (destination.suffix or any(destination.iterdir())):
        raise InputError("destination", f"{destination} is a folder{'' if destination.suffix else ' with files'}")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise InputError("destination", f"{destination} is the source itself")


def _find_labels(archive: Archive, names: Sequence[str], by_folder: bool) -> Labels:
    labels = archive.labels()
    if not by_folder:
        labels.check_complete(names, archive.field)
        return labels
    if labels.by_name:
        raise InputError("class-folders", f"{archive.path} already has classes, in {LABELS}")
    return labels_from_folders(names)


@contextmanager
def _new_data_set(destination: Path) -> Iterator[Callable[[str, bytes], object]]:
    """A function that adds a file by name. Zip or folder appear under their name when the block has succeeded."""
    if destination.suffix:
        with new_file(destination) as file, zipfile.ZipFile(file, "w") as target:
            yield partial(_store_in_zip, target)
        return
    temporary = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")

    def store(name: str, content: bytes) -> None:
        path = temporary / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    try:
        yield store
        temporary.replace(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _store_in_zip(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980, so that equal images make equal zips
    entry.create_system = 3  # Unix on every system
    entry.external_attr = 0o644 << 16
    target.writestr(entry, content)


def _side(text: str) -> int:
    """``128`` or ``128x128``."""
    width, _, height = text.partition("x")
    if height not in ("", width):
        raise argparse.ArgumentTypeError(f"images are square, not {text}")
    return int(width)


def _class_counts(labels: Labels) -> Iterator[str]:
    counts = Counter(labels.by_name.values())
    for number in range(len(labels.class_names)) if labels.class_names else sorted(counts):
        name = f" {printable(labels.class_names[number])}" if labels.class_names else ""
        yield f"class {number}{name}: {_images(counts[number])}"


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(run("python -m model.data.prepare", main, sys.argv[1:]))
