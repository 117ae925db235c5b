"""RenderSpec: one frozen value that says everything about a picture.

Parsed once at the edge, queued, hashed for caches and handed to the renderer.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.config import GeneratorConfig
from model.errors import InputError
from model.viewport import Viewport

Format = Literal["png", "jpeg", "webp"]
FORMATS: tuple[Format, ...] = get_args(Format)

MAX_SEED = 2**32 - 1
"""Largest seed that numpy.random.RandomState takes."""

PSI_BOUNDS = (-2.0, 2.0)

DEFAULT_QUALITY = 90

MAX_SIDES: dict[Format, int] = {"png": 1_000_000, "jpeg": 65_500, "webp": 16_382}
"""Longest side in pixels that a format, or the library that writes it, can hold."""


@dataclass(frozen=True)
class Latent:
    """Where on the network's manifold a picture lies. Exactly one of ``seed``, ``z`` and ``w`` is given.

    Attributes:
        seed: draws z as the original tools do, see :meth:`draw_z`.
        z: z_dim numbers.
        w: w_dim numbers, or num_ws · w_dim numbers for a style of its own in every layer. Not truncated.
        class_index: the class of a conditional network.
        psi: truncation ψ: 1 leaves a picture as drawn, 0 is the mean picture.
        cutoff: truncate only the first ``cutoff`` styles; None for all of them.
    """

    seed: int | None = None
    z: tuple[float, ...] | None = None
    w: tuple[float, ...] | None = None
    class_index: int | None = None
    psi: float = 1.0
    cutoff: int | None = None

    def __post_init__(self) -> None:
        # Equal latents have one text: 1 is written as the 1.0, and −0.0 as the 0.0, that it equals.
        object.__setattr__(self, "psi", float(self.psi) + 0.0)
        for name in ("z", "w"):
            if (vector := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(float(value) + 0.0 for value in vector))

    def __hash__(self) -> int:
        return self._hash  # kept: w may be thousands of numbers, and a latent is part of every cache's key

    @cached_property
    def _hash(self) -> int:
        return hash((self.seed, self.z, self.w, self.class_index, self.psi, self.cutoff))

    def check(self, config: GeneratorConfig) -> None:
        """Raises InputError, naming the field and its limit, where the latent does not fit the network."""
        if sum(value is not None for value in (self.seed, self.z, self.w)) != 1:
            raise InputError("seed", "give exactly one of seed, z and w")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InputError("seed", f"must be from 0 to {MAX_SEED}, not {self.seed}")
        _check_vector("z", self.z, (config.z_dim,))
        _check_vector("w", self.w, (config.w_dim, config.num_ws * config.w_dim))
        low, high = PSI_BOUNDS
        if not low <= self.psi <= high:  # also refuses NaN
            raise InputError("truncation_psi", f"must be from {low:g} to {high:g}, not {self.psi}")
        if self.cutoff is not None and not 0 <= self.cutoff <= config.num_ws:
            raise InputError("truncation_cutoff", f"must be from 0 to {config.num_ws}, not {self.cutoff}")
        self._check_class(config.classes)

    def _check_class(self, classes: int) -> None:
        if self.w is not None:
            return
        if classes == 0 and self.class_index is not None:
            raise InputError("class_index", "this model has no classes")
        if classes and (self.class_index is None or not 0 <= self.class_index < classes):
            given = "" if self.class_index is None else f", not {self.class_index}"
            raise InputError("class_index", f"this model needs a class from 0 to {classes - 1}{given}")

    def draw_z(self, z_dim: int) -> NDArray[np.float32]:
        """z [1, z_dim] of the seed, the numbers that the original tools draw: RandomState(seed).randn, as float32."""
        if self.z is not None:
            return np.asarray([self.z], dtype=np.float32)
        return np.random.RandomState(self.seed).randn(1, z_dim).astype(np.float32)


@dataclass(frozen=True)
class Encoding:
    """The file format of a picture. ``quality`` 1 … 100 is for jpeg and webp; png is lossless."""

    format: Format = "png"
    quality: int = DEFAULT_QUALITY

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError("format", f"must be one of {', '.join(FORMATS)}, not {self.format!r}")
        if not 1 <= self.quality <= 100:
            raise InputError("quality", f"must be from 1 to 100, not {self.quality}")

    def check_size(self, width: int, height: int) -> None:
        """Raises InputError where the format cannot hold a picture of that size."""
        limit = MAX_SIDES[self.format]
        for field, side in (("width", width), ("height", height)):
            if side > limit:
                raise InputError(field, f"of a {self.format} picture must be at most {limit} pixels, not {side}")


@dataclass(frozen=True)
class RenderSpec:
    """A picture: which model, which point of it, what part at which size, in which format.

    ``model`` is a checkpoint's name, or its digest once resolved: only a resolved spec names the same bytes for ever.
    """

    model: str
    latent: Latent
    viewport: Viewport
    encoding: Encoding = Encoding()

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "RenderSpec":
        """The inverse of :meth:`to_json`, for specs that this program wrote."""
        values: dict[str, Any] = json.loads(text)
        latent, viewport = values["latent"], values["viewport"]
        for name in ("z", "w"):
            latent[name] = None if latent[name] is None else tuple(latent[name])
        for name in ("region", "crop"):
            viewport[name] = tuple(viewport[name])
        return cls(values["model"], Latent(**latent), Viewport(**viewport), Encoding(**values["encoding"]))

    @cached_property
    def key(self) -> str:
        """64 hex digits that name this picture in caches and entity tags."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _check_vector(field: str, vector: tuple[float, ...] | None, lengths: tuple[int, ...]) -> None:
    if vector is None:
        return
    if len(vector) not in lengths:
        raise InputError(field, f"must have {' or '.join(map(str, lengths))} numbers, not {len(vector)}")
    if not all(math.isfinite(value) for value in vector):
        raise InputError(field, "must be finite numbers")
