"""A LitServe server for images of the demo network: ``python -m service.benchmark.litserve_server PORT [SECONDS]``.

With SECONDS its renderer only waits as long for each image, as that of null_worker.py.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
from starlette.responses import Response

from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.models.catalog import DEMO, DEMO_NAME
from service.worker.model_cache import RendererLike
from service.worker.worker import CPU_BATCH, GPU_BATCH


class ImageApi(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """Renders waiting requests in one batch and encodes them in threads."""

    renderer: RendererLike

    def setup(self, device: str) -> None:
        from kernels.renderer import Renderer
        from service.imaging.encode import encode

        self.renderer = Renderer(Checkpoint.open(DEMO), device)
        self.encoders = ThreadPoolExecutor()
        self.encode = encode

    def decode_request(self, request: dict[str, Any]) -> RenderSpec:
        viewport = Viewport.resolve(request["width"], request["height"])
        return RenderSpec(DEMO_NAME, Latent(seed=request["seed"]), viewport, Encoding("jpeg"))

    def predict(self, specs: Sequence[RenderSpec]) -> list[bytes]:
        began = time.perf_counter()
        images = self.renderer.render_batch(specs, wanted=[lambda: True] * len(specs))
        self.render_ms = 1000 * (time.perf_counter() - began)
        return list(self.encoders.map(self.encode, images, [spec.encoding for spec in specs]))

    def encode_response(self, content: bytes) -> Response:
        timing = {"Server-Timing": f"render;dur={self.render_ms:.2f}"}
        return Response(content, headers=timing, media_type="image/jpeg")


class NullApi(ImageApi):
    """Waits in place of rendering, and encodes nothing."""

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self.seconds = seconds

    def setup(self, device: str) -> None:
        from service.benchmark.null_worker import CONTENT, NullRenderer

        self.renderer = NullRenderer(self.seconds)
        self.content = CONTENT

    def predict(self, specs: Sequence[RenderSpec]) -> list[bytes]:
        self.render_ms = 1000 * self.seconds * len(specs)
        self.renderer.render_batch(specs, wanted=[lambda: True] * len(specs))
        return [self.content] * len(specs)


if __name__ == "__main__":
    api = (
        NullApi(float(sys.argv[2]), max_batch_size=GPU_BATCH)
        if len(sys.argv) > 2
        else ImageApi(max_batch_size=CPU_BATCH)
    )
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
