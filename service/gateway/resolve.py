"""From a picture that was asked for to one resolved RenderSpec, within the service's limits."""

import secrets
from dataclasses import dataclass

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.spec import DEFAULT_QUALITY, MAX_SEED, Encoding, Latent, RenderSpec
from model.viewport import Viewport
from service.catalog import DEMO_NAME, listing
from service.gateway.current_models import CurrentModels
from service.gateway.errors import TooLargeError, UnavailableError, UnknownModelError
from service.gateway.requests import QUERY_NAMES, ImageRequest

MAX_POSITIONS = 32_768
"""Most rows and columns together whose lines one request may need. A line costs as much as hundreds of pixels, so that
a picture of 262144×64 would take as long as one fifty times its area."""


FOR_LARGER_PICTURES = " for one request; POST /v1/jobs takes larger pictures"


@dataclass(frozen=True)
class Picture:
    """A picture as it will be drawn: ``spec`` has no default left, and its model is the checkpoint's digest."""

    checkpoint: Checkpoint
    seed: int
    spec: RenderSpec


async def resolve_request(request: ImageRequest, models: CurrentModels, max_pixels: int) -> Picture:
    """The picture that a request means, which is drawn while its client waits.

    Args:
        max_pixels: most pixels of the picture, as sent and as rendered before small pictures are averaged.

    Raises:
        InputError: names the field (of ImageRequest) and its limit. TooLargeError where it is ``max_pixels``.
        UnavailableError: there is no model at all.
    """
    picture = await resolve_picture(request, models)
    spec = picture.spec
    spec.encoding.check_size(*spec.viewport.crop[2:])
    check_work(spec.viewport, picture.checkpoint.config.resolution, max_pixels)
    check_positions(spec.viewport, picture.checkpoint.config.resolution)
    return picture


async def resolve_picture(request: ImageRequest, models: CurrentModels) -> Picture:
    """The picture that a request means, of any size.

    Raises:
        InputError: names the field (of ImageRequest) and its limit.
        UnavailableError: there is no model at all.
    """
    checkpoint = await _find(request.model, models)
    config = checkpoint.config
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    latent = Latent(
        seed=seed, class_index=request.class_index, psi=request.truncation_psi, cutoff=request.truncation_cutoff
    )
    latent.check(config)
    width = request.width or request.height or config.resolution
    height = request.height or width
    viewport = Viewport.resolve(width, height, request.region, request.crop, request.grid)
    quality = DEFAULT_QUALITY if request.format == "png" else request.quality  # the same bytes have one name
    spec = RenderSpec(checkpoint.digest, latent, viewport, Encoding(request.format, quality))
    return Picture(checkpoint, seed, spec)


async def resolve_address(request: ImageRequest, models: CurrentModels, max_pixels: int) -> Picture:
    """As :func:`resolve_request` for what an address asked; errors name the address's parameters.

    Raises:
        UnknownModelError: the model of the address is not served.
    """
    try:
        return await resolve_request(request, models, max_pixels)
    except InputError as error:
        if error.field == "model":
            raise UnknownModelError(error.field, error.message) from None
        raise type(error)(QUERY_NAMES.get(error.field, error.field), error.message) from None


async def _find(name: str | None, models: CurrentModels) -> Checkpoint:
    if name is not None:
        return await models.resolve(name)
    by_name = {checkpoint.name: checkpoint for checkpoint in await models.all()}
    if not by_name:
        raise UnavailableError("no model is served yet")
    if len(by_name) == 1:
        return next(iter(by_name.values()))
    if DEMO_NAME not in by_name:
        raise InputError("model", f"is needed, one of {listing(by_name)}")
    return by_name[DEMO_NAME]


def check_work(viewport: Viewport, resolution: int, max_pixels: int, advice: str = FOR_LARGER_PICTURES) -> None:
    """Raises TooLargeError where a picture is too large, or takes too much work for its size."""
    _, _, w, h = viewport.crop
    limit = f"above the limit of {max_pixels}{advice}"
    if viewport.pixels > max_pixels:
        raise TooLargeError("width", f"{w}×{h} is {viewport.pixels} pixels, {limit}")
    m_x, m_y = viewport.supersampling(resolution)
    if viewport.rendered_pixels(resolution) > max_pixels:
        rendered = f"{w * m_x}×{h * m_y} pixels, averaged {m_x}×{m_y} to one"
        raise TooLargeError("region", f"shows so much that it takes {rendered}, {limit}")


def check_positions(viewport: Viewport, resolution: int) -> None:
    """Raises TooLargeError where a picture needs more lines than one request may."""
    _, _, w, h = viewport.crop
    m_x, m_y = viewport.supersampling(resolution)
    if (positions := w * m_x + h * m_y) > MAX_POSITIONS:
        limit = f"above the limit of {MAX_POSITIONS}{FOR_LARGER_PICTURES}"
        raise TooLargeError("width", f"{w}×{h} takes {positions} rows and columns, {limit}")
