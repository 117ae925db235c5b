"""The compiled kernels as Python functions, and the choice of those that suit the CPU."""

import ctypes
import functools
import logging
import os
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.native.compiler import CompileError, find_library
from kernels.native.targets import INSTRUCTIONS, TARGETS, TILES, VECTORS

logger = logging.getLogger(__name__)

LRELU, LRELU_CLAMP, LRELU_PRODUCT, RGB_FIRST, RGB_ADD = range(5)
"""Activations, as in source/layers.h."""


class PixelLayer(Structure):
    """Layer in source/layers.h."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p)] + [
        (name, c_int32) for name in ("activation", "inputs", "outputs", "bundle")
    ]


class LineLayer(Structure):
    """LineLayer in source/layers.h."""

    _fields_ = [(name, c_void_p) for name in ("weight", "bias", "gain", "next", "line")] + [
        (name, c_int32) for name in ("inputs", "outputs", "bundle", "reserved")
    ]


class Fourier(Structure):
    """Fourier in source/layers.h."""

    _fields_ = [("frequencies", c_void_p), ("factors", c_void_p), ("half", c_int32), ("thickness", c_int32)]


class LineStrides(Structure):
    """LineStrides in source/layers.h."""

    _fields_ = [(name, c_int64) for name in ("bundle", "thickness", "channel", "position")]


class Library:
    """The kernels of one target. Raises CompileError.

    Attributes:
        target: name of the target.
        precision: "bf16×3" or "fp32".
        lanes: positions that lie side by side in column lines, to whose multiple their number is padded; 1 if columns
            are laid out like rows.
        colour_outputs: width to which a layer of three outputs is padded.
    """

    def __init__(self, path: str, target: str) -> None:
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise CompileError(f"the kernels cannot be loaded: {error}") from None
        if library.prepare() != 0:
            raise CompileError(f"the operating system does not let programs use {target}")
        self.target = target
        self.precision = "bf16×3" if target == "amx" else "fp32"
        self.lanes: int = library.lanes()
        self.colour_outputs: int = library.colour_outputs()
        self._pack = _declare(library.pack_weight, c_void_p, c_int32, c_int32, c_void_p)
        self.draw_lines = _declare(
            library.draw_lines,
            *(POINTER(LineLayer), c_int32, c_int32, POINTER(Fourier), c_void_p, c_int64, c_float, c_void_p),
            POINTER(LineStrides),
        )
        self.draw_pixels = _declare(
            library.draw_pixels,
            *(POINTER(PixelLayer), c_int32, c_int32, c_int32, c_void_p, c_int64, c_void_p, c_int64, c_int64),
            *(c_int64, c_int64, c_void_p),
        )
        lattice = c_void_p, c_void_p, c_void_p
        self.draw_products = _declare(
            library.draw_products, *lattice, *lattice, c_int32, c_int32, c_int64, c_int32, c_void_p
        )

    def pack(self, weight: Tensor) -> Tensor:
        """A weight [C_out, C_in] of padded widths in the kernels' layout."""
        weight = weight.float().contiguous()
        packed = torch.empty_like(weight)
        self._pack(weight.data_ptr(), *weight.shape, packed.data_ptr())
        return packed


def _declare(function: Any, *arguments: Any) -> Any:
    function.argtypes, function.restype = arguments, None
    return function


def pad(x: Tensor, multiple: int = 32) -> Tensor:
    """x in fp32 with zeros appended to its last axis. A NaN becomes the one that rounding to bf16 keeps."""
    return F.pad(x.float(), (0, -x.shape[-1] % multiple)).nan_to_num(torch.nan, torch.inf, -torch.inf).contiguous()


def supported_targets() -> list[str]:
    """Names of the targets whose instructions this CPU has, the fastest first; only that of CREPS_NATIVE, if set."""
    wanted = os.environ.get("CREPS_NATIVE", "")
    has = torch.cpu.get_capabilities()
    return [
        name
        for name, needs in INSTRUCTIONS.items()
        if wanted in (name, "") and all(has.get(feature) for feature in needs.values())
    ]


@functools.cache
def load_library(target: str) -> Library:
    """The kernels of a target, compiled at the first use. Raises CompileError."""
    return Library(str(find_library(TARGETS[target])), target)


@functools.cache
def load_libraries() -> tuple[Library, ...]:
    """The kernels for this CPU: those for its matrix unit if it has one, then those in fp32.

    Without those that cannot be compiled, after a warning; none if CREPS_NATIVE is 0, which is no target's name.
    """
    matrix = [name for name in supported_targets() if TARGETS[name].sources == TILES]
    vectors = [name for name in supported_targets() if TARGETS[name].sources == VECTORS]
    libraries = []
    failed: dict[str, list[str]] = {}
    for name in (*matrix[:1], *vectors[:1]):
        try:
            libraries.append(load_library(name))
        except CompileError as error:
            failed.setdefault(str(error), []).append(name)
    for reason, names in failed.items():
        kernels = " and ".join(names)
        logger.warning("images are rendered by slower kernels, as those for %s cannot be used: %s", kernels, reason)
    return tuple(libraries)
