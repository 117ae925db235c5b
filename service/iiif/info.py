"""info.json: the description of an image for viewers (section 5)."""

from typing import Any

from service.iiif.request import QUALITIES, SUFFIXES, Limits

CONTEXT = "http://iiif.io/api/image/3/context.json"
PROFILE = "http://iiif.io/api/image/3/level2.json"

FEATURES = (
    "mirroring",
    "regionSquare",
    "rotationArbitrary",
    "rotationBy90s",
    "sizeUpscaling",
    "canonicalLinkHeader",
    "profileLinkHeader",
)
"""Features beyond those of level 2."""


def info_json(address: str, width: int, height: int, tile: int, limits: Limits) -> dict[str, Any]:
    """info.json of the image at ``address``, with square tiles of side ``tile``."""
    factors = [1]
    while max(width, height) > tile * factors[-1]:
        factors.append(2 * factors[-1])
    sizes = [(-(-width // factor), -(-height // factor)) for factor in reversed(factors)]
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
        "sizes": [{"width": w, "height": h} for w, h in sizes if limits.allow_rendering((w, h))],
        "tiles": [{"width": tile, "height": tile, "scaleFactors": factors}],
        "preferredFormats": ["jpg"],
        "extraFormats": [suffix for suffix in SUFFIXES if suffix not in ("jpg", "png")],  # which are part of level 2
        "extraQualities": [quality for quality in QUALITIES if quality != "default"],
        "extraFeatures": list(FEATURES),
    }
