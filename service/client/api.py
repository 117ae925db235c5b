"""The requests of both clients."""

import io
import json
import math
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

import httpx

from model.util.files import new_file
from service.client.download import Download
from service.client.values import (
    SUFFIXES,
    Axis,
    Direction,
    Image,
    Job,
    JobError,
    Latent,
    LatentValues,
    Model,
    Order,
    Picture,
    Projection,
    ServiceError,
    Truncation,
)
from service.imaging.pyramid import Pyramid

RESPONSE_TIMEOUT = 120.0
"""Above the service's own CREPS_REQUEST_TIMEOUT, which is 60 s by default."""

POLL_SECONDS = 1.0
"""Interval between two requests for the progress of a job."""

MIN_PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds between two attempts: the default, and the longest accepted from Retry-After."""

BUSY = (429, 503)
"""Statuses that ask for a retry."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Errors after which the service cannot have received the request."""


class Api(ABC):
    """The requests, over an HTTP client that awaits or blocks. See :class:`service.client.Client`."""

    _http: httpx.Client | httpx.AsyncClient

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._has_answered = False

    async def models(self) -> list[Model]:
        return [Model.from_json(values) for values in (await self._ask("GET", "/v1/models")).json()["models"]]

    async def image(self, **picture: Unpack[Picture]) -> Image:
        response = await self._ask("POST", "/v1/images", json=picture)
        headers, seed = response.headers, response.headers.get("X-Creps-Seed")
        return Image(
            response.content, headers["Content-Type"], None if seed is None else int(seed), headers["X-Creps-Digest"]
        )

    async def images(self, seeds: str | Sequence[int], **picture: Unpack[Picture]) -> dict[int, Image | ServiceError]:
        body = picture | {"seeds": seeds if isinstance(seeds, str) else list(seeds)}
        response = await self._ask("POST", "/v1/images", json=body, headers={"Accept": "application/zip"})
        return dict(unpack(response))

    async def sheet(self, image: Picture, x: Axis, y: Axis | None = None) -> Image:
        body = {"image": image, "x": x} | ({} if y is None else {"y": y})
        response = await self._ask("POST", "/v1/sheets", json=body)
        headers = response.headers
        return Image(response.content, headers["Content-Type"], None, headers["X-Creps-Digest"])

    async def directions(self, model: str) -> list[Direction]:
        found = (await self._ask("GET", f"/v1/models/{model}/directions")).json()["directions"]
        return [Direction.from_json(values) for values in found]

    async def project(
        self,
        picture: bytes,
        model: str | None = None,
        *,
        mask: bytes | None = None,
        steps: int = 200,
        class_index: int | str | None = None,
    ) -> Projection:
        given = {"model": model, "steps": steps, "class": class_index}
        params = {name: value for name, value in given.items() if value is not None}
        body: dict[str, Any] = {"content": picture, "headers": {"Content-Type": picture_type(picture)}}
        if mask is not None:
            body = {"files": {"picture": picture, "mask": mask}}
        response = await self._ask("POST", "/v1/projections", params=params, **body)
        projection = Projection.from_json(response.json())
        while projection.state in ("queued", "running"):
            await self._sleep(POLL_SECONDS)
            response = await self._ask("GET", f"/v1/projections/{projection.id}")
            projection = Projection.from_json(response.json())
        return projection

    async def inspect(self, picture: bytes) -> dict[str, Any]:
        headers = {"Content-Type": picture_type(picture)}
        described: dict[str, Any] = (await self._ask("POST", "/v1/inspect", content=picture, headers=headers)).json()
        return described

    async def latent(self, model: str, seed: int | str, **options: Unpack[Truncation]) -> LatentValues:
        response = await self._ask("GET", f"/v1/models/{model}/latents/{seed}", params=options)
        return LatentValues(**response.json())

    async def store_latent(
        self, latent: Latent | bytes, model: str | None = None, class_index: int | str | None = None
    ) -> str:
        given = {"model": model, "class": class_index}
        params = {name: value for name, value in given.items() if value is not None}
        body: dict[str, Any] = {"json": latent}
        if isinstance(latent, bytes):
            body = {"content": latent, "headers": {"Content-Type": "application/octet-stream"}}
        return str((await self._ask("POST", "/v1/latents", params=params, **body)).json()["id"])

    async def order(self, **order: Unpack[Order]) -> Job:
        headers = {"Idempotency-Key": uuid4().hex}  # a retry returns the same job
        return Job.from_json((await self._ask("POST", "/v1/jobs", json=order, headers=headers)).json())

    async def job(self, job_id: str) -> Job:
        return Job.from_json((await self._ask("GET", f"/v1/jobs/{job_id}")).json())

    async def jobs(self, state: str | None = None) -> list[Job]:
        params = {} if state is None else {"state": state}
        jobs = list[Job]()
        while True:
            page = (await self._ask("GET", "/v1/jobs", params=params)).json()
            jobs += [Job.from_json(values) for values in page["jobs"]]
            if not page.get("next"):  # earlier services have none
                return jobs
            params["after"] = page["next"]

    async def progress(self, job: Job) -> AsyncGenerator[Job, None]:
        while not (job := await self.job(job.id)).ended:
            yield job
            await self._sleep(POLL_SECONDS)
        yield job

    async def wait(self, job: Job) -> Job:
        async for now in self.progress(job):
            job = now
        return succeeded(job)

    async def delete(self, job: Job) -> Job:
        return Job.from_json((await self._ask("DELETE", f"/v1/jobs/{job.id}")).json())

    async def download(self, job: Job, path: str | PathLike[str]) -> None:
        path = Path(path)
        output = f"/v1/jobs/{job.id}/output"
        if succeeded(job).output == "dzi":
            for name, target in deep_zoom(job, path):
                response = await self._ask("GET", f"{output}/{name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(response.content)
            return
        with new_file(path) as file:
            download = Download(file)
            while not download.complete:
                await self._ask("GET", output, download, headers=download.headers())

    async def _ask(self, method: str, path: str, download: Download | None = None, **given: Any) -> httpx.Response:
        """Send a request, with retries while the service is busy or unreachable. Raises ServiceError, TransportError.

        A service that has never answered is not waited for: its address is probably wrong. A DELETE that the service
        may have received is not repeated, because the second one would fail.
        """
        _check_numbers("", given.get("json"))
        away = _NOT_SENT if method == "DELETE" else httpx.TransportError
        end = time.monotonic() + self._patience
        while True:
            try:
                response = await self._send(self._http.build_request(method, path, **given), download)
            except away as error:
                pause = MIN_PAUSE
                if not self._has_answered and isinstance(error, httpx.ConnectError):
                    raise type(error)(f"cannot reach {self._http.base_url}: {error}", request=error.request) from None
                if time.monotonic() + pause > end:
                    raise
            else:
                self._has_answered = True
                pause = _retry_after(response)
                if response.status_code not in BUSY or time.monotonic() + pause > end:
                    return checked(response)
            await self._sleep(pause)

    @abstractmethod
    async def _send(self, request: httpx.Request, download: Download | None) -> httpx.Response:
        """Send a request once. The content of a successful response is written to ``download``, if given."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...


def _check_numbers(name: str, value: object) -> None:
    """Raises ValueError with the place of a number that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: must be a finite number, not {value}")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        _check_numbers(f"{name}.{key}".removeprefix("."), part)


def checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is successful. Raises ServiceError."""
    if response.is_success:
        return response
    try:
        problem = response.json()
        detail, errors = problem["detail"], problem.get("errors", [])
    except (ValueError, KeyError, TypeError, AttributeError):  # perhaps from a proxy
        detail, errors = response.reason_phrase, []
    raise ServiceError(response.status_code, detail, errors, response.headers.get("X-Request-Id"))


def picture_type(content: bytes) -> str:
    """The media type of a picture, by its first bytes. The service refuses what is none."""
    starts = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp"}
    return next((name for start, name in starts.items() if content.startswith(start)), "application/octet-stream")


def unpack(response: httpx.Response) -> Iterator[tuple[int, Image | ServiceError]]:
    """Seeds and images of a zip, in its order; errors in place of images that failed."""
    digest, request_id = response.headers["X-Creps-Digest"], response.headers.get("X-Request-Id")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        for entry in json.loads(archive.read("manifest.json"))["images"]:
            seed = entry["seed"]
            if "file" in entry:
                media_type = next(kind for kind, known in SUFFIXES.items() if entry["file"].endswith(known))
                yield seed, Image(archive.read(entry["file"]), media_type, seed, digest)
            else:
                problem = entry["problem"]
                yield seed, ServiceError(problem["status"], problem["detail"], problem.get("errors", []), request_id)


def succeeded(job: Job) -> Job:
    """The job itself. Raises JobError if it has not succeeded."""
    if job.state != "succeeded":
        raise JobError(job)
    return job


def deep_zoom(job: Job, path: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every file of a Deep Zoom image, the descriptor last."""
    assert job.format is not None and job.tile is not None  # noqa: S101, PT018 - they are for Deep Zoom
    suffix = {"jpeg": "jpg"}.get(job.format, job.format)
    folder = path.with_name(f"{path.name.removesuffix('.dzi')}_files")
    pyramid = Pyramid(job.width, job.height, job.tile, smallest=1)
    for level, column, row in map(pyramid.locate, range(pyramid.tiles)):
        name = f"{level}/{column}_{row}.{suffix}"
        yield f"picture_files/{name}", folder / name
    yield "picture.dzi", path


def _retry_after(response: httpx.Response) -> float:
    given = response.headers.get("Retry-After", "")
    return min(max(float(given), MIN_PAUSE), MAX_PAUSE) if given.isdecimal() else MIN_PAUSE
