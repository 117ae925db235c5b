"""Pictures in request bodies: one as the body, or with its mask in a form."""

import asyncio
from io import BytesIO
from typing import IO, Any

from fastapi import HTTPException, Request
from PIL import Image
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from model.errors import InputError
from service.gateway.errors import TooLargeError

PICTURE_TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
"""Media types of pictures, and Pillow's names of their formats."""

FORM_TYPE = "multipart/form-data"

FIELDS = ("picture", "mask")
"""Files of a form."""

MIN_SIDE = 8
"""As model.projection.target requires, which needs the whole picture."""

_FILE = {"type": "string", "format": "binary"}
PICTURE_BODY: dict[str, Any] = {name: {"schema": _FILE} for name in PICTURE_TYPES}
"""OpenAPI's content of a body that is a picture."""

MASKED_BODY: dict[str, Any] = PICTURE_BODY | {
    FORM_TYPE: {
        "schema": {
            "type": "object",
            "required": ["picture"],
            "additionalProperties": False,
            "properties": {
                "picture": _FILE,
                "mask": _FILE | {"description": "of the picture's size, white where the picture is known"},
            },
        },
        "encoding": {name: {"contentType": ", ".join(PICTURE_TYPES)} for name in FIELDS},
    }
}
"""The same of a body that may also be a form."""


async def read_pictures(request: Request, max_pixels: int) -> dict[str, bytes]:
    """The file ``picture`` of a request and, if it has one, ``mask``.

    Only their headers are read: decoding is left to a worker's process. Raises InputError and TooLargeError for one of
    them, HTTPException if the body has another type, or is a form that cannot be read.
    """
    announced, options = parse_options_header(request.headers.get("content-type"))
    if announced not in (*PICTURE_TYPES, FORM_TYPE):
        raise HTTPException(415, f"a picture must be {', '.join(PICTURE_TYPES)}, or a file of {FORM_TYPE}")
    body = await request.body()
    if announced in PICTURE_TYPES:
        _read_size("picture", body, [PICTURE_TYPES[announced]], max_pixels)
        return {"picture": body}
    files = await asyncio.to_thread(_parse_form, body, options)
    formats = [*PICTURE_TYPES.values()]
    sizes = {name: _read_size(name, content, formats, max_pixels) for name, content in files.items()}
    if len({tuple(sorted(size)) for size in sizes.values()}) > 1:  # EXIF may turn one of them by 90°
        (width, height), mask = sizes["picture"], sizes["mask"]
        raise InputError("mask", f"must have the picture's {width}×{height} pixels, not {mask[0]}×{mask[1]}")
    return files


def _parse_form(body: bytes, options: dict[str, str]) -> dict[str, bytes]:
    """The files of a form by field."""
    parser = FormDataParser(_in_memory, max_form_parts=len(FIELDS), silent=False)
    try:
        _, texts, files = parser.parse(BytesIO(body), FORM_TYPE, len(body), options)
    except RequestEntityTooLarge:
        raise InputError("mask", f"only {' and '.join(FIELDS)} can be sent, each once") from None
    except ValueError as error:
        raise HTTPException(400, f"the form cannot be read: {error}") from None
    for name in (*texts, *files):
        if name not in FIELDS:
            raise InputError(name, f"is unknown; the form has {' and '.join(FIELDS)}")
        if name in texts:
            raise InputError(name, "must be sent as a file, with a name")
        if len(files.getlist(name)) > 1:
            raise InputError(name, "must be given once")
    if "picture" not in files:
        raise InputError("picture", "is required")
    return {name: file.stream.read() for name, file in files.items()}


def _in_memory(*_: object, **__: object) -> IO[bytes]:
    """A file for a part of a form, which werkzeug would write to disk."""
    return BytesIO()


def _read_size(field: str, content: bytes, formats: list[str], max_pixels: int) -> tuple[int, int]:
    """Width and height of an untrusted image."""
    try:
        with Image.open(BytesIO(content), formats=formats) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise TooLargeError(field, f"has more pixels than the limit of {max_pixels}") from None
    except Exception:  # an untrusted file raises errors of any type
        raise InputError(field, f"is no {' or '.join(formats)}, or a damaged one") from None
    if min(width, height) < MIN_SIDE:
        raise InputError(field, f"must have at least {MIN_SIDE} pixels a side, not {width}×{height}")
    if width * height > max_pixels:
        raise TooLargeError(field, f"has {width}×{height} pixels, above the limit of {max_pixels}")
    return width, height
