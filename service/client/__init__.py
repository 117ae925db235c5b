"""Python client: images, jobs and downloads, with retries while the service is busy. Needs only httpx.

::

    from service.client import Client

    with Client("http://127.0.0.1:8000") as creps:
        creps.image(model="demo", seed=7, width=1024).save("a.png")
        job = creps.order(model="demo", seed=7, width=16384, output="tiff", format="jpeg")
        for job in creps.progress(job):
            print(f"{job.progress:.0%}")
        creps.download(job, "poster.tiff")

:class:`AsyncClient` has the same methods as coroutines.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

try:
    import httpx
except ModuleNotFoundError as error:
    message = "service.client requires httpx: pip install 'creps-serve[client]'"
    raise ModuleNotFoundError(message, name="httpx") from error

from service.client.api import RESPONSE_TIMEOUT, Api
from service.client.download import Download
from service.client.values import (
    Axis,
    Direction,
    Image,
    Job,
    JobError,
    Keyframe,
    Latent,
    LatentValues,
    Model,
    Order,
    Picture,
    Projection,
    ServiceError,
    Truncation,
)

__all__ = [
    "AsyncClient",
    "Axis",
    "Client",
    "Direction",
    "Image",
    "Job",
    "JobError",
    "Keyframe",
    "Latent",
    "LatentValues",
    "Model",
    "Order",
    "Picture",
    "Projection",
    "ServiceError",
    "Truncation",
]

T = TypeVar("T")


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


class Client:
    """A client that sends one request after another, with the API key ``key`` if the service needs one.

    Requests are retried for ``patience`` seconds while the service is busy or restarts. Every method raises
    ServiceError, and httpx.TransportError if the service cannot be reached: at once if it has never answered.
    """

    def __init__(self, base_url: str, key: str | None = None, *, patience: float = 60.0) -> None:
        self._api = _BlockingApi(base_url, key, patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._api.close()

    def models(self) -> list[Model]:
        """The models that are served."""
        return _run(self._api.models())

    def image(self, **picture: Unpack[Picture]) -> Image:
        """Render an image, with a random seed if none is given."""
        return _run(self._api.image(**picture))

    def images(self, seeds: str | Sequence[int], **picture: Unpack[Picture]) -> dict[int, Image | ServiceError]:
        """Render seeds such as ``[3, 7]`` or ``"0-15,40"`` in one request.

        Those that failed have their error in place of an image.
        """
        return _run(self._api.images(seeds, **picture))

    def sheet(self, image: Picture, x: Axis, y: Axis | None = None) -> Image:
        """Render a contact sheet, whose columns are the values of ``x`` and whose rows are those of ``y``."""
        return _run(self._api.sheet(image, x, y))

    def directions(self, model: str) -> list[Direction]:
        """The directions in which images of a model can be edited, the strongest first."""
        return _run(self._api.directions(model))

    def project(
        self,
        picture: bytes,
        model: str | None = None,
        *,
        mask: bytes | None = None,
        steps: int = 200,
        class_index: int | str | None = None,
    ) -> Projection:
        """Find the latent of a picture, the content of a PNG, JPEG or WebP file, and wait for the result.

        What is black in ``mask``, a file of the same size, is filled in. It has succeeded if its ``state`` says so. A
        second call starts again.
        """
        return _run(self._api.project(picture, model, mask=mask, steps=steps, class_index=class_index))

    def inspect(self, picture: bytes) -> dict[str, Any]:
        """How a picture of the service was made, from the content of its file."""
        return _run(self._api.inspect(picture))

    def latent(self, model: str, seed: int | str, **options: Unpack[Truncation]) -> LatentValues:
        """The numbers of a seed or stored latent."""
        return _run(self._api.latent(model, seed, **options))

    def store_latent(
        self, latent: Latent | bytes, model: str | None = None, class_index: int | str | None = None
    ) -> str:
        """Store a latent: values, or the content of an npy, npz or safetensors file. Returns its id.

        ``class_index`` is for files with z.
        """
        return _run(self._api.store_latent(latent, model, class_index))

    def order(self, **order: Unpack[Order]) -> Job:
        """Order a large image as a job."""
        return _run(self._api.order(**order))

    def job(self, job_id: str) -> Job:
        """The current state of a job."""
        return _run(self._api.job(job_id))

    def jobs(self, state: str | None = None) -> list[Job]:
        """All jobs, the newest first."""
        return _run(self._api.jobs(state))

    def progress(self, job: Job) -> Iterator[Job]:
        """The state of a job, now and every second until it has ended."""
        states = self._api.progress(job)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield _run(anext(states))

    def wait(self, job: Job) -> Job:
        """Wait until the job has succeeded. Raises JobError if it failed or was cancelled."""
        return _run(self._api.wait(job))

    def delete(self, job: Job) -> Job:
        """Cancel an unfinished job, or delete an ended one with its files."""
        return _run(self._api.delete(job))

    def download(self, job: Job, path: str | os.PathLike[str]) -> None:
        """Save the output of a job: the file, or for Deep Zoom the ``.dzi`` and the folder of its tiles beside it.

        An interrupted download is resumed. The file appears when it is complete. Raises JobError if the job has not
        succeeded.
        """
        _run(self._api.download(job, path))


class AsyncClient(Api):
    """:class:`Client` with coroutines, several of which may run concurrently."""

    def __init__(self, base_url: str, key: str | None = None, *, patience: float = 60.0) -> None:
        super().__init__(patience)
        self._http: httpx.AsyncClient = httpx.AsyncClient(
            base_url=base_url, headers=_headers(key), timeout=RESPONSE_TIMEOUT
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def _send(self, request: httpx.Request, download: Download | None) -> httpx.Response:
        response = await self._http.send(request, stream=True, follow_redirects=download is not None)
        async with contextlib.aclosing(response):
            if download is None or not response.is_success:
                await response.aread()
                return response
            with download.receive(response):
                async for chunk in response.aiter_bytes():
                    download.write(chunk)
        return response

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _BlockingApi(Api):
    """The requests with coroutines that block where those of AsyncClient wait, and so never suspend."""

    def __init__(self, base_url: str, key: str | None, patience: float) -> None:
        super().__init__(patience)
        self._http: httpx.Client = httpx.Client(base_url=base_url, headers=_headers(key), timeout=RESPONSE_TIMEOUT)

    def close(self) -> None:
        self._http.close()

    async def _send(self, request: httpx.Request, download: Download | None) -> httpx.Response:
        response = self._http.send(request, stream=True, follow_redirects=download is not None)
        with contextlib.closing(response):
            if download is None or not response.is_success:
                response.read()
                return response
            with download.receive(response):
                for chunk in response.iter_bytes():
                    download.write(chunk)
        return response

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop to block


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("the coroutine has suspended")
