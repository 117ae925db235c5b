"""The models that can be drawn."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from model.checkpoint import Checkpoint
from model.errors import InputError
from service.catalog import DEMO_NAME
from service.gateway.errors import UnknownModelError
from service.gateway.problems import responses
from service.gateway.services import Services, ServicesOfApp

router = APIRouter(tags=["models"])


class Model(BaseModel):
    """A checkpoint that is served."""

    name: str = Field(examples=["demo"])
    digest: str = Field(description="sha256 of the checkpoint file", pattern="^[0-9a-f]{64}$")
    resolution: int = Field(description="side of the training pictures in pixels; pictures of any size can be drawn")
    classes: int = Field(description="number of classes; 0 for an unconditional model")
    styles: int = Field(description="largest truncation_cutoff")
    state: Literal["loaded", "available"] = Field(
        description="loaded: a worker holds it; else it is loaded when asked for"
    )
    info: dict[str, Any] = Field(description="what its trainer or importer noted, such as source and licence")


class Models(BaseModel):
    models: list[Model]


@router.head("/v1/models", include_in_schema=False)
@router.get("/v1/models", summary="List the models", responses=responses(401, 503))
async def list_models(services: ServicesOfApp) -> Models:
    """All models that are served, ordered by name."""
    loaded = await _loaded(services)
    return Models(models=[_model(checkpoint, loaded) for checkpoint in await services.models.all()])


@router.head("/v1/models/{name}", include_in_schema=False)
@router.get("/v1/models/{name}", summary="Describe a model", responses=responses(401, 404, 422, 503))
async def get_model(
    name: Annotated[str, Path(description="name or digest", examples=[DEMO_NAME])], services: ServicesOfApp
) -> Model:
    """The model of that name or digest."""
    try:
        checkpoint = await services.models.resolve(name)
    except InputError as error:
        raise UnknownModelError(error.field, error.message) from None
    return _model(checkpoint, await _loaded(services))


async def _loaded(services: Services) -> set[str]:
    return {digest for worker in await services.workers.look() for digest in worker.models}


def _model(checkpoint: Checkpoint, loaded: set[str]) -> Model:
    return Model(
        name=checkpoint.name,
        digest=checkpoint.digest,
        resolution=checkpoint.config.resolution,
        classes=checkpoint.config.classes,
        styles=checkpoint.config.num_ws,
        state="loaded" if checkpoint.digest in loaded else "available",
        info=dict(checkpoint.info),
    )
