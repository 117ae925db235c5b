"""How to talk to the service, whether awaiting or not."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from service.client.download import Download
from service.client.values import Image, Job, JobError, Order, Picture, ServiceError

T = TypeVar("T")

MIN_PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds between two attempts, where the service does not say and whatever it says."""

BUSY = (429, 503)
"""Answers of a service that asks to come again."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Failures after which the service cannot have done what was asked."""


@dataclass(frozen=True)
class Fetch:
    """A request to be sent; what is answered with success goes into ``download``, if there is one."""

    request: httpx.Request
    download: Download | None = None


Outcome = httpx.Response | httpx.TransportError
"""What became of a request."""

Flow = Generator[Fetch | float, Outcome | None, T]
"""A conversation with the service: yields requests, whose outcome it is sent, and seconds to wait; returns the result.
It does not care whether whoever carries it out awaits."""


class Conversations:
    """What both clients say, and how they understand the answers."""

    def __init__(self, http: httpx.Client | httpx.AsyncClient, patience: float) -> None:
        self._http = http
        self._patience = patience

    def ask(self, method: str, path: str, download: Download | None = None, **given: Any) -> Flow[httpx.Response]:
        """Asks again where the service is busy or away, while patience lasts. Raises ServiceError, TransportError.

        What may have been deleted is not asked to be deleted again, which would be refused.
        """
        away = _NOT_SENT if method == "DELETE" else httpx.TransportError
        end = time.monotonic() + self._patience
        while True:
            outcome = yield Fetch(self._http.build_request(method, path, **given), download)
            if isinstance(outcome, httpx.Response):
                again, pause = outcome.status_code in BUSY, _retry_after(outcome)
            else:
                again, pause = isinstance(outcome, away), MIN_PAUSE
            if not again or time.monotonic() + pause > end:
                return checked(outcome)
            yield pause

    def image(self, picture: Picture) -> Flow[Image]:
        response = yield from self.ask("POST", "/v1/images", json=picture)
        seed, digest = int(response.headers["X-Creps-Seed"]), response.headers["X-Creps-Digest"]
        return Image(response.content, response.headers["Content-Type"], seed, digest)

    def models(self) -> Flow[list[dict[str, Any]]]:
        models: list[dict[str, Any]] = (yield from self.ask("GET", "/v1/models")).json()["models"]
        return models

    def order(self, order: Order) -> Flow[Job]:
        headers = {"Idempotency-Key": uuid4().hex}  # asked again it is the same job
        return Job.from_json((yield from self.ask("POST", "/v1/jobs", json=order, headers=headers)).json())

    def job(self, job_id: str) -> Flow[Job]:
        return Job.from_json((yield from self.ask("GET", f"/v1/jobs/{job_id}")).json())

    def jobs(self, state: str | None) -> Flow[list[Job]]:
        params = {} if state is None else {"state": state}
        found = (yield from self.ask("GET", "/v1/jobs", params=params)).json()["jobs"]
        return [Job.from_json(values) for values in found]

    def delete(self, job_id: str) -> Flow[Job]:
        return Job.from_json((yield from self.ask("DELETE", f"/v1/jobs/{job_id}")).json())

    def download(self, job: Job, path: Path) -> Flow[None]:
        """Saves what a job has made."""
        if succeeded(job).output == "dzi":
            for name, target in deep_zoom(job, path):
                yield from self._tile(job, name, target)
            return
        with Download(path) as download:
            while not download.complete:
                yield from self.ask("GET", f"/v1/jobs/{job.id}/output", download, headers=download.headers())

    def _tile(self, job: Job, name: str, path: Path) -> Flow[None]:
        """Fetches one small file of Deep Zoom."""
        response = yield from self.ask("GET", f"/v1/jobs/{job.id}/output/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(response.content)


def checked(outcome: Outcome | None) -> httpx.Response:
    """An answer that has been read, if it is one of success. Raises ServiceError, TransportError."""
    assert outcome is not None  # noqa: S101 - a request has an outcome, only a pause has none
    if isinstance(outcome, httpx.TransportError):
        raise outcome
    if outcome.is_success:
        return outcome
    try:
        problem = outcome.json()
        detail, field = problem["detail"], problem.get("field")
    except (ValueError, KeyError, TypeError, AttributeError):  # of a proxy, perhaps
        detail, field = outcome.reason_phrase, None
    raise ServiceError(outcome.status_code, detail, field)


def succeeded(job: Job) -> Job:
    """The job itself. Raises JobError where it has not succeeded."""
    if job.state != "succeeded":
        raise JobError(job)
    return job


def deep_zoom(job: Job, path: Path) -> Iterator[tuple[str, Path]]:
    """Name and place of every file of a Deep Zoom, the one that names the others last."""
    suffix = {"jpeg": "jpg"}.get(job.format, job.format)
    width, height = job.width, job.height
    folder = path.with_name(f"{path.name.removesuffix('.dzi')}_files")
    for level in range((max(width, height) - 1).bit_length(), -1, -1):
        for row in range(-(-height // job.tile)):
            for column in range(-(-width // job.tile)):
                name = f"{level}/{column}_{row}.{suffix}"
                yield f"picture_files/{name}", folder / name
        width, height = -(-width // 2), -(-height // 2)
    yield "picture.dzi", path


def _retry_after(response: httpx.Response) -> float:
    given = response.headers.get("Retry-After", "")
    return min(max(float(given), MIN_PAUSE), MAX_PAUSE) if given.isdecimal() else MIN_PAUSE
