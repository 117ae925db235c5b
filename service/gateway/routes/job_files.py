"""Outputs of jobs for download: whole, in ranges, or directly from the bucket."""

from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import format_datetime
from typing import Any

import obstore
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response, StreamingResponse
from werkzeug.http import parse_range_header

from service.gateway import http_cache
from service.gateway.errors import ProblemResponse, responses
from service.gateway.job_status import ID_SCHEMA, StatusOfPath, find_job
from service.gateway.plain_route import PlainRoute
from service.gateway.responses import slices
from service.gateway.state import AppState, CurrentAppState
from service.gateway.zip_stream import zip_stream
from service.imaging.encode import FORMATS_BY_SUFFIX
from service.imaging.export_spec import ExportSpec
from service.imaging.object_store import Store, sign
from service.imaging.video import VIDEO_TYPES
from service.imaging.video_spec import SUFFIXES, VideoSpec
from service.jobs.repository import UnknownJobError
from service.jobs.status import Status

router = APIRouter(tags=["jobs"])

MEDIA_TYPES = (
    {"dzi": "application/xml", "tiff": "image/tiff"}
    | {suffix: f"image/{name}" for suffix, name in FORMATS_BY_SUFFIX.items()}
    | {SUFFIXES[kind]: media_type for kind, media_type in VIDEO_TYPES.items()}
)

LINK_SECONDS = 3600
"""Validity of a signed bucket address, for the start of a download."""

CHUNK_BYTES = 256 << 10
"""Bytes that a download reads at once: all downloads together need no more memory than images in flight."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The archive", "content": {"application/zip": _BINARY}}
}

_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY)},
    206: {"description": "The requested range"},
    304: {"description": "The file of If-None-Match is still current"},
    307: {"description": "Where the file is: in the bucket, or the .dzi of Deep Zoom"},
}


@router.head("/v1/jobs/{job_id}/output", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}/output",
    summary="Download a job's output",
    response_class=Response,
    responses=_FILE | responses(401, 404, 412, 416, 422, 503),
)
async def get_job_output(status: StatusOfPath, request: Request, app_state: CurrentAppState) -> Response:
    """The finished file. For Deep Zoom a redirect to the .dzi, whose address viewers need to find the tiles."""
    export = status.job.export
    if export.kind == "dzi":
        return RedirectResponse(f"{request.url.path}/{export.name}", headers={"Cache-Control": http_cache.NO_STORE})
    return await _file(export.name, status, request, app_state)


@router.head("/v1/jobs/{job_id}/output.zip", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}/output.zip",
    summary="Download a job's Deep Zoom in one file",
    response_class=Response,
    responses=_ARCHIVE | responses(401, 404, 422, 503),
)
async def get_archive(status: StatusOfPath, request: Request, app_state: CurrentAppState) -> Response:
    """The .dzi and all of its tiles as a ZIP archive, once the job has succeeded."""
    export = status.job.export
    if isinstance(export, VideoSpec) or export.kind != "dzi" or status.state != "succeeded":
        raise UnknownJobError("path", f"is only for finished Deep Zoom, not {export.kind} that is {status.state}")

    async def files() -> AsyncIterator[tuple[str, bytes]]:
        for name in (export.name, *map(export.tile_name, range(export.pyramid.tiles))):
            found = await obstore.get_async(app_state.outputs, status.job.path(name))
            yield name, bytes(await found.bytes_async())

    headers = {
        "Content-Disposition": f'attachment; filename="{_download_name(status, "zip")}"',
        "Cache-Control": http_cache.NO_STORE,
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/zip")
    return StreamingResponse(zip_stream(files()), headers=headers, media_type="application/zip")


class FileParameters(BaseModel):
    """The path of a file."""

    job_id: str = Field(description="the job's id", examples=["0" * 32], json_schema_extra=ID_SCHEMA)
    path: str = Field(
        description="name of the output, or a tile of Deep Zoom", examples=["picture.dzi", "picture_files/0/0_0.png"]
    )


async def get_job_file(parameters: FileParameters, request: Request, app_state: AppState) -> Response:
    """Tiles are available as soon as they are stored, the .dzi once all of them are."""
    status = await find_job(parameters.job_id, request, app_state)
    return await _file(parameters.path, status, request, app_state)


plain_routes = [
    PlainRoute(
        "/v1/jobs/{job_id}/output/{path:path}",
        get_job_file,
        FileParameters,
        tag="jobs",
        summary="Download a file or tile of a job",
        responses=_FILE | responses(401, 404, 412, 416, 422, 503),
    )
]


async def _file(name: str, status: Status, request: Request, app_state: AppState) -> Response:
    """Only names of the job's own files are looked up: no other path of a client reaches the store."""
    job, export, store = status.job, status.job.export, app_state.outputs
    is_output = name == export.name and status.state == "succeeded"
    is_tile = isinstance(export, ExportSpec) and export.kind == "dzi" and export.tile_index(name) is not None
    missing = UnknownJobError("path", f"is not a file of this job, which is {status.state}")
    if not is_output and not is_tile:
        raise missing
    headers = {
        "ETag": f'"{job.id}-{name}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": http_cache.cache_control(by_digest=True, shared=False),
    }
    if export.kind != "dzi":
        download = _download_name(status, export.name.rpartition(".")[2])
        disposition = "inline" if isinstance(export, VideoSpec) else "attachment"  # browsers play it
        headers["Content-Disposition"] = f'{disposition}; filename="{download}"'
        if address := await sign(store, job.path(name), LINK_SECONDS, "HEAD" if request.method == "HEAD" else "GET"):
            return RedirectResponse(address, headers={"Cache-Control": http_cache.NO_STORE})
    try:
        found = await obstore.head_async(store, job.path(name))
        headers["Last-Modified"] = format_datetime(found["last_modified"].astimezone(UTC), usegmt=True)
        if response := http_cache.check_preconditions(request, headers):
            return response
        return await _part(job.path(name), found["size"], request, store, headers)
    except FileNotFoundError:  # also if it is being removed
        raise missing from None


def _download_name(status: Status, suffix: str) -> str:
    """Such as demo-seed7-2048x2048.tiff."""
    export = status.job.export
    spec, (w, h) = export.spec, export.size
    class_ = "" if spec.latent.class_index is None else f"-class{spec.latent.class_index}"
    seed = f"-seed{spec.latent.seed}" if spec.latent.is_seed else ""
    return f"{status.job.model_name or spec.model[:12]}{class_}{seed}-{w}x{h}.{suffix}"


async def _part(path: str, size: int, request: Request, store: Store, headers: dict[str, str]) -> Response:
    """The whole object, or the requested range. HEAD has no ranges (RFC 9110, section 14.2)."""
    media_type = MEDIA_TYPES[path.rpartition(".")[2]]
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(size)}, media_type=media_type)
    start, stop, code = 0, size, 200
    asked = parse_range_header(http_cache.header_value(request, "range"))  # None if invalid, which is ignored
    if asked and asked.units == "bytes" and len(asked.ranges) == 1 and http_cache.allows_range(request, headers):
        first, end = asked.ranges[0]
        start = first if first >= 0 else max(size + first, 0)
        stop = size if end is None else min(end, size)
        if start >= size:
            return ProblemResponse(416, f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        code = 206
    headers["Content-Length"] = str(stop - start)
    found = await obstore.get_async(store, path, options={"range": (start, stop)}) if size else None

    async def content() -> AsyncIterator[memoryview]:
        if found is not None:
            async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                for part in slices(memoryview(chunk)):
                    yield part

    return StreamingResponse(content(), code, headers, media_type)
