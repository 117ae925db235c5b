"""Contact sheets: one image in which two fields take several values each."""

import asyncio
import re
import secrets
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field, ValidationError
from starlette.responses import Response

from model.errors import InputError
from model.latents.latent import MAX_SEED
from model.spec import FORMATS, Encoding
from service.gateway import http_cache
from service.gateway.errors import responses
from service.gateway.image_batch import Part, after_first_success, as_sheet, check_batch, render_batch
from service.gateway.resolve import ResolvedImage, resolve_request
from service.gateway.responses import BackpressureResponse
from service.gateway.routes.images import IMAGE_HEADERS
from service.gateway.schema_types import SHORT_NAMES, StrictModel
from service.gateway.schemas import ImageRequest
from service.gateway.state import AppState, CurrentAppState
from service.imaging.contact_sheet import sheet_size

router = APIRouter(tags=["images"])

MAX_VALUES = 256
"""Most values of an axis, and MAX_CELLS of both together; the pixels of all cells are limited, too."""

MAX_CELLS = 1024

VARIED = ("seed", "latent", "styles", "edits", "truncation_psi", "truncation_cutoff", "class_index", "region", "grid")
"""Fields of ImageRequest that cells may differ in: they have one size and one model."""

_LONG_NAMES = {short: name for name, short in SHORT_NAMES.items()}
_STEP = re.compile(r"\[([0-9]{1,2})\]|\.?([a-z_]+)")
_PATH = r"^[a-z_]{1,30}(\[[0-9]{1,2}\]|\.[a-z_]{1,30}){0,8}$"
_LABEL = 40

Label = Annotated[str, Field(max_length=100)]


class SheetAxis(StrictModel):
    """A field and the values that it takes."""

    field: str = Field(
        pattern=_PATH,
        description=f"one of {', '.join(VARIED)}, or a field within one, such as `edits[0].amount`",
        examples=["truncation_psi"],
    )
    values: list[Any] = Field(min_length=1, max_length=MAX_VALUES, description="its values", examples=[[0.4, 0.7, 1]])
    labels: list[Label] | None = Field(None, description="one for each value; default: the values")


class SheetRequest(StrictModel):
    """A sheet of images. The columns are the values of `x`, the rows those of `y`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "image": {"width": 128, "truncation_psi": 0.7},
                    "x": {"field": "truncation_psi", "values": [0.4, 0.7, 1]},
                    "y": {"field": "seed", "values": [2, 7]},
                }
            ]
        }
    )

    image: ImageRequest = Field(description="what all cells share; its format is that of the sheet")
    x: SheetAxis
    y: SheetAxis | None = Field(None, description="default: a single row")


_SHEET: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The sheet",
        "headers": {name: IMAGE_HEADERS[name] for name in ("X-Creps-Digest", "Cache-Control")},
        "content": {f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in FORMATS},
    }
}


@router.post(
    "/v1/sheets",
    summary="Render a contact sheet",
    response_class=Response,
    responses=_SHEET | responses(400, 401, 404, 413, 415, 422, 429, 503, 504),
)
async def draw_sheet(body: SheetRequest, request: Request, app_state: CurrentAppState) -> Response:
    """Render an image for each pair of values, and place them on one labelled sheet. Each cell has the pixels of its
    own image; one that cannot be rendered is grey."""
    columns, rows = body.x.values, [None] if body.y is None else body.y.values
    if len(columns) * len(rows) > MAX_CELLS:
        raise InputError(
            "x.values", f"and y.values make {len(columns) * len(rows)} cells, above the limit of {MAX_CELLS}"
        )
    for name, axis in (("x", body.x), ("y", body.y)):
        if axis is not None and axis.labels is not None and len(axis.labels) != len(axis.values):
            raise InputError(f"{name}.labels", f"must be {len(axis.values)}, as many as values")
    cells = [(x, y) for y in range(len(rows)) for x in range(len(columns))]
    # A random seed is the same in all cells.
    base = {"seed": secrets.randbelow(MAX_SEED + 1)} if body.image.latent is None else {}
    base |= body.image.model_dump(exclude_unset=True, exclude_none=True, exclude={"transform"})
    images = []
    for cell in cells:
        images.append(await _resolve_cell(base, body, cell, app_state))
        await asyncio.sleep(0)  # others are served meanwhile: many long vectors take seconds
    check_batch(images, app_state, "x.values")
    encoding = Encoding(body.image.format, body.image.quality, bits=body.image.bits or 0)
    encoding.require_common()
    encoding.check_size(*sheet_size(len(cells), len(columns), *images[0].spec.viewport.crop[2:]))
    parts = [Part(f"{x},{y}", image, {}) for (x, y), image in zip(cells, images, strict=True)]
    rendered = await after_first_success(render_batch(parts, request, app_state))
    labels = [", ".join(_labels(body, cell)) for cell in cells]
    content = await as_sheet(rendered, labels, len(columns), encoding, app_state)
    headers = {"X-Creps-Digest": images[0].checkpoint.digest, "Cache-Control": http_cache.NO_STORE}
    return BackpressureResponse(content, headers=headers, media_type=f"image/{encoding.format}")


async def _resolve_cell(
    base: dict[str, Any], body: SheetRequest, cell: tuple[int, int], app_state: AppState
) -> ResolvedImage:
    """The image of a cell. Raises InputError and RequestValidationError, which name the axis at fault."""
    values = base
    axes = [("x", body.x, cell[0])] + ([] if body.y is None else [("y", body.y, cell[1])])
    for name, axis, index in axes:
        values = _with_value(values, f"{name}.field", axis.field, axis.values[index])
    try:
        # Transforms are values of the model, which their JSON would have to be parsed into once more.
        request = ImageRequest.model_validate(values).model_copy(update={"transform": body.image.transform})
        image = await resolve_request(request, app_state)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", "image", *each["loc"])} for each in error.errors()]
        ) from None
    except InputError as error:
        raise type(error)(f"image.{error.field}", error.message) from None
    return replace(image, spec=replace(image.spec, encoding=Encoding("png", metadata="none")))


def _with_value(values: dict[str, Any], name: str, path: str, value: object) -> dict[str, Any]:
    """A copy with the value at a path such as ``edits[0].amount``. Raises InputError for ``name``."""
    steps: list[int | str] = [int(index) if index else key for index, key in _STEP.findall(path)]
    steps = [_LONG_NAMES.get(step, step) if isinstance(step, str) else step for step in steps]
    if steps[0] not in VARIED:
        raise InputError(name, f"must begin with one of {', '.join(VARIED)}")
    copy = dict(values)
    if steps[0] == "latent":
        copy.pop("seed", None)
    place: Any = copy
    for step, following in pairwise(steps):
        try:
            found = place[step]
        except (KeyError, IndexError, TypeError):
            raise InputError(name, f"names {path}, of which image has no {step}") from None
        found = list(found) if isinstance(found, tuple) else found
        if not isinstance(found, dict if isinstance(following, str) else list):
            raise InputError(name, f"names {path}, of which image has no {following}")
        place[step] = place = found.copy()
    if isinstance(steps[-1], int) and steps[-1] >= len(place):
        raise InputError(name, f"names {path}, which image does not have")
    place[steps[-1]] = value
    return copy


def _labels(body: SheetRequest, cell: tuple[int, int]) -> list[str]:
    labels = []
    for axis, index in zip((body.x, body.y), cell, strict=True):
        if axis is not None:
            value = axis.values[index]
            labels.append(axis.labels[index] if axis.labels else f"{axis.field.rpartition('.')[2]} {value}"[:_LABEL])
    return labels
