"""A LitServe server of the demo network's pictures: ``python -m service.benchmark.litserve_server PORT``."""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
from starlette.responses import Response

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.spec import Encoding, Latent, RenderSpec
from model.viewport import Viewport
from service.catalog import DEMO, DEMO_NAME
from service.encode import encode
from service.settings import Settings


class PictureApi(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """Renders the requests that wait as one batch, and encodes them in threads."""

    def setup(self, device: str) -> None:
        self.renderer = Renderer(Checkpoint.open(DEMO), device)
        self.encoders = ThreadPoolExecutor()

    def decode_request(self, request: dict[str, Any]) -> RenderSpec:
        viewport = Viewport.resolve(request["width"], request["height"])
        return RenderSpec(DEMO_NAME, Latent(seed=request["seed"]), viewport, Encoding("jpeg"))

    def predict(self, specs: Sequence[RenderSpec]) -> list[bytes]:
        began = time.perf_counter()
        pictures = self.renderer.render_batch(specs)
        self.render_ms = 1000 * (time.perf_counter() - began)
        return list(self.encoders.map(encode, pictures, [spec.encoding for spec in specs]))

    def encode_response(self, content: bytes) -> Response:
        timing = {"Server-Timing": f"render;dur={self.render_ms:.2f}"}  # as ours
        return Response(content, headers=timing, media_type="image/jpeg")


if __name__ == "__main__":
    api = PictureApi(max_batch_size=Settings.model_fields["batch_limit"].default)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
