"""info.json: what a viewer has to know of a picture before it asks (section 5)."""

from typing import Any

from service.iiif.request import QUALITIES, SUFFIXES
from service.iiif.size import Limits

CONTEXT = "http://iiif.io/api/image/3/context.json"
PROFILE = "http://iiif.io/api/image/3/level2.json"

FEATURES = ("mirroring", "regionSquare", "rotationBy90s", "sizeUpscaling", "canonicalLinkHeader", "profileLinkHeader")
"""Beside those of level 2."""


def information(address: str, width: int, height: int, tile: int, limits: Limits) -> dict[str, Any]:
    """The document for a picture at ``address``, cut into square tiles of side ``tile``."""
    factors = [1]
    while max(width, height) > tile * factors[-1]:
        factors.append(2 * factors[-1])
    halves = [(-(-width // factor), -(-height // factor)) for factor in reversed(factors)]
    return {
        "@context": CONTEXT,
        "id": address,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": width,
        "height": height,
        "maxWidth": limits.width,
        "maxHeight": limits.height,
        "maxArea": limits.area,
        "sizes": [{"width": w, "height": h} for w, h in halves if limits.hold_drawn((w, h))],
        "tiles": [{"width": tile, "height": tile, "scaleFactors": factors}],
        "preferredFormats": ["jpg"],
        "extraFormats": [suffix for suffix in SUFFIXES if suffix == "webp"],  # the others belong to level 2
        "extraQualities": [quality for quality in QUALITIES if quality != "default"],
        "extraFeatures": list(FEATURES),
    }
