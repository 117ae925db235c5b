"""Parameters and results of the client."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from model.util.files import write_atomically

SUFFIXES = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/webp": (".webp",),
    "image/avif": (".avif",),
    "image/jxl": (".jxl",),
    "image/tiff": (".tiff", ".tif"),
    "application/x-npy": (".npy",),
}
"""Suffixes of files, by media type."""


Vector = list[float] | list[list[float]] | str
"""Numbers, rows of numbers, or base64 of little-endian float32."""


class Latent(TypedDict, total=False):
    """Exactly one of seed, z, w, id and mix, described in docs/latents.md."""

    seed: int
    z: Vector
    w: Vector
    id: str
    mix: list["Weighted"]
    class_index: int | str
    truncation_psi: float
    truncation_cutoff: int


class Weighted(TypedDict, total=False):
    """A part of a mix."""

    latent: Latent
    weight: float


class Styles(TypedDict):
    """Layers such as ``0-3`` that take their styles from another latent."""

    layers: str
    latent: Latent


class Edit(TypedDict, total=False):
    """A step in w, ``amount`` times."""

    direction: Vector  # or a name, such as sefa:2 or smile
    amount: float
    layers: str


class Truncation(TypedDict, total=False):
    """What a seed needs besides, to become styles."""

    truncation_psi: float
    truncation_cutoff: int
    class_index: int | str


class Picture(Truncation, total=False):
    """Parameters of an image, described in docs/http.md."""

    model: str
    seed: int
    latent: Latent
    styles: list[Styles]
    edits: list[Edit]
    width: int
    height: int
    region: tuple[float, float, float, float]
    crop: tuple[int, int, int, int]
    grid: Literal["centers", "corners"]
    transform: list[dict[str, Any]]
    outside: Literal["extend", "clamp", "mirror", "wrap", "fill"]
    wrap: Literal["x", "y", "xy"]
    wrap_mode: Literal["blend", "mirror"]
    wrap_blend: float
    format: Literal["png", "jpeg", "jpg", "webp", "avif", "jxl", "tiff", "npy"]
    quality: int
    bits: Literal[8, 10, 16, 32]


class Axis(TypedDict, total=False):
    """A field of an image, such as ``truncation_psi`` or ``edits[0].amount``, and its values on a sheet."""

    field: str
    values: list[Any]
    labels: list[str]


class Keyframe(Truncation, total=False):
    """What a video shows at a time, described in docs/video.md. ``time`` is required."""

    time: float
    easing: Literal["linear", "ease-in", "ease-out", "ease-in-out"]
    zoom: Literal["direct", "smooth"]
    seed: int
    latent: Latent
    latents: list[Latent]
    styles: list[Styles]
    edits: list[Edit]
    region: tuple[float, float, float, float]
    transform: list[dict[str, Any]]


class Order(Picture, total=False):
    """Parameters of a job."""

    output: Literal["dzi", "tiff", "png", "mp4", "webm", "apng", "webp", "ffv1"]
    tile: int
    keyframes: list[Keyframe]
    fps: float
    loop: bool
    walk: Literal["w", "z"]
    pace: Literal["time", "perceived"]
    cells: str
    webhook: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Image:
    """An image file, its seed if it has one, and the digest of its checkpoint."""

    content: bytes = field(repr=False)
    media_type: str
    seed: int | None
    digest: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file. Raises ValueError if the suffix of ``path`` is that of another format, or of none."""
        suffixes = SUFFIXES[self.media_type]
        if Path(path).suffix.lower() not in suffixes:
            raise ValueError(f"{os.fspath(path)!r} must end in {' or '.join(suffixes)}: the image is {self.media_type}")
        write_atomically(Path(path), self.content)


@dataclass(frozen=True)
class LatentValues:
    """A latent as numbers: z, if it comes from one; w before truncation, if all styles have the same; and the
    truncated w+ [styles, w_dim]."""

    model: str
    z: list[float] | None = field(repr=False)
    w: list[float] | None = field(repr=False)
    w_plus: list[list[float]] = field(repr=False)


@dataclass(frozen=True)
class Direction:
    """A direction of a model: the styles that it changes, and the change of the image by a step of one standard
    deviation, in levels of 255: root mean square, of brightness, of colourfulness. ``label`` is the name that an
    operator has given it."""

    name: str
    layers: list[int]
    effect: float
    ratio: float
    luma: float
    chroma: float
    strip: str = field(repr=False)
    label: str | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**{known.name: values[known.name] for known in fields(cls) if known.name in values})


@dataclass(frozen=True)
class Projection:
    """A search for the latent of a picture. ``latent`` is the id of the best one so far, ``psnr`` what it reached in
    dB, and ``psnr_w`` what the same styles in all layers reached."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    error: str | None
    model: str
    steps: int
    steps_done: int
    latent: str | None
    psnr_w: float | None
    psnr: float | None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**{known.name: values[known.name] for known in fields(cls)})


@dataclass(frozen=True)
class Model:
    """A model that is served. ``resolution`` is the side of its training images; images of any size can be rendered.

    ``classes`` is 0 if it takes no class. ``styles`` is the largest ``truncation_cutoff``. ``info`` is metadata from
    training or import.
    """

    name: str
    digest: str
    resolution: int
    classes: int
    class_names: list[str]
    styles: int
    state: Literal["loaded", "available"]
    info: dict[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**{known.name: values[known.name] for known in fields(cls)})


@dataclass(frozen=True)
class Job:
    """The state of a job. ``progress`` is from 0 to 1; ``eta_seconds`` is None if it is not known.

    ``tile`` and ``format`` are None for a video, ``frames`` and ``fps`` for an image.
    """

    id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    error: str | None
    output: Literal["dzi", "tiff", "png", "mp4", "webm", "apng", "webp", "ffv1"]
    model: str
    seed: int | None
    width: int
    height: int
    tile: int | None
    format: str | None
    tiles_done: int
    tiles_total: int
    progress: float
    eta_seconds: float | None
    model_name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    frames: int | None = None
    fps: float | None = None

    @property
    def ended(self) -> bool:
        return self.state not in ("queued", "running")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**{known.name: values[known.name] for known in fields(cls) if known.name in values})


class FieldError(TypedDict):
    """What is wrong with a field of a request."""

    field: str
    detail: str


class ServiceError(Exception):
    """An error response. ``errors`` are the invalid fields, and ``field`` is the first of them, or None.

    ``request_id`` finds the request in the service's log.
    """

    def __init__(self, status: int, detail: str, errors: list[FieldError], request_id: str | None) -> None:
        super().__init__(f"{status}: {detail}" + (f" (request {request_id})" if request_id else ""))
        self.status = status
        self.detail = detail
        self.errors = errors
        self.request_id = request_id

    @property
    def field(self) -> str | None:
        return self.errors[0]["field"] if self.errors else None


class JobError(Exception):
    """A job has failed, was cancelled or is not finished."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is {job.state}{f': {job.error}' if job.error else ''}")
        self.job = job
