"""What a job makes: an image as tiles, or a video as groups of frames."""

import json
from typing import Literal

from service.imaging.export_spec import ExportSpec, Kind
from service.imaging.video_spec import VideoKind, VideoSpec

Order = ExportSpec | VideoSpec
"""Both have ``kind``, ``name``, ``spec``, ``size``, ``tiles``, ``pixels``, ``work``, ``tile_name`` and ``to_json``."""

OrderKind = Literal[Kind, VideoKind]


def read_order(text: str | bytes) -> Order:
    """The inverse of ``to_json``. Raises ValueError, KeyError or TypeError for other text."""
    return (VideoSpec if "timeline" in json.loads(text) else ExportSpec).from_json(text)
