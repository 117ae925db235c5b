"""Parameters and results of the client."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from model.util.files import write_atomically

SUFFIXES = {"image/png": (".png",), "image/jpeg": (".jpg", ".jpeg"), "image/webp": (".webp",)}
"""Suffixes of files, by media type."""


class Picture(TypedDict, total=False):
    """Parameters of an image, described in docs/http.md."""

    model: str
    seed: int
    truncation_psi: float
    truncation_cutoff: int
    class_index: int | str
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
    format: Literal["png", "jpeg", "jpg", "webp"]
    quality: int


class Order(Picture, total=False):
    """Parameters of a job."""

    output: Literal["dzi", "tiff", "png"]
    tile: int
    webhook: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Image:
    """An image file, its seed, and the digest of its checkpoint."""

    content: bytes = field(repr=False)
    media_type: str
    seed: int
    digest: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file. Raises ValueError if the suffix of ``path`` is that of another format, or of none."""
        suffixes = SUFFIXES[self.media_type]
        if Path(path).suffix.lower() not in suffixes:
            raise ValueError(f"{os.fspath(path)!r} must end in {' or '.join(suffixes)}: the image is {self.media_type}")
        write_atomically(Path(path), self.content)


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
    """The state of a job. ``progress`` is from 0 to 1; ``eta_seconds`` is None if it is not known."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    error: str | None
    output: Literal["dzi", "tiff", "png"]
    model: str
    seed: int
    width: int
    height: int
    tile: int
    format: str
    tiles_done: int
    tiles_total: int
    progress: float
    eta_seconds: float | None
    model_name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

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
