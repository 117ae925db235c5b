"""The models that are served."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from model.checkpoint import Checkpoint
from service.gateway.errors import responses
from service.gateway.state import AppState, CurrentAppState
from service.models.catalog import DEMO_NAME

router = APIRouter(tags=["models"])


class Model(BaseModel):
    """A checkpoint that is served."""

    name: str = Field(examples=["demo"])
    digest: str = Field(description="sha256 of the checkpoint file", pattern="^[0-9a-f]{64}$", examples=["9f" * 32])
    resolution: int = Field(
        description="side of the training images in pixels; images of any size can be rendered", examples=[64]
    )
    max_scale: float = Field(
        description="the network has learnt the detail of images of this many times the resolution", examples=[1.0]
    )
    classes: int = Field(description="number of classes; 0 for an unconditional model", examples=[0])
    class_names: list[str] = Field(
        description="names of the first classes, which requests may use; may be empty", examples=[[]]
    )
    styles: int = Field(description="largest truncation_cutoff", examples=[11])
    state: Literal["loaded", "available"] = Field(
        description="loaded: a worker has it in memory; available: it is loaded on request", examples=["loaded"]
    )
    info: dict[str, Any] = Field(
        description="metadata from training or import, such as source and licence", examples=[{"license": "CC0"}]
    )


class Models(BaseModel):
    models: list[Model]


@router.head("/v1/models", include_in_schema=False)
@router.get("/v1/models", summary="List the models", responses=responses(401, 503))
async def list_models(app_state: CurrentAppState) -> Models:
    """All models that are served, ordered by name."""
    loaded = await _loaded(app_state)
    return Models(models=[_model(checkpoint, loaded) for checkpoint in await app_state.models.all()])


@router.head("/v1/models/{name}", include_in_schema=False)
@router.get("/v1/models/{name}", summary="Describe a model", responses=responses(401, 404, 422, 503))
async def get_model(
    name: Annotated[str, Path(description="name or digest", examples=[DEMO_NAME])], app_state: CurrentAppState
) -> Model:
    """The model of that name or digest."""
    checkpoint = await app_state.models.resolve(name)
    return _model(checkpoint, await _loaded(app_state))


async def _loaded(app_state: AppState) -> set[str]:
    return {digest for worker in await app_state.workers.refresh() for digest in worker.models}


def _model(checkpoint: Checkpoint, loaded: set[str]) -> Model:
    return Model(
        name=checkpoint.name,
        digest=checkpoint.digest,
        resolution=checkpoint.config.resolution,
        max_scale=checkpoint.config.max_scale,
        classes=checkpoint.config.classes,
        class_names=checkpoint.class_names,
        styles=checkpoint.config.num_ws,
        state="loaded" if checkpoint.digest in loaded else "available",
        info=dict(checkpoint.info),
    )
