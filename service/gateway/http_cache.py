"""HTTP caching. A resolved spec and the arithmetic of the worker that renders it determine the image's bytes.

An entity tag is ``"NAME.ARITHMETIC"``. The name is known before an image is rendered, its arithmetic afterwards. If a
tag that the client sends has the image's name, in any arithmetic, the client has an image that was rendered for the
same spec. It is as good as another, so nothing is rendered to compare tags.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from werkzeug.http import parse_date

from model.spec import RenderSpec
from service.gateway.errors import ProblemResponse
from service.imaging.metadata import VERSION

RENDERING_VERSION = f"3.{VERSION}"
"""Part of every entity tag and cache key. Increase it with any change of the renderer or encoders that changes bytes.
"""

NO_STORE = "no-store"

YEAR = 31_536_000
"""Seconds; the longest useful max-age (RFC 2616, section 14.21)."""

NAME_AGE = 300
"""Seconds for which caches may keep an image by its model's name, which can be given to another checkpoint."""

_CONDITIONS = {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"}

_ENTITY_TAG = re.compile(r'(W/)?("[^"]*")')


def image_key(spec: RenderSpec) -> str:
    return f"{RENDERING_VERSION}-{spec.key}"


def entity_tag(name: str, arithmetic: str) -> str:
    """The strong ETag of an image, with its quotes."""
    return f'"{name}.{arithmetic}"'


def expected_tag(request: Request, name: str, arithmetic: str | None) -> str | None:
    """The ETag of an image that is not rendered yet: the client's if it is one of this image, or that of the arithmetic
    of its model's last image, if any is known."""
    known = None if arithmetic is None else entity_tag(name, arithmetic)
    if _CONDITIONS.isdisjoint(given for given, _ in request.scope["headers"]):
        return known
    fields = [header_value(request, field) or "" for field in ("if-match", "if-none-match")]
    for _, tag in _ENTITY_TAG.findall(", ".join(fields)):
        if re.fullmatch(rf'"{re.escape(name)}\.[a-z0-9-]+"', tag):
            return str(tag)
    return known


def cache_control(*, by_digest: bool, shared: bool) -> str:
    """Cache-Control of an image: unlimited if its address has the model's digest; ``shared`` allows shared caches."""
    scope = "public" if shared else "private"
    return f"{scope}, max-age={YEAR}, immutable" if by_digest else f"{scope}, max-age={NAME_AGE}, must-revalidate"


def check_preconditions(request: Request, headers: Mapping[str, str]) -> Response | None:
    """The response to a GET or HEAD request whose preconditions fail: 412 or 304 (RFC 9110, section 13.2.2).

    ``headers`` are those of a representation that exists, with its strong ETag and its Last-Modified, if known.
    """
    if _CONDITIONS.isdisjoint(name for name, _ in request.scope["headers"]):
        return None
    tag, modified = headers.get("ETag"), _date(headers.get("Last-Modified"))
    if_match, if_none_match = (header_value(request, name) for name in ("if-match", "if-none-match"))
    unmodified_since, modified_since = (
        _date(header_value(request, name)) for name in ("if-unmodified-since", "if-modified-since")
    )
    if if_match is not None:
        if not _has_tag(if_match, tag, strong=True):
            return ProblemResponse(412, "If-Match does not have the current ETag" + (f", {tag}" if tag else ""))
    elif modified and unmodified_since and modified > unmodified_since:
        return ProblemResponse(412, f"it was modified after If-Unmodified-Since, at {headers['Last-Modified']}")
    if if_none_match is not None:
        current = _has_tag(if_none_match, tag, strong=False)
    else:
        current = bool(modified and modified_since and modified <= modified_since)
    return Response(status_code=304, headers=headers) if current else None


def allows_range(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether If-Range, if present, has the representation's ETag or Last-Modified (section 13.1.5)."""
    return header_value(request, "if-range") in (None, headers["ETag"], headers["Last-Modified"])


def header_value(request: Request, name: str) -> str | None:
    """The value of a header, of all its lines; None without one."""
    raw_name = name.encode()
    values = [value.decode("latin-1") for given, value in request.scope["headers"] if given == raw_name]
    return ", ".join(values).strip() if values else None


def _has_tag(field: str, tag: str | None, *, strong: bool) -> bool:
    tags = _ENTITY_TAG.findall(field)
    return field == "*" or any(given == tag and not (strong and weak) for weak, given in tags)


def _date(text: str | None) -> datetime | None:
    """An HTTP-date; None for any other text, which must be ignored."""
    try:
        return parse_date(text)
    except OverflowError:
        return None


def unrendered_response(request: Request, headers: dict[str, str], media_type: str) -> Response | None:
    """The response to a request that needs no rendering: failed preconditions, and any HEAD request."""
    if response := check_preconditions(request, headers):
        return response
    if request.method == "HEAD":
        response = Response(headers=headers, media_type=media_type)
        del response.headers["Content-Length"]  # unknown before the image is rendered
        return response
    return None
