"""Latent: the input of the network, in all the forms in which it can be given.

A latent stands for styles w+ [num_ws, w_dim], in this order (model/latents/styles.py):

1. Its source: a seed or z, which the mapping network turns into w; w itself; or a weighted mean of latents.
2. Truncation of these styles.
3. Style mixing: some layers take the styles of other latents, each truncated on its own.
4. Edits: directions are added.
"""

import base64
import binascii
import math
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.config import GeneratorConfig
from model.errors import InputError

MAX_SEED = 2**32 - 1
"""Largest seed of numpy.random.RandomState."""

PSI_BOUNDS = (-2.0, 2.0)

MAX_AMOUNT = 5.0
"""Largest amount of an edit, in standard deviations of w: networks have not seen what lies beyond."""

MAX_LATENTS = 64
"""Most latents in one, in mixes and styles of any depth, which bounds the work of resolving it."""

MAX_EDITS = 64

MAX_DEPTH = 8
"""Deepest nesting of mixes and styles."""

LATENT_ID = re.compile(r"lat_[0-9a-f]{32}")
"""Names of latents that a service stores; the digits are a digest of model and values."""

DIRECTION_NAME = re.compile(r"(sefa|pca):(0|[1-9]\d{0,3})")
"""Names of the directions of model/latents/directions.py."""


def pack_floats(values: ArrayLike) -> bytes:
    """Numbers as little-endian float32, the form that latents hold them in. Equal numbers give equal bytes."""
    return (np.asarray(values).astype("<f4") + np.float32(0)).tobytes()  # −0.0 becomes 0.0


def unpack_floats(values: bytes) -> NDArray[np.float32]:
    """Inverse of :func:`pack_floats`: a writable vector."""
    return np.frombuffer(values, "<f4").astype(np.float32)


class _Random(threading.local):
    """A RandomState for each thread: seeding one again takes a tenth of the time of making one."""

    def __init__(self) -> None:
        self.state = np.random.RandomState()


_random = _Random()


