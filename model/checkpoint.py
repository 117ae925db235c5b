"""Checkpoints: safetensors files with the generator's config as JSON in the header. Nothing in them can run code.

They are read here and not by safetensors, which maps files into memory: reading a mapping kills the process where
somebody cuts the file off meanwhile. The library is imported where a file is written, so that a machine without it can
train.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.config import GeneratorConfig
from model.errors import InputError
from model.files import write_atomically
from model.shapes import tensor_shapes

if TYPE_CHECKING:
    from model.generator import Generator

FORMAT = "creps"
FORMAT_VERSION = "1"
SUFFIX = ".safetensors"

TYPES = {"F32": "<f4", "F16": "<f2"}
"""What tensors may be stored as: safetensors' names, and numpy's."""

_MAX_HEADER = 100_000_000
"""Bytes of the longest header, as safetensors has it."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a model may be called, in paths, addresses and metrics."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file whose header has been read and understood; its tensors are still on disk.

    Attributes:
        path: the file, whose name without the ending is the model's.
        config: the generator's shape.
        info: what the trainer or importer noted, as JSON-ready values: source, licence, images seen …
        content: what is opened to read it: the path, or the address of an open descriptor.
        stamp: modification time in ns and size of the content when its header was read.
    """

    path: Path
    config: GeneratorConfig
    info: Mapping[str, Any]
    content: Path = field(compare=False, repr=False)
    stamp: tuple[int, int] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    @cached_property
    def digest(self) -> str:
        """sha256 of the file, 64 hex digits: names the model in caches and identifiers."""
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @classmethod
    def open(cls, path: Path, content: Path | None = None) -> "Checkpoint":
        """Reads the header alone. Needs no torch.

        Args:
            path: the file.
            content: what is opened in its place; it is read again whenever the checkpoint's tensors are.

        Raises:
            InputError: the file cannot be read, is truncated, is of another format, or its config makes no sense.
        """
        content = content or path
        if not content.is_file():
            raise InputError("checkpoint", f"{path} is not a file")
        try:
            stamp = _stamp(content)
            with content.open("rb") as file:
                metadata, _ = _read_header(path, file)
        except OSError as error:
            raise InputError("checkpoint", f"{path} cannot be read: {error.strerror or error}") from None
        if metadata.get("format") != FORMAT:
            raise InputError("checkpoint", f"{path} is a safetensors file, but not a CREPS checkpoint")
        if metadata.get("format_version") != FORMAT_VERSION:
            version = metadata.get("format_version", "")[:20]
            raise InputError(
                "checkpoint", f"{path} has format version {version!r}; this program reads {FORMAT_VERSION}"
            )
        return cls(path, *_parse_header(path, metadata), content, stamp)

    def check(self) -> None:
        """Reads every tensor, without torch.

        Raises:
            InputError: the tensors do not fit the config, one holds what no picture can be drawn with, or the file
                was cut off meanwhile.
        """
        for _ in self._tensors():
            pass

    def load(self) -> "Generator":
        """The generator on the CPU, in evaluation mode.

        Shapes are compared before anything is allocated, and what is returned does not change with the file.

        Raises:
            InputError: as :meth:`check`, or the file was written over since its header was read.
        """
        import torch

        from model.generator import Generator

        # Copies, since torch aligns its own memory better than numpy does.
        state = {name: torch.from_numpy(values).to(torch.float32, copy=True) for name, values in self._tensors()}
        if _stamp(self.content) != self.stamp:
            raise InputError("checkpoint", f"{self.path} has been written over; move new files into its place instead")
        with torch.device("meta"):
            generator = Generator(self.config)
        generator.load_state_dict(state, assign=True)
        return generator.eval().requires_grad_(False)

    def _tensors(self) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Every tensor's name and values, in memory of its own. Raises InputError as :meth:`check`."""
        try:
            with self.content.open("rb") as file:
                _, tensors = _read_header(self.path, file)
                self._check_shapes(tensors)
                for name, tensor in tensors.items():
                    values = np.empty(tensor.shape, TYPES[tensor.type])
                    if file.readinto(values.data) < values.nbytes:
                        raise InputError("checkpoint", f"{self.path} was cut off while it was read")
                    if not np.isfinite(values).all():
                        raise InputError("checkpoint", f"{self.path}: tensor {name!r} holds values that are not finite")
                    yield name, values
        except OSError as error:
            raise InputError("checkpoint", f"{self.path} cannot be read: {error.strerror or error}") from None

    def _check_shapes(self, tensors: "Mapping[str, _Tensor]") -> None:
        """Raises InputError where a tensor is missing, unknown, or another than the config asks for."""
        expected = tensor_shapes(self.config)
        if difference := sorted(tensors.keys() ^ expected.keys()):
            where = "lacks" if difference[0] in expected else "has an unknown"
            raise InputError("checkpoint", f"{self.path} {where} tensor {difference[0][:100]!r}")
        for name, tensor in tensors.items():
            if tensor.type not in TYPES or tensor.shape != expected[name] or not tensor.fills_its_place:
                found = f"{tensor.type} {list(tensor.shape)}"
                raise InputError(
                    "checkpoint",
                    f"{self.path}: tensor {name!r} is {found[:100]}, its config asks for {list(expected[name])}",
                )


