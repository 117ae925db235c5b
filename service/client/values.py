"""What is asked of the service, and what it tells."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict


class Picture(TypedDict, total=False):
    """What may be said of a picture; docs/http.md describes each."""

    model: str
    seed: int
    truncation_psi: float
    truncation_cutoff: int
    class_index: int
    width: int
    height: int
    region: tuple[float, float, float, float]
    crop: tuple[int, int, int, int]
    grid: Literal["centers", "corners"]
    format: Literal["png", "jpeg", "webp"]
    quality: int


class Order(Picture, total=False):
    """What may be said of a job."""

    output: Literal["dzi", "tiff", "png"]
    tile: int
    webhook: str


@dataclass(frozen=True)
class Image:
    """A picture file, and which picture it is.

    Attributes:
        digest: of the checkpoint that drew it.
    """

    content: bytes
    media_type: str
    seed: int
    digest: str

    def save(self, path: str | os.PathLike[str]) -> None:
        Path(path).write_bytes(self.content)


@dataclass(frozen=True)
class Job:
    """How far a job was when the service was asked.

    Attributes:
        progress: from 0 to 1.
        eta_seconds: until it is finished, where that can be told.
        error: why it failed.
    """

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

    @property
    def ended(self) -> bool:
        return self.state not in ("queued", "running")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Job":
        return cls(**{field.name: values[field.name] for field in fields(cls)})


class ServiceError(Exception):
    """The service refused, or could not.

    Attributes:
        status: of HTTP.
        detail: what is wrong.
        field: the field at fault, where it is one.
    """

    def __init__(self, status: int, detail: str, field: str | None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.field = field


class JobError(Exception):
    """A job did not succeed, or has not yet."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is {job.state}{f': {job.error}' if job.error else ''}")
        self.job = job