@dataclass(frozen=True)
class Latent:
    """Input of the network. Exactly one of ``seed``, ``z``, ``w`` and ``mix`` is set.

    Attributes:
        seed: seed of z, see :meth:`sample_z`.
        z: z_dim packed numbers.
        w: w_dim packed numbers, or num_ws · w_dim for a different style in every layer.
        mix: latents, whose styles are averaged.
        class_index: class of a conditional network, for ``seed`` and ``z``.
        psi: truncation ψ, from 1 (none) to 0 (the mean image).
        cutoff: truncate only the first ``cutoff`` styles; None for all.
        styles: layers that take their style from other latents; later ones win.
        edits: directions that are added.
    """

    seed: int | None = None
    z: bytes | None = None
    w: bytes | None = None
    mix: tuple["Weighted", ...] = ()
    class_index: int | None = None
    psi: float = 1.0
    cutoff: int | None = None
    styles: tuple["LayerStyles", ...] = ()
    edits: tuple["Edit", ...] = ()

    def __post_init__(self) -> None:
        # Equal latents have equal JSON: 1 becomes 1.0, and −0.0 becomes 0.0.
        object.__setattr__(self, "psi", float(self.psi) + 0.0)

    def __hash__(self) -> int:
        return self._hash  # cached: w may be thousands of numbers, and a latent is part of every cache's key

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, without defaults. Vectors are base64."""
        values: dict[str, Any] = {"seed": self.seed, "class_index": self.class_index, "cutoff": self.cutoff}
        values |= {"z": _to_base64(self.z), "w": _to_base64(self.w), "psi": None if self.psi == 1.0 else self.psi}
        values["mix"] = [{"latent": part.latent.to_dict(), "weight": part.weight} for part in self.mix] or None
        values["styles"] = [
            {"layers": list(part.layers), "latent": part.latent.to_dict()} for part in self.styles
        ] or None
        values["edits"] = [edit.to_dict() for edit in self.edits] or None
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Latent":
        """Inverse of :meth:`to_dict`, for trusted values."""
        values = dict(values)
        for name in ("z", "w"):
            if name in values:
                values[name] = base64.b64decode(values[name])
        values["mix"] = tuple(Weighted(cls.from_dict(part["latent"]), part["weight"]) for part in values.get("mix", ()))
        values["styles"] = tuple(
            LayerStyles(tuple(part["layers"]), cls.from_dict(part["latent"])) for part in values.get("styles", ())
        )
        values["edits"] = tuple(map(Edit.from_dict, values.get("edits", ())))
        return cls(**values)

    def check(self, config: GeneratorConfig) -> None:
        """Raise InputError, with the field and its limit, if the latent does not fit the network."""
        nested = enumerate(self._depths(), 1) if self.mix or self.styles else ()
        for count, depth in nested:
            if count > MAX_LATENTS or depth > MAX_DEPTH:
                limit = f"at most {MAX_LATENTS} latents, nested at most {MAX_DEPTH} deep"
                raise InputError("mix" if self.mix else "styles", f"must hold {limit}")
        self._check(config)

    @cached_property
    def names_directions(self) -> bool:
        """Whether an edit, also of a latent within this one, names a direction of the model."""
        parts = (*(part.latent for part in self.mix), *(part.latent for part in self.styles))
        return any(isinstance(edit.direction, str) for edit in self.edits) or any(p.names_directions for p in parts)

    @property
    def is_seed(self) -> bool:
        """Whether a seed, class and truncation are all that it consists of."""
        return self.seed is not None and not self.styles and not self.edits

    def _depths(self, depth: int = 0) -> Iterator[int]:
        """The depths of this latent and of all in it. Descends no further than is needed to find them too deep."""
        yield depth
        if depth <= MAX_DEPTH:
            for latent in (*(part.latent for part in self.mix), *(part.latent for part in self.styles)):
                yield from latent._depths(depth + 1)

    def _check(self, config: GeneratorConfig) -> None:
        if sum((self.seed is not None, self.z is not None, self.w is not None, bool(self.mix))) != 1:
            raise InputError("seed", "give exactly one of seed, z, w and mix")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InputError("seed", f"must be from 0 to {MAX_SEED}, not {self.seed}")
        check_vector("z", self.z, (config.z_dim,))
        check_vector("w", self.w, (config.w_dim, config.num_ws * config.w_dim))
        low, high = PSI_BOUNDS
        if not low <= self.psi <= high:  # also refuses NaN
            raise InputError("truncation_psi", f"must be from {low:g} to {high:g}, not {self.psi}")
        if self.cutoff is not None and not 0 <= self.cutoff <= config.num_ws:
            raise InputError("truncation_cutoff", f"must be from 0 to {config.num_ws}, not {self.cutoff}")
        self._check_class(config.classes)
        self._check_mix(config)
        for i, part in enumerate(self.styles):
            check_layers(f"styles.{i}.layers", part.layers, config.num_ws)
            _check_part(part.latent, f"styles.{i}.latent", config)
        if len(self.edits) > MAX_EDITS:
            raise InputError("edits", f"must be at most {MAX_EDITS}, not {len(self.edits)}")
        for i, edit in enumerate(self.edits):
            edit.check(f"edits.{i}", config)

    def _check_class(self, classes: int) -> None:
        if self.w is not None or self.mix:
            return
        if classes == 0 and self.class_index is not None:
            raise InputError("class_index", "this model has no classes")
        if classes and (self.class_index is None or not 0 <= self.class_index < classes):
            given = "" if self.class_index is None else f", not {self.class_index}"
            raise InputError("class_index", f"this model needs a class from 0 to {classes - 1}{given}")

    def _check_mix(self, config: GeneratorConfig) -> None:
        if not self.mix:
            return
        for i, part in enumerate(self.mix):
            if not math.isfinite(part.weight):
                raise InputError(f"mix.{i}.weight", "must be a finite number")
            _check_part(part.latent, f"mix.{i}.latent", config)
        total = sum(part.weight for part in self.mix)
        largest = max(abs(part.weight) for part in self.mix)
        if not 1e-6 * largest < abs(total) < math.inf:
            raise InputError("mix", f"its weights must have a finite sum other than 0, not {total:g}")

    def sample_z(self, z_dim: int) -> NDArray[np.float32]:
        """z [1, z_dim] of the seed: RandomState(seed).randn as float32, as in the original tools."""
        if self.z is not None:
            return unpack_floats(self.z)[None]
        _random.state.seed(self.seed)
        return _random.state.randn(1, z_dim).astype(np.float32)


@dataclass(frozen=True)
class Weighted:
    """A latent of a mix. Weights are divided by their sum."""

    latent: Latent
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", float(self.weight) + 0.0)


@dataclass(frozen=True)
class LayerStyles:
    """Layers, from 0 to num_ws − 1, that take their styles from another latent (style mixing)."""

    layers: tuple[int, ...]
    latent: Latent

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))


@dataclass(frozen=True)
class Edit:
    """A direction that is added to styles, ``amount`` times.

    Attributes:
        direction: the name of one of the model's directions, whose length is one standard deviation of w; or w_dim or
            num_ws · w_dim packed numbers, which are added as they are.
        amount: −5 … 5.
        layers: layers that are changed; None for the direction's own, which for numbers are all.
    """

    direction: str | bytes
    amount: float
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", float(self.amount) + 0.0)
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; numbers are called ``vector``."""
        given = self.direction
        values: dict[str, Any] = {"direction": given} if isinstance(given, str) else {"vector": _to_base64(given)}
        values["amount"] = self.amount
        return values if self.layers is None else values | {"layers": list(self.layers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Edit":
        """Inverse of :meth:`to_dict`, for trusted values."""
        direction = values["direction"] if "direction" in values else base64.b64decode(values["vector"])
        layers = values.get("layers")
        return cls(direction, values["amount"], None if layers is None else tuple(layers))

    def check(self, field: str, config: GeneratorConfig) -> None:
        """Raise InputError if the edit does not fit the network. Whether a name exists is known when it is resolved."""
        if not abs(self.amount) <= MAX_AMOUNT:  # also refuses NaN
            raise InputError(f"{field}.amount", f"must be from {-MAX_AMOUNT:g} to {MAX_AMOUNT:g}, not {self.amount}")
        if isinstance(self.direction, bytes):
            check_vector(f"{field}.direction", self.direction, (config.w_dim, config.num_ws * config.w_dim))
        elif not DIRECTION_NAME.fullmatch(self.direction):
            allowed = "like sefa:2 or pca:0, or a name that was given to one"
            raise InputError(f"{field}.direction", f"must be {allowed}, not {self.direction[:40]!r}")
        if self.layers is not None:
            check_layers(f"{field}.layers", self.layers, config.num_ws)


def parse_base64(field: str, text: str) -> bytes:
    """Packed numbers from base64. Raises InputError."""
    try:
        values = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(field, "is not base64") from None
    if len(values) % 4:
        raise InputError(field, f"must be float32 in base64, whose {len(values)} bytes are not a multiple of 4")
    return pack_floats(np.frombuffer(values, "<f4"))


def check_vector(field: str, vector: bytes | None, lengths: tuple[int, ...]) -> None:
    """Raise InputError if packed numbers are not as many as the network takes, or not finite."""
    if vector is None:
        return
    if len(vector) not in [4 * length for length in lengths]:
        count = f"{len(vector) / 4:g}"
        raise InputError(field, f"must have {' or '.join(map(str, dict.fromkeys(lengths)))} numbers, not {count}")
    if not np.isfinite(unpack_floats(vector)).all():
        raise InputError(field, "must be finite numbers")


def check_layers(field: str, layers: Sequence[int], num_ws: int) -> None:
    """Raise InputError if layers are missing or not those of the network."""
    if not layers:
        raise InputError(field, "must name at least one layer")
    if outside := [layer for layer in layers if not 0 <= layer < num_ws]:
        raise InputError(field, f"must be from 0 to {num_ws - 1}, not {outside[0]}")


def _check_part(latent: Latent, field: str, config: GeneratorConfig) -> None:
    """As Latent.check, with the latent's place in the errors."""
    try:
        latent._check(config)
    except InputError as error:
        raise InputError(f"{field}.{error.field}", error.message) from None


def _to_base64(vector: bytes | None) -> str | None:
    return None if vector is None else base64.b64encode(vector).decode()
