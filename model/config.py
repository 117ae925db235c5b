"""Configuration of a CREPS generator: the numbers that determine all tensor shapes."""

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

from model.errors import InputError

FEATURES = 32
"""Channels of a line bundle and of the fused features (``tores`` of the original)."""

DECODER_WIDTHS = (32, 64, 128, 64, 32)
"""Channels of a per-pixel decoder from input to output."""

REFINEMENT_WIDTHS = ((32, 128, 128), (128, 64, 64))
"""Channels of the two refinement blocks of modulated per-pixel layers."""

RGB = 3

CLAMP = 256.0
"""Bound of every modulated layer's output (``conv_clamp`` of the original)."""

EPSILON = 1e-8
"""ε, added under the square root when normalising (StyleGAN2)."""

_NUMBERS: dict[str, tuple[float, float]] = {"bandwidth": (0.01, 1000.0), "max_scale": (1.0, 1024.0)}
"""Limits of the settings that need not be integers."""

Fusion = Literal["layerwise", "last"]

_LIMITS: dict[str, tuple[int, int]] = {
    "resolution": (8, 4096),
    "z_dim": (1, 4096),
    "w_dim": (1, 4096),
    "classes": (0, 100_000),
    "mapping_layers": (1, 32),
    "channel_base": (32, 1 << 20),
    "channel_max": (2, 4096),
    "thickness": (1, 64),
}


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator. The paper's ablations are settings: ``thickness``, ``decoders``, ``fusion``.

    Attributes:
        resolution: R, the side of training images in pixels, a power of two.
        z_dim: channels of the random input z.
        w_dim: channels of the style w.
        classes: number of classes; 0 for an unconditional network.
        mapping_layers: fully connected layers from z to w.
        channel_base, channel_max: block b<res> has min(channel_base / res, channel_max) channels; 65536 and 1024 in the
            paper's models.
        thickness: D, the number of terms in the product of a row line and a column line.
        decoders: whether a per-pixel MLP follows each product.
        fusion: "layerwise" sums the products of all blocks; "last" uses the last block's alone.
        last_block: name of the last block if it is not R. A network that was trained at 512² and continues at 1024²
            keeps its blocks 4 … 512 and computes twice as many positions.
        bandwidth: standard deviation of the input's random frequencies, in cycles over the image.
        max_scale: the network has learnt the detail of images of up to ``max_scale``·R pixels a side, from patches; 1
            if it was trained on whole images alone.

    Raises:
        InputError: a value has the wrong type or is outside its limits.
    """

    resolution: int
    z_dim: int = 512
    w_dim: int = 512
    classes: int = 0
    mapping_layers: int = 8
    channel_base: int = 65536
    channel_max: int = 1024
    thickness: int = 8
    decoders: bool = True
    fusion: Fusion = "layerwise"
    last_block: int | None = None
    bandwidth: float = 10.0
    max_scale: float = 1.0

    def __post_init__(self) -> None:
        limits = _LIMITS if self.last_block is None else _LIMITS | {"last_block": _LIMITS["resolution"]}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"config.{name}", f"must be an integer from {low} to {high}, not {value!r}")
        for name in ("resolution", "last_block"):
            if (value := getattr(self, name) or 1) & (value - 1):
                raise InputError(f"config.{name}", f"must be a power of two, not {value}")
        for name, (least, most) in _NUMBERS.items():
            number = getattr(self, name)
            if type(number) not in (int, float) or not least <= number <= most:
                raise InputError(f"config.{name}", f"must be a number from {least:g} to {most:g}, not {number!r}")
        if type(self.decoders) is not bool:
            raise InputError("config.decoders", f"must be true or false, not {self.decoders!r}")
        if self.fusion not in get_args(Fusion):
            raise InputError("config.fusion", f"must be one of {', '.join(get_args(Fusion))}, not {self.fusion!r}")
        if self.channels[0] % 2:
            raise InputError("config.channel_max", "the first block needs an even number of channels")
        if min(self.channels) < 1:
            raise InputError("config.channel_base", f"leaves no channel at resolution {self.resolution}")

    @cached_property
    def block_resolutions(self) -> tuple[int, ...]:
        """Names of the blocks, 4, 8, … R (or ``last_block``). All blocks compute lines of full length."""
        return tuple(1 << i for i in range(2, (self.last_block or self.resolution).bit_length()))

    @property
    def blocks(self) -> int:
        """K, the number of blocks."""
        return len(self.block_resolutions)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each block, length K."""
        return tuple(min(self.channel_base // res, self.channel_max) for res in self.block_resolutions)

    @property
    def bundles(self) -> int:
        """Number of line bundles whose products are used: K − 1, or 1 if fusion is "last"."""
        return self.blocks - 1 if self.fusion == "layerwise" else 1

    @property
    def decoder_count(self) -> int:
        """Number of decoders: one after each product, or none."""
        return self.bundles if self.decoders else 0

    @property
    def num_ws(self) -> int:
        """Number of styles of an image: 2K + 1, as in the original."""
        return 2 * self.blocks + 1

    @property
    def pixel_macs(self) -> int:
        """Multiply-adds for one pixel, from lines to RGB."""
        products = FEATURES * self.thickness * self.bundles
        decoder = sum(a * b for a, b in pairwise(DECODER_WIDTHS))
        refinement = FEATURES * RGB + sum(a * b + b * c + c * RGB for a, b, c in REFINEMENT_WIDTHS)
        return products + self.decoder_count * decoder + refinement

    @property
    def line_macs(self) -> int:
        """Multiply-adds for one row or column position."""
        c = self.channels
        macs = c[0] * c[0]
        for k in range(1, self.blocks):
            macs += c[k - 1] * c[k] + c[k] * c[k] + c[k] * FEATURES
        return macs * self.thickness

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON-ready values. Defaults of numbers that earlier versions do not know are left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        for name in _NUMBERS:
            if values[name] == getattr(type(self), name):
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GeneratorConfig":
        """Inverse of :meth:`to_dict`. Unknown and missing names raise InputError."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError("config", f"unknown setting {unknown[0]!r}")
        if "resolution" not in values:
            raise InputError("config.resolution", "is missing")
        return cls(**values)


_PAPER = GeneratorConfig(resolution=512)

PRESETS: dict[str, GeneratorConfig] = {
    "tiny-32": GeneratorConfig(32, z_dim=64, w_dim=64, mapping_layers=2, channel_base=1024, channel_max=64),
    "small-64": GeneratorConfig(64, z_dim=128, w_dim=128, mapping_layers=4, channel_base=8192, channel_max=192),
    "small-128": GeneratorConfig(128, z_dim=256, w_dim=256, mapping_layers=4, channel_base=16384, channel_max=256),
    "creps-128": replace(_PAPER, resolution=128),
    "creps-256": replace(_PAPER, resolution=256),
    "creps-512": _PAPER,
    "creps-1024": replace(_PAPER, resolution=1024),
}
"""``creps-…`` have the widths of the paper's models; the smaller ones train on a CPU or a small GPU."""
