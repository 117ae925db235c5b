"""What the routes work with, made once for an application."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.gateway.answers import AnswersUnderWay
from service.gateway.budgets import Budgets
from service.gateway.current_models import CurrentModels
from service.gateway.workers import Workers
from service.jobs.board import Board
from service.outputs.store import Store
from service.picture_cache import PictureCache
from service.render_client import RenderClient
from service.settings import Settings

STITCHED_AT_ONCE = 2
"""Answers that gateways make themselves at once: from stored tiles, or turned. One of 4096² takes some 200 MB."""


@dataclass(frozen=True)
class Services:
    """
    Attributes:
        draining: set once no more requests shall be sent here.
        leaving: set once what goes on for long shall end.
    """

    settings: Settings
    models: CurrentModels
    client: RenderClient
    workers: Workers
    jobs: Board
    outputs: Store
    cache: PictureCache
    budgets: Budgets
    answers: AnswersUnderWay
    stitching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STITCHED_AT_ONCE))
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)


async def _services(request: Request) -> Services:  # async: FastAPI would run a plain function in a thread
    services: Services = request.app.state.services
    return services


ServicesOfApp = Annotated[Services, Depends(_services)]
