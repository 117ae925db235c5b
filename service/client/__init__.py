"""The service from Python: pictures, jobs and downloads, waiting where it asks for patience. Needs httpx alone.

::

    from service.client import Client

    with Client("http://127.0.0.1:8000") as creps:
        creps.image(model="demo", seed=7, width=1024).save("a.png")
        job = creps.order(model="demo", seed=7, width=16384, output="tiff", format="jpeg")
        for job in creps.progress(job):
            print(f"{job.progress:.0%}")
        creps.download(job, "poster.tiff")

:class:`AsyncClient` has the same methods to be awaited.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from service.client.conversations import Conversations, Fetch, Flow, Outcome, succeeded
from service.client.values import Image, Job, JobError, Order, Picture, ServiceError

__all__ = ["AsyncClient", "Client", "Image", "Job", "JobError", "Order", "Picture", "ServiceError"]

T = TypeVar("T")

ANSWER_SECONDS = 120.0
"""Longest silence of the service: it answers by itself after CREPS_REQUEST_TIMEOUT, which is 60 s if nobody set it."""

POLL_SECONDS = 1.0
"""Between two questions how far a job is."""


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


class Client:
    """Asks one service, one request after another.

    Args:
        base_url: of the service.
        key: API key, where it wants one.
        patience: seconds for which a request is repeated while the service is busy.

    Every method raises ServiceError, and httpx.TransportError where the service cannot be reached.
    """

    def __init__(self, base_url: str, key: str | None = None, *, patience: float = 60.0) -> None:
        self._http = httpx.Client(base_url=base_url, headers=_headers(key), timeout=ANSWER_SECONDS)
        self._say = Conversations(self._http, patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """What can be drawn: name, digest, resolution, classes of each."""
        return self._run(self._say.models())

    def image(self, **picture: Unpack[Picture]) -> Image:
        """Draws a picture; without a seed, any."""
        return self._run(self._say.image(picture))

    def order(self, **order: Unpack[Order]) -> Job:
        """Orders a large picture."""
        return self._run(self._say.order(order))

    def job(self, job_id: str) -> Job:
        """How far a job is."""
        return self._run(self._say.job(job_id))

    def jobs(self, state: str | None = None) -> list[Job]:
        """The newest jobs, up to 100."""
        return self._run(self._say.jobs(state))

    def progress(self, job: Job) -> Iterator[Job]:
        """How far a job is, now and after each second, until it has ended."""
        while True:
            job = self.job(job.id)
            yield job
            if job.ended:
                return
            time.sleep(POLL_SECONDS)

    def wait(self, job: Job) -> Job:
        """Returns once the job has succeeded. Raises JobError where it has not."""
        for now in self.progress(job):
            job = now
        return succeeded(job)

    def delete(self, job: Job) -> Job:
        """Cancels an unfinished job, removes an ended one with its files."""
        return self._run(self._say.delete(job.id))

    def download(self, job: Job, path: str | os.PathLike[str]) -> None:
        """Saves what a job has made: the file, or of Deep Zoom the ``.dzi`` and beside it the folder of its tiles.

        A download that breaks off goes on where it was. The file is there once it is whole.

        Raises:
            JobError: the job has not succeeded.
        """
        self._run(self._say.download(job, Path(path)))

    def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome | None = None
        with contextlib.closing(flow):
            while True:
                try:
                    step = flow.send(outcome)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(step, float):
                    time.sleep(step)
                    outcome = None
                    continue
                try:
                    outcome = self._fetch(step)
                except httpx.TransportError as error:
                    outcome = error

    def _fetch(self, fetch: Fetch) -> httpx.Response:
        download = fetch.download
        response = self._http.send(fetch.request, stream=True, follow_redirects=download is not None)
        with contextlib.closing(response):
            if download is None or not response.is_success:
                response.read()
                return response
            with download.receive(response):
                for chunk in response.iter_bytes():
                    download.write(chunk)
        return response


class AsyncClient:
    """:class:`Client`, with methods to be awaited. Several may be under way at once."""

    def __init__(self, base_url: str, key: str | None = None, *, patience: float = 60.0) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, headers=_headers(key), timeout=ANSWER_SECONDS)
        self._say = Conversations(self._http, patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def models(self) -> list[dict[str, Any]]:
        return await self._run(self._say.models())

    async def image(self, **picture: Unpack[Picture]) -> Image:
        return await self._run(self._say.image(picture))

    async def order(self, **order: Unpack[Order]) -> Job:
        return await self._run(self._say.order(order))

    async def job(self, job_id: str) -> Job:
        return await self._run(self._say.job(job_id))

    async def jobs(self, state: str | None = None) -> list[Job]:
        return await self._run(self._say.jobs(state))

    async def progress(self, job: Job) -> AsyncIterator[Job]:
        while True:
            job = await self.job(job.id)
            yield job
            if job.ended:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def wait(self, job: Job) -> Job:
        async for now in self.progress(job):
            job = now
        return succeeded(job)

    async def delete(self, job: Job) -> Job:
        return await self._run(self._say.delete(job.id))

    async def download(self, job: Job, path: str | os.PathLike[str]) -> None:
        await self._run(self._say.download(job, Path(path)))

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome | None = None
        with contextlib.closing(flow):
            while True:
                try:
                    step = flow.send(outcome)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    outcome = None
                    continue
                try:
                    outcome = await self._fetch(step)
                except httpx.TransportError as error:
                    outcome = error

    async def _fetch(self, fetch: Fetch) -> httpx.Response:
        download = fetch.download
        response = await self._http.send(fetch.request, stream=True, follow_redirects=download is not None)
        async with contextlib.aclosing(response):
            if download is None or not response.is_success:
                await response.aread()
                return response
            with download.receive(response):
                async for chunk in response.aiter_bytes():
                    download.write(chunk)
        return response