@dataclass(frozen=True)
class _Tensor:
    """What a header tells of a tensor: safetensors' name of its type, its shape, and how many bytes it has."""

    type: str
    shape: tuple[int, ...]
    size: int

    @property
    def fills_its_place(self) -> bool:
        return self.size == math.prod(self.shape) * np.dtype(TYPES[self.type]).itemsize


def _read_header(path: Path, file: BufferedReader) -> tuple[dict[str, str], dict[str, _Tensor]]:
    """The metadata, and the tensors in the order in which they follow in the file.

    Raises:
        InputError: it is no safetensors file, or not all of one.
    """
    try:
        return _understand(file)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        file.seek(0)
        start = file.read(4)
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            original = "creps import SOURCE.pkl DEST.safetensors converts an original network"
            raise InputError("checkpoint", f"{path} is a pickle, which is never loaded ({original})") from None
        raise InputError("checkpoint", f"{path} is not a complete safetensors file ({error})") from None


def _understand(file: BufferedReader) -> tuple[dict[str, str], dict[str, _Tensor]]:
    """The format (https://github.com/huggingface/safetensors): the header's length in eight bytes, the header as JSON,
    and the tensors, which fill the rest without gaps. Whatever else there is raises something."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _MAX_HEADER):
        raise ValueError(f"its {size} bytes hold no header of {length}")
    header = json.loads(file.read(length), object_pairs_hook=_unique)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise TypeError("its metadata are no texts")
    tensors, end = {}, 0
    for name, told in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = told["data_offsets"]
        if start != end or stop < start:
            raise ValueError(f"tensor {name[:100]!r} does not begin where another ends")
        tensors[name] = _Tensor(told["dtype"], tuple(told["shape"]), stop - start)
        end = stop
    if 8 + length + end != size:
        raise ValueError(f"it has {size} of {8 + length + end} bytes")
    return metadata, tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError("its header tells something twice")
    return values


def save_checkpoint(path: Path, generator: "Generator", info: Mapping[str, Any] | None = None) -> Checkpoint:
    """Writes the checkpoint beside ``path`` and moves it into place, so that no half-written file is ever seen."""
    from safetensors.torch import save

    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(generator.config.to_dict(), sort_keys=True),
        "info": json.dumps(dict(info or {}), sort_keys=True),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    write_atomically(path, _sort_metadata(save(state, metadata)))
    return Checkpoint.open(path)


def _sort_metadata(content: bytes) -> bytes:
    """A safetensors file with its metadata in order. The library's order is random, but equal checkpoints shall be
    equal files, with one digest."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[start:]


def _parse_header(path: Path, metadata: Mapping[str, str]) -> tuple[GeneratorConfig, dict[str, Any]]:
    try:
        config = json.loads(metadata["config"])
        info = json.loads(metadata.get("info", "{}"))
    except (KeyError, ValueError, RecursionError):
        raise InputError("checkpoint", f"{path} has no readable config in its header") from None
    if not isinstance(config, dict) or not isinstance(info, dict):
        raise InputError("checkpoint", f"{path} has no readable config in its header")
    try:
        return GeneratorConfig.from_dict(config), info
    except InputError as error:
        # A value in the header may be as long as the header.
        raise InputError("checkpoint", f"{path}: {str(error)[:300]}") from None


def _stamp(content: Path) -> tuple[int, int]:
    status = content.stat()
    return status.st_mtime_ns, status.st_size
