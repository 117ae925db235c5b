"""What the service accepts, for clients that let people choose; and its version."""

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel, Field

from model.latents.latent import MAX_SEED, PSI_BOUNDS
from model.spec import MAX_SIDES, ImageFormat
from model.viewport import MAX_SIDE, MIN_REGION_EXTENT, REGION_BOUNDS
from service.gateway.errors import responses
from service.gateway.resolve import MAX_POSITIONS
from service.gateway.state import CurrentAppState

router = APIRouter(tags=["operation"])


class Limits(BaseModel):
    max_image_pixels: int = Field(description="most pixels of one image, as sent and as rendered", examples=[1 << 24])
    max_image_positions: int = Field(
        description="most rows plus columns of one image, as rendered", examples=[MAX_POSITIONS]
    )
    max_job_pixels: int = Field(
        description="most pixels of one job's image, as sent and as rendered", examples=[1 << 32]
    )
    max_side: int = Field(description="longest side of a whole image in pixels", examples=[MAX_SIDE])
    max_sides: dict[ImageFormat, int] = Field(
        description="longest side of an image file in pixels, by format", examples=[MAX_SIDES]
    )
    request_timeout: float = Field(description="seconds until a request times out; jobs may take longer", examples=[60])
    max_seed: int = Field(examples=[MAX_SEED])
    truncation_psi: list[float] = Field(description="lowest and highest truncation", examples=[[*PSI_BOUNDS]])
    region: list[float] = Field(description="lowest and highest coordinate of a region", examples=[[*REGION_BOUNDS]])
    min_region_extent: float = Field(description="smallest width or height of a region", examples=[MIN_REGION_EXTENT])


class Version(BaseModel):
    version: str = Field(examples=["0.1.0"])


@router.head("/v1/limits", include_in_schema=False)
@router.get("/v1/limits", summary="What is accepted", responses=responses(401))
async def get_limits(app_state: CurrentAppState) -> Limits:
    """Limits of requests for images and jobs at this service."""
    return Limits(
        max_image_pixels=app_state.settings.max_image_pixels,
        max_image_positions=MAX_POSITIONS,
        max_job_pixels=app_state.settings.max_job_pixels,
        max_side=MAX_SIDE,
        max_sides=MAX_SIDES,
        request_timeout=app_state.settings.request_timeout,
        max_seed=MAX_SEED,
        truncation_psi=list(PSI_BOUNDS),
        region=list(REGION_BOUNDS),
        min_region_extent=MIN_REGION_EXTENT,
    )


@router.head("/version", include_in_schema=False)
@router.get("/version", summary="The program's version")
async def get_version() -> Version:
    """The version of this gateway."""
    return Version(version=version("creps-serve"))
