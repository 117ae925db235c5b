"""Checkpoints: safetensors files with the generator's config as JSON in the header. Nothing in them can run code.

Files are read as bytes and never mapped into memory, as ``safetensors.safe_open`` does even for the header: a process
that reads a mapping is killed by SIGBUS when the file is truncated meanwhile, as ``cp`` does to its target.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.config import PRESETS, GeneratorConfig
from model.errors import InputError
from model.shapes import tensor_shapes
from model.util.files import write_atomically
from model.util.text import error_text, printable

if TYPE_CHECKING:
    from model.generator import Generator

FORMAT = "creps"
FORMAT_VERSION = "1"
SUFFIX = ".safetensors"

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Valid model names, which appear in paths, URLs and metric labels."""

DTYPES = {"F32": np.float32, "F16": np.float16}
"""Types that tensors may be stored in, by safetensors' names."""

MAX_HEADER_BYTES = 1 << 24
"""A real header has some 15 KB. safetensors allows 100 MB, which take gigabytes when parsed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file whose header has been read and checked; its tensors are still on disk.

    Attributes:
        path: the file, whose name without the suffix is the model's.
        config: the generator's architecture.
        info: notes of the trainer or importer as JSON-ready values: source, licence, images seen …
        content: the path to read from: the file itself, or an open descriptor under /dev/fd.
        stamp: modification time in ns and size in bytes when the header was read.
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
        """SHA-256 of the file, 64 hex digits: names the model in caches and identifiers."""
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def class_names(self) -> list[str]:
        """Names of the first classes, from training; empty if they have none."""
        names = self.info.get("class_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return []
        return names[: self.config.classes]

    def find_class(self, given: int | str | None) -> int | None:
        """The number of a class that is given by its name or number, whose limits are not checked.

        Raises:
            InputError: no class has this name, or none is given although the classes have names.
        """
        if isinstance(given, int) or (given is None and not self.class_names):
            return given
        if given in self.class_names:
            return self.class_names.index(given)
        if given is not None and re.fullmatch("[0-9]{1,9}", given):
            return int(given)
        if not self.config.classes:
            raise InputError("class_index", "this model has no classes")
        names = printable(", ".join(self.class_names)) or f"from 0 to {self.config.classes - 1}"
        refused = "" if given is None else f", not {printable(given)}"
        raise InputError("class_index", f"this model needs a class {names}{refused}")

    @classmethod
    def open(cls, path: Path, content: Path | None = None) -> "Checkpoint":
        """Read the header. Needs no torch.

        Args:
            content: path to read from instead, now and whenever the tensors are read.

        Raises:
            InputError: the file cannot be read, is truncated or larger than its config allows, has another format, or
                its config is invalid.
        """
        content = content or path
        if not content.is_file():
            raise InputError("checkpoint", f"{path} is not a file")
        try:
            with content.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                metadata = _read_metadata(path, file, stamp[1])
        except OSError as error:
            raise InputError("checkpoint", f"{path} cannot be read: {error.strerror or error}") from None
        if metadata.get("format") != FORMAT:
            raise InputError("checkpoint", f"{path} is a safetensors file, but not a CREPS checkpoint")
        if (version := metadata.get("format_version", "")) != FORMAT_VERSION:
            raise InputError(
                "checkpoint", f"{path} has format version {str(version)[:20]!r}; this program reads {FORMAT_VERSION}"
            )
        config, info = _parse_metadata(path, metadata)
        numbers = sum(math.prod(shape) for shape in tensor_shapes(config).values())
        # Bounds the memory of reading. 8 bytes a number lets a file of float64 be refused for its type.
        if stamp[1] > 8 * numbers + MAX_HEADER_BYTES:
            raise InputError("checkpoint", f"{path} is larger than its config of {numbers} numbers allows")
        return cls(path, config, info, content, stamp)

    def check(self) -> None:
        """Read and check every tensor. Needs no torch.

        Raises:
            InputError: a tensor does not fit the config or holds values that are not finite, or the file is damaged.
        """
        for _ in self._read_tensors():
            pass

    def load(self) -> "Generator":
        """Load the generator on the CPU, in evaluation mode. Later changes of the file do not affect it.

        Raises:
            InputError: as :meth:`check`, or the file has been overwritten since its header was read.
        """
        import torch

        from model.generator import Generator

        # Copies, since torch aligns its own memory better than numpy does.
        state = {name: torch.from_numpy(values).to(torch.float32, copy=True) for name, values in self._read_tensors()}
        if _stamp(self.content.stat()) != self.stamp:
            raise InputError("checkpoint", f"{self.path} has been overwritten; replace files by moving new ones there")
        with torch.device("meta"):
            generator = Generator(self.config)
        generator.load_state_dict(state, assign=True)
        return generator.eval().requires_grad_(False)

    def _read_tensors(self) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Yield the name and values of every tensor. Raises InputError as :meth:`check`."""
        from safetensors import SafetensorError, deserialize  # missing on machines that only measure random networks

        try:
            with self.content.open("rb") as file:
                tensors = dict(deserialize(file.read(self.stamp[1])))  # no more, in case the file has grown
        except OSError as error:
            raise InputError("checkpoint", f"{self.path} cannot be read: {error.strerror or error}") from None
        except SafetensorError as error:
            raise _incomplete(self.path, error) from None
        self._check_shapes(tensors)
        for name, tensor in tensors.items():
            values = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
            if not np.isfinite(values).all():
                raise InputError("checkpoint", f"{self.path}: tensor {name!r} holds values that are not finite")
            yield name, values

    def _check_shapes(self, tensors: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise InputError if a tensor is missing, unknown or of another shape or type than the config implies."""
        expected = tensor_shapes(self.config)
        if difference := sorted(tensors.keys() ^ expected.keys()):
            where = "lacks" if difference[0] in expected else "has an unknown"
            raise InputError("checkpoint", f"{self.path} {where} tensor {difference[0][:100]!r}")
        for name, tensor in tensors.items():
            dtype, shape = tensor["dtype"], tuple(tensor["shape"])
            if dtype not in DTYPES or shape != expected[name]:
                raise InputError(
                    "checkpoint",
                    f"{self.path}: tensor {name!r} is {dtype} {str(list(shape))[:100]}, "
                    f"its config requires {list(expected[name])}",
                )


def save_checkpoint(path: Path, generator: "Generator", info: Mapping[str, Any] | None = None) -> Checkpoint:
    """Write a checkpoint atomically. Equal generators and infos give equal bytes."""
    from safetensors.numpy import save

    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(generator.config.to_dict(), sort_keys=True),
        "info": json.dumps(dict(info or {}), sort_keys=True),
    }
    state = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in generator.state_dict().items()}
    write_atomically(path, _sort_metadata(save(state, metadata)))
    return Checkpoint.open(path)


def save_random_checkpoint(path: Path, preset: str) -> None:
    """Write a network of a preset with random weights, always the same: as costly to render as a trained one."""
    import torch

    from model.generator import Generator

    torch.manual_seed(0)
    save_checkpoint(path, Generator(PRESETS[preset]))


def _sort_metadata(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, which the library writes in random order."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[start:]


def _read_metadata(path: Path, file: IO[bytes], size: int) -> dict[str, Any]:
    """The metadata in the header of a safetensors file of ``size`` bytes: 8 bytes of length, then JSON.

    Raises:
        InputError: it is no safetensors file, or not all of one.
    """
    start = file.read(8)
    length = int.from_bytes(start, "little")
    try:
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise ValueError(f"its {size} bytes hold no header of {length}")
        header = json.loads(file.read(length))
        metadata = dict(header.pop("__metadata__", {}))
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if end != size:
            raise ValueError(f"it has {size} of {end} bytes")
        return metadata
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
            original = "creps import SOURCE.pkl DEST.safetensors converts an original network"
            raise InputError("checkpoint", f"{path} is a pickle, which is never loaded ({original})") from None
        raise _incomplete(path, error) from None


def _parse_metadata(path: Path, metadata: Mapping[str, Any]) -> tuple[GeneratorConfig, dict[str, Any]]:
    """The config and info. Raises InputError if either is invalid."""
    try:
        config = json.loads(metadata["config"])
        info = json.loads(metadata.get("info", "{}"))
    except (KeyError, TypeError, ValueError, RecursionError):
        config = info = None
    if not isinstance(config, dict) or not isinstance(info, dict):
        raise InputError("checkpoint", f"{path} has no readable config in its header")
    try:
        return GeneratorConfig.from_dict(config), info
    except InputError as error:
        raise InputError("checkpoint", f"{path}: {error_text(error)}") from None


def _incomplete(path: Path, error: Exception) -> InputError:
    return InputError("checkpoint", f"{path} is not a complete safetensors file ({error_text(error)})")


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size
