"""Renders one image while its client waits: cache, rate limit, queue."""

from starlette.requests import Request

from service.gateway import http_cache
from service.gateway.disconnect import cancel_on_disconnect
from service.gateway.errors import UnavailableError
from service.gateway.middleware.auth import key_of
from service.gateway.resolve import ResolvedImage
from service.gateway.state import AppState
from service.queue.messages import DeadlinePassed, QueueFull, RenderResult
from service.runtime.logs import LOG_FIELDS

SHORT_DIGEST = 12
"""Hexadecimal digits of a model's digest in log lines."""


async def render_image(image: ResolvedImage, request: Request, app_state: AppState) -> RenderResult:
    """Returns an image from the cache, or has a worker render it.

    The render is cancelled when all clients that wait for it have disconnected. Its pixels are charged to the API key
    of the request that started it, and refunded if the queue is full.

    Raises:
        UnavailableError: no worker is alive, or too many bytes of images are being sent to slow clients.
        ClientDisconnectedError: the client disconnected.
        RateLimitExceededError: the key of this request has no pixels left.
        redis.exceptions.RedisError: the image is not cached, and the queue does not answer.
        DeadlinePassed, QueueFull, RenderFailed: see RenderClient.render.
    """
    spec, key = image.spec, key_of(request)
    priority = key.priority if key else "interactive"
    request.scope[LOG_FIELDS] = {"model": spec.model[:SHORT_DIGEST]}
    if spec.latent.seed is not None:
        request.scope[LOG_FIELDS]["seed"] = spec.latent.seed

    async def render(seconds: float) -> RenderResult:
        app_state.in_flight.require_room()
        await app_state.workers.require()
        config = image.checkpoint.config
        pixels = spec.viewport.rendered_pixels(config.resolution, config.max_scale)
        await app_state.rate_limits.charge_pixels(key, pixels)
        try:
            return await app_state.client.render(spec, seconds, priority)
        except QueueFull:
            await app_state.rate_limits.refund_pixels(key, pixels)
            raise

    timeout = app_state.settings.request_timeout
    fetching = app_state.cache.fetch(http_cache.image_key(spec), render, timeout, priority)
    try:
        result = await cancel_on_disconnect(request, fetching)
    except DeadlinePassed:
        if not await app_state.workers.recent():
            raise UnavailableError("no worker is alive") from None
        raise
    app_state.arithmetics[spec.model] = result.arithmetic
    return result


def server_timing(result: RenderResult) -> str:
    """Returns the Server-Timing header: times in ms, and ``cache`` if the image was not rendered for this answer."""
    timings = {"queue": result.queue_seconds, "render": result.render_seconds, "encode": result.encode_seconds}
    entries = [f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in timings.items()]
    if result.cache != "miss":
        entries.append(f'cache;desc="{result.cache}"')
    return ", ".join(entries)
