"""Answers requests whose images were rendered."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from redis.exceptions import RedisError

from model.spec import RenderSpec
from service.queue.consumer import Consumer, QueuedRender
from service.queue.messages import RenderFailed, RenderRequest, Reply, ReplyHeader
from service.runtime import worker_metrics as metrics
from service.runtime.logs import log_context
from service.runtime.metrics import labelled
from service.runtime.tracing import record_span
from service.worker.encoders import as_ready
from service.worker.render_executor import Outcome, PixelArray, to_failure

logger = logging.getLogger(__name__)

Encode = Callable[[PixelArray, RenderSpec], bytes]


class Responder:
    """Encodes images in threads, and replies.

    Args:
        encoders: ``threads`` threads.
        arithmetics: of the loaded models by their digests, as ETags name them.
    """

    def __init__(
        self,
        consumer: Consumer,
        encode: Encode,
        encoders: ThreadPoolExecutor,
        threads: int,
        arithmetics: Mapping[str, str],
    ) -> None:
        self._consumer = consumer
        self._encode = encode
        self._encoders, self._threads = encoders, threads
        self._arithmetics = arithmetics

    async def drop_unwanted(self, items: Sequence[QueuedRender]) -> list[QueuedRender]:
        """Drop requests whose clients have gone or whose deadlines have passed, and return the others."""
        wanted, unwanted = list[QueuedRender](), list[QueuedRender]()
        for item in items:
            (wanted if item.is_wanted() else unwanted).append(item)
        for item in unwanted:
            metrics.DROPPED_REQUESTS.labels("cancelled" if item.cancelled else "deadline").inc()
        if unwanted:
            with contextlib.suppress(RedisError):  # then they are delivered again, and dropped again
                await self._consumer.drop(unwanted)
        return wanted

    async def reply(self, rendered: Sequence[tuple[QueuedRender, Outcome]], seconds: float) -> None:
        """Answer a batch that was rendered in ``seconds``. Replies that are ready at the same time are sent in one
        transaction."""
        images = {item.entry: image for item, image in rendered}
        wanted = await self.drop_unwanted([item for item, _ in rendered])
        jobs = [partial(self._make_reply, item, images[item.entry], seconds) for item in wanted]
        async for replies in as_ready(jobs, self._encoders, self._threads):
            try:
                await self._consumer.reply(replies)
            except RedisError as error:
                logger.warning("%d requests could not be answered: %s", len(replies), error)

    def _make_reply(self, item: QueuedRender, image: Outcome, render_seconds: float) -> tuple[QueuedRender, Reply]:
        """Runs in an encoding thread."""
        request = item.request
        if isinstance(image, RenderFailed):
            return item, (ReplyHeader.of_failure(request.id, image), b"")
        try:
            return item, self._encode_reply(request, image, render_seconds)
        except Exception as error:
            with log_context(**request.context):
                return item, (ReplyHeader.of_failure(request.id, to_failure(error)), b"")

    def _encode_reply(self, request: RenderRequest, image: PixelArray, render_seconds: float) -> Reply:
        image_format = request.spec.encoding.format
        now, started = time.time(), time.perf_counter()
        content = image.tobytes() if request.wanted == "styles" else self._encode(image, request.spec)
        seconds = time.perf_counter() - started
        labelled(metrics.ENCODE_DURATION, image_format).observe(seconds)
        record_span("encode", request.traceparent, now, now + seconds, format=image_format, bytes=len(content))
        return ReplyHeader(request.id, render_seconds, seconds, self._arithmetics[request.spec.model]), content
