"""What jobs have made, for download: whole, in ranges, or straight from the bucket."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import obstore
from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from service.gateway import caching
from service.gateway.job_status import StatusOfPath
from service.gateway.problems import ProblemResponse, responses
from service.gateway.services import ServicesOfApp
from service.gateway.slices import slices
from service.jobs.board import Status, UnknownJobError
from service.outputs.store import Store, sign

router = APIRouter(tags=["jobs"])

MEDIA_TYPES = {
    "dzi": "application/xml",
    "tiff": "image/tiff",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
}

LINK_SECONDS = 3600
"""How long an address in a bucket can be used: to begin a download, which may take longer."""

CHUNK_BYTES = 256 << 10
"""What a download reads at once of its file, and holds: as many as there may be hold no more than pictures may."""

_TILE = re.compile(r"picture_files/(\d{1,2})/(\d{1,6})_(\d{1,6})\.(\w{3,4})", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file",
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()},
    },
    206: {"description": "The part of it that Range names"},
    304: {"description": "The file that If-None-Match names is still the one"},
    307: {"description": "Where the file is: in the bucket, or of Deep Zoom the .dzi"},
}


@router.head("/v1/jobs/{job_id}/output", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}/output",
    summary="Download a job's output",
    response_class=Response,
    responses=_FILE | responses(401, 404, 416, 422, 503),
)
async def get_output(status: StatusOfPath, request: Request, services: ServicesOfApp) -> Response:
    """The finished file. Of Deep Zoom it is the .dzi, under an address from which viewers find the tiles."""
    order = status.job.order
    if order.kind == "dzi":
        return RedirectResponse(f"{request.url.path}/{order.name}", headers={"Cache-Control": caching.NO_STORE})
    return await _file(order.name, status, request, services.outputs)


@router.head("/v1/jobs/{job_id}/output/{path:path}", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}/output/{path:path}",
    summary="Download a file or tile of a job",
    response_class=Response,
    responses=_FILE | responses(401, 404, 416, 422, 503),
)
async def get_output_file(
    status: StatusOfPath,
    path: Annotated[
        str,
        Path(
            description="the output's name, or a tile of Deep Zoom", examples=["picture.dzi", "picture_files/0/0_0.png"]
        ),
    ],
    request: Request,
    services: ServicesOfApp,
) -> Response:
    """Tiles can be seen as soon as they are made, the file that names them once all are."""
    return await _file(path, status, request, services.outputs)


async def _file(path: str, status: Status, request: Request, store: Store) -> Response:
    """Only names that the job's order gives are looked for: a path of the client's never reaches the store."""
    job = status.job
    name = _known_name(path, status)
    missing = UnknownJobError("path", f"is no file of this job, which is {status.state}")
    if name is None or (name == job.order.name and status.state != "succeeded"):
        raise missing
    tag = f'"{job.id}-{name}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": caching.cache_control(by_digest=True, shared=False),
        "Access-Control-Allow-Origin": "*",
    }
    if caching.is_current(request, tag):
        return Response(status_code=304, headers=headers)
    if name == job.order.name and job.order.kind != "dzi":
        headers["Content-Disposition"] = f'attachment; filename="{job.id}-{name}"'
        if address := await sign(store, job.path(name), LINK_SECONDS, "HEAD" if request.method == "HEAD" else "GET"):
            return RedirectResponse(address, headers={"Cache-Control": caching.NO_STORE})
    try:
        size = (await obstore.head_async(store, job.path(name)))["size"]
        return await _part(job.path(name), size, request, store, headers)
    except FileNotFoundError:  # also where it is removed just now
        raise missing from None


def _known_name(path: str, status: Status) -> str | None:
    order = status.job.order
    if path == order.name:
        return path
    if order.kind != "dzi" or not (match := _TILE.fullmatch(path)):
        return None
    level, column, row = (int(part) for part in match.groups()[:3])
    levels = order.pyramid.levels
    if level >= len(levels) or column >= levels[level].columns or row >= levels[level].rows:
        return None
    name = order.tile_name(order.pyramid.index(level, column, row))
    return name if name == path else None


async def _part(path: str, size: int, request: Request, store: Store, headers: dict[str, str]) -> Response:
    """The whole object, or the one range of it that was asked for."""
    media_type = MEDIA_TYPES[path.rpartition(".")[2]]
    start, stop, code = 0, size, 200
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked and any(asked.groups()) and request.headers.get("if-range") in (None, headers["ETag"]):
        first, last = asked.groups()
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= size or (not first and int(last) == 0):
            return ProblemResponse(416, f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
        if start < stop:  # else the range makes no sense, and counts as none (RFC 9110, section 14.1.1)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            code = 206
        else:
            start, stop = 0, size
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=code, headers=headers, media_type=media_type)
    found = await obstore.get_async(store, path, options={"range": (start, stop)}) if size else None

    async def content() -> AsyncIterator[memoryview]:
        if found is not None:
            async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                for part in slices(memoryview(chunk)):
                    yield part

    return StreamingResponse(content(), code, headers, media_type)
