"""Files of latents: npy, npz (StyleGAN2-ADA's projected_w.npz) and safetensors, from anyone.

Shapes and types are read from headers and checked before memory is allocated. Pickled objects are refused.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from model.config import GeneratorConfig
from model.errors import InputError
from model.latents.latent import Latent, pack_floats

MAX_BYTES = 16 << 20
"""Largest file: w+ of the largest networks has tens of kilobytes."""

MAX_NUMBERS = 1 << 20

_MAX_ENTRIES = 16
"""Most arrays in an npz or safetensors file."""

Name = Literal["w", "z"]


def read_latent_file(path: Path, config: GeneratorConfig, class_index: int | None = None) -> Latent:
    """Read a latent from a file. Raises InputError for ``latent``, or OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    return parse_latent(content, config, class_index)


def parse_latent(content: bytes, config: GeneratorConfig, class_index: int | None = None) -> Latent:
    """The latent in the content of a file.

    An npz or safetensors file has an array ``w`` or ``z``. A single array is w if it has the shape of one, else z.
    Leading axes of length 1 are ignored: StyleGAN2-ADA's ``w`` is [1, num_ws, w_dim]. Raises InputError for ``latent``.
    """
    if len(content) > MAX_BYTES:
        raise InputError("latent", f"must be a file of at most {MAX_BYTES} bytes")
    name, array = _read(content)
    shape = array.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    w_shapes = ((config.w_dim,), (config.num_ws, config.w_dim))
    if name is None:
        name = "w" if shape in w_shapes else "z"
    allowed = w_shapes if name == "w" else ((config.z_dim,),)
    if name == "w" and len(shape) == 2 and shape[1] == config.w_dim and shape not in allowed:
        raise InputError("latent", f"is of a network with {shape[0]} styles; this model has {config.num_ws}")
    if shape not in allowed:
        expected = " or ".join(str(list(each)) for each in allowed)
        raise InputError("latent", f"has an array {name} of shape {list(array.shape)}; this model takes {expected}")
    with np.errstate(over="ignore"):
        values = pack_floats(array)
    latent = Latent(w=values) if name == "w" else Latent(z=values, class_index=class_index)
    try:
        latent.check(config)
    except InputError as error:
        raise InputError("latent" if error.field in "wz" else error.field, error.message) from None
    return latent


def write_latent_file(path: Path, ws: NDArray[np.float32]) -> None:
    """Write w+ [num_ws, w_dim] as StyleGAN2-ADA does: an npz with ``w`` [1, num_ws, w_dim]. Raises OSError."""
    from model.util.files import write_atomically

    content = io.BytesIO()
    np.savez(content, w=ws[None])
    write_atomically(path, content.getvalue())


def _read(content: bytes) -> tuple[Name | None, NDArray[np.floating]]:
    try:
        if content.startswith(npy.MAGIC_PREFIX):
            return None, _read_npy(io.BytesIO(content), len(content))
        if content.startswith(b"PK\x03\x04"):
            return _read_npz(content)
        return _read_safetensors(content)
    except InputError:
        raise
    except Exception:  # damaged files raise errors of many types
        raise InputError("latent", "is no npy, npz or safetensors file, or a damaged one") from None


def _read_npy(file: IO[bytes], size: int) -> NDArray[np.floating]:
    """One array from a file of at most ``size`` bytes."""
    version: tuple[int, int] = npy.read_magic(file)  # type: ignore[no-untyped-call]
    if version not in ((1, 0), (2, 0)):
        raise InputError("latent", f"has version {version} of the npy format; 1.0 and 2.0 are read")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)  # type: ignore[no-untyped-call]
    _check(shape, str(dtype), dtype.kind == "f" and not dtype.hasobject)
    length = math.prod(shape) * dtype.itemsize
    if length > size:
        raise InputError("latent", "is truncated")
    values = np.frombuffer(file.read(length), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _read_npz(content: bytes) -> tuple[Name | None, NDArray[np.floating]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        name = _choose(entries)
        entry = entries[name] if name else next(iter(entries.values()))
        if entry.file_size > MAX_BYTES:
            raise InputError("latent", f"has an array of {entry.file_size} bytes, above the limit of {MAX_BYTES}")
        with archive.open(entry) as file:
            # The header's length is bounded by the entry's, which zipfile does not read beyond.
            return name, _read_npy(io.BytesIO(file.read(entry.file_size)), entry.file_size)


def _read_safetensors(content: bytes) -> tuple[Name | None, NDArray[np.floating]]:
    from safetensors import deserialize

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__", None)
    name = _choose(header)
    for tensor in header.values():
        _check(tuple(tensor["shape"]), str(tensor["dtype"]), tensor["dtype"] in ("F16", "F32", "F64"))
    tensor = dict(deserialize(content))[name or str(next(iter(header)))]
    dtype = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[tensor["dtype"]]
    return name, np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])


def _choose(arrays: Mapping[str, Any]) -> Name | None:
    """The array to read: w, else z, else the only one."""
    if not arrays or len(arrays) > _MAX_ENTRIES:
        raise InputError("latent", f"must have 1 to {_MAX_ENTRIES} arrays, not {len(arrays)}")
    for name in ("w", "z"):
        if name in arrays:
            return name
    if len(arrays) > 1:
        raise InputError("latent", "must have an array named w or z")
    return None


def _check(shape: tuple[int, ...], dtype: str, is_float: bool) -> None:
    if not is_float:
        raise InputError("latent", f"must hold floating point numbers, not {dtype[:40]}")
    if len(shape) > 4 or math.prod(shape) > MAX_NUMBERS or any(side < 0 for side in shape):
        raise InputError(
            "latent", f"has shape {str(list(shape))[:60]}; at most {MAX_NUMBERS} numbers in 4 axes are read"
        )
