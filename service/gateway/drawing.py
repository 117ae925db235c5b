"""A picture from the cache or from the workers, while its client waits."""

from starlette.requests import Request

from model.spec import RenderSpec
from service.gateway import caching
from service.gateway.access import key_of
from service.gateway.connection import while_connected
from service.gateway.errors import BudgetExceededError
from service.gateway.middleware import DRAWN
from service.gateway.services import Services
from service.queue import QueueFull, RenderResult


async def draw(spec: RenderSpec, request: Request, services: Services) -> RenderResult:
    """The picture of a resolved spec, drawn by a worker where it is not cached, unless all who asked for it leave.

    Its pixels are charged to the key of the one for whom it is drawn, unless the queue is full.

    Raises:
        UnavailableError: no worker is alive, or clients are taking their pictures too slowly.
        ClientGoneError: nobody waits any more.
        BudgetExceededError: the key of this request may not have it drawn.
        redis.exceptions.RedisError: at once where the queue is known to be lost. Others as RenderClient.render.
    """
    key = key_of(request)
    priority = key.priority if key else "interactive"
    timeout = services.settings.request_timeout

    request.scope[DRAWN] = {"model": spec.model, "seed": spec.latent.seed}

    services.client.require()

    async def render(seconds: float) -> RenderResult:
        services.client.require()  # it may have been lost while the cache was asked
        services.answers.require_room()
        await services.workers.require()
        if key is None:
            return await services.client.render(spec, seconds, priority)
        checkpoint = await services.models.resolve(spec.model)
        pixels = spec.viewport.rendered_pixels(checkpoint.config.resolution)
        await services.budgets.charge_pixels(key, pixels)
        try:
            return await services.client.render(spec, seconds, priority)
        except QueueFull:
            await services.budgets.give_back_pixels(key, pixels)
            raise

    while True:
        fetching = services.cache.fetch(caching.picture_key(spec), render, timeout, priority)
        try:
            return await while_connected(request, fetching)
        except BudgetExceededError as error:
            if key and error.key_name == key.name:
                raise
            # Another asked for the same picture before us and may not have it: now it is ours to ask for.


def server_timing(result: RenderResult) -> str:
    """The header Server-Timing of a picture: its times in ms, and ``cache`` where it was not drawn for this answer."""
    timings = {"queue": result.queue_seconds, "render": result.render_seconds, "encode": result.encode_seconds}
    entries = [f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in timings.items()]
    if result.cache != "miss":
        entries.append(f'cache;desc="{result.cache}"')
    return ", ".join(entries)
