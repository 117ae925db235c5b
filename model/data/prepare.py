"""``creps dataset``: pictures of any size → a zip of square pictures of one size, in StyleGAN's layout."""

import os
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageColor

from model.arguments import ArgumentParser, run
from model.errors import InputError
from model.files import new_file
from model.training.archive import Archive
from model.training.convert import convert_all
from model.training.decoding import printable
from model.training.labels import LABELS, Labels, class_folders
from model.training.progress import progress, say

RESOLUTIONS = [1 << i for i in range(3, 13)]


@dataclass(frozen=True)
class Prepared:
    """What became of the pictures.

    Attributes:
        written, skipped: how many pictures the data set holds, and how many could not be read.
        labels: classes of the written ones, by their new names.
    """

    written: int
    skipped: int
    labels: Labels


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, prepares the data set and tells what is in it."""
    parser = ArgumentParser(
        prog="creps dataset",
        description="Prepares pictures for training: each is cropped to its centred square and resized with "
        "antialiasing. Files that cannot be read are named and skipped. Classes in SOURCE's dataset.json are kept.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder or zip of pictures of any size and format")
    parser.add_argument(
        "destination", type=Path, metavar="DEST.zip", help="the data set to write, in StyleGAN's zip layout"
    )
    parser.add_argument("--resolution", type=int, choices=RESOLUTIONS, required=True, metavar="R", help="8, 16 … 4096")
    parser.add_argument("--match", default="", metavar="REGEX", help="take only files whose path in SOURCE matches")
    parser.add_argument("--background", default="white", help="colour behind transparent pictures (default white)")
    parser.add_argument("--class-folders", action="store_true", help="make each folder at the top of SOURCE a class")
    options = parser.parse_args(arguments)
    try:
        pattern = re.compile(options.match)
    except re.error as error:
        raise InputError("match", f"is not a regular expression: {error}") from None
    try:
        ImageColor.getrgb(options.background)
    except ValueError:
        raise InputError("background", f"is not a colour: {options.background!r}") from None
    prepared = prepare(
        options.source, options.destination, options.resolution, pattern, options.background, options.class_folders
    )
    print(f"{options.destination}: {_pictures(prepared.written)} of {options.resolution}², {prepared.skipped} skipped")
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
) -> Prepared:
    """Writes each picture that can be read as PNG [R, R], in the order of the names, and the classes beside them.

    The zip appears under its name only when it is complete. Its bytes follow from the source's content alone (and from
    the versions of Pillow and zlib), not from times, owners or the number of workers.

    Args:
        match: searched for in each picture's name in the source.
        background: colour behind transparent pictures.
        class_folders: each folder at the top of the source is a class.
        workers: threads that convert; as many as there are cores where it is None.

    Raises:
        InputError: source or destination cannot be used, or nothing is left.
        OSError: the destination cannot be written.
    """
    _check_destination(destination, source)
    archive = Archive(source, "source")
    names = [name for name in archive.pictures if match.search(name)]
    if not names:
        raise InputError("source", f"{source} holds no picture{' that matches' if match.pattern else ''}")
    labels = _find_labels(archive, names, class_folders)
    stored_labels: dict[str, int] = {}
    written = 0
    results = convert_all(archive, names, resolution, background, workers or _count_cores())
    with new_file(destination) as file, closing(results), zipfile.ZipFile(file, "w") as target:
        for name, content in progress(results, len(names), "preparing"):
            if isinstance(content, str):
                say(f"skipped {printable(name)}: {content}")
                continue
            stored = f"{written // 1000:05d}/img{written:08d}.png"
            _store(target, stored, content)
            written += 1
            if labels.of:
                stored_labels[stored] = labels.of[name]
        if not written:
            raise InputError("source", f"{source} holds no picture that can be used")
        kept = Labels(stored_labels, labels.class_names)
        _store(target, LABELS, kept.to_json())
    return Prepared(written, len(names) - written, kept)


def _check_destination(destination: Path, source: Path) -> None:
    if destination.suffix != ".zip":
        raise InputError("destination", f"must end in .zip, not {destination.name!r}")
    if destination.is_dir():
        raise InputError("destination", f"{destination} is a folder")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise InputError("destination", f"{destination} is the source itself")


def _find_labels(archive: Archive, names: Sequence[str], by_folder: bool) -> Labels:
    labels = archive.labels()
    if not by_folder:
        labels.require(names, archive.field)
        return labels
    if labels.of:
        raise InputError("class-folders", f"{archive.path} has classes already, in {LABELS}")
    return class_folders(names)


def _store(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980, so that the same pictures make the same zip
    entry.create_system = 3  # Unix, whatever the system
    entry.external_attr = 0o644 << 16
    target.writestr(entry, content)


def _count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _class_counts(labels: Labels) -> Iterator[str]:
    counts = Counter(labels.of.values())
    for number in range(len(labels.class_names)) if labels.class_names else sorted(counts):
        name = f" {printable(labels.class_names[number])}" if labels.class_names else ""
        yield f"class {number}{name}: {_pictures(counts[number])}"


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(run("python -m model.training.prepare", main, sys.argv[1:]))
