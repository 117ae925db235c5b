"""HTTP caching of pictures: a resolved spec names its bytes, so that nothing has to be drawn to compare."""

import re

from starlette.requests import Request

from model.spec import RenderSpec

RENDERING_VERSION = "1"
"""Part of every entity tag and key: to be raised with any change to the renderer or the encoders that changes bytes."""

NO_STORE = "no-store"

YEAR = 31_536_000
"""Seconds; the longest age that caches are told (RFC 2616 called more than a year pointless)."""

NAME_AGE = 300
"""Seconds for which a model's name may go on meaning the checkpoint that it meant."""

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


def picture_key(spec: RenderSpec) -> str:
    """Names the bytes of a resolved spec's picture."""
    return f"{RENDERING_VERSION}-{spec.key}"


def entity_tag(spec: RenderSpec) -> str:
    """The strong ETag of a resolved spec's picture, quotes included."""
    return f'"{picture_key(spec)}"'


def cache_control(*, by_digest: bool, shared: bool) -> str:
    """For a picture at an address: for ever where its model is a digest. ``shared``: any cache may keep it."""
    scope = "public" if shared else "private"
    return f"{scope}, max-age={YEAR}, immutable" if by_digest else f"{scope}, max-age={NAME_AGE}, must-revalidate"


def is_current(request: Request, tag: str) -> bool:
    """Whether the client holds the picture already: If-None-Match, compared weakly as RFC 9110 section 13.1.2 asks."""
    field = ", ".join(request.headers.getlist("if-none-match")).strip()
    return field == "*" or tag in _ENTITY_TAG.findall(field)
