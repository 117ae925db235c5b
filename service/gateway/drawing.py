"""A picture from the workers, while its client waits."""

from starlette.requests import Request

from model.spec import RenderSpec
from service.gateway.connection import while_connected
from service.gateway.services import Services
from service.queue import RenderResult


async def draw(spec: RenderSpec, request: Request, services: Services) -> RenderResult:
    """Has a worker draw a resolved spec, unless the client of ``request`` leaves.

    Raises:
        UnavailableError: no worker is alive. ClientGoneError: nobody waits any more. Others as RenderClient.render.
    """
    await services.workers.require()
    return await while_connected(request, services.client.render(spec, timeout=services.settings.request_timeout))
