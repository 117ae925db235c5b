"""Tells webhooks of ended jobs, as standardwebhooks.com has it: signed, at least once, tried again for a day.

Every gateway sends. Who takes a job from the list has it for a while; should it die, another takes it then.
"""

import asyncio
import json
import logging
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpcore
from redis.exceptions import RedisError
from standardwebhooks import Webhook as Signature

from service import metrics
from service.gateway.job_status import describe
from service.gateway.public_network import PublicNetwork
from service.gateway.services import Services
from service.jobs.board import Status, UnknownJobError
from service.jobs.job import TOLD, Webhook
from service.outputs.store import STORE_ERRORS, put_once

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Messages that a gateway sends at once: a slow receiver must not keep the others waiting."""

LOOK_SECONDS = 1.0
"""Between two looks whether there is anybody to be told."""

ANSWER_SECONDS = 15.0
"""From the first packet to the answer's head, as the specification advises (15 to 30 s)."""

CLAIM_SECONDS = 2 * ANSWER_SECONDS

RETRY_SECONDS = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""After each failed attempt, until the next: some 18 hours in all."""

GONE = 410
"""A receiver answers so to be told no more."""


class Webhooks:
    """Sends for one gateway. :meth:`run` goes on until it is cancelled."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._services = services
        self._signatures = [Signature(secret.get_secret_value()) for secret in settings.webhook_secrets]
        self._network = httpcore.AnyIOBackend() if settings.webhook_private else PublicNetwork()

    async def run(self) -> None:
        """Takes one job after another. Outlives Redis."""
        if not self._signatures:
            return
        async with httpcore.AsyncConnectionPool(network_backend=self._network, max_keepalive_connections=0) as pool:
            # No TaskGroup: it hands on one cancellation alone, which may be swallowed (see stop_task). With
            # return_exceptions, a cancelled gather waits for the end of all.
            await asyncio.gather(*(self._serve(pool) for _ in range(AT_ONCE)), return_exceptions=True)

    async def _serve(self, pool: httpcore.AsyncConnectionPool) -> None:
        while True:
            try:
                claimed = await self._services.jobs.claim_webhook(CLAIM_SECONDS)
                if claimed is not None:
                    await self._tell(pool, *claimed)
                    continue
            except RedisError as error:
                logger.warning("webhooks cannot be told: %s", error)
            except Exception:
                logger.exception("a webhook could not be told")  # it comes again
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell(self, pool: httpcore.AsyncConnectionPool, job_id: str, tries: int) -> None:
        board = self._services.jobs
        try:
            status = await board.status(job_id)
        except UnknownJobError:
            return None  # it was removed meanwhile
        webhook = status.job.webhook
        assert webhook is not None  # noqa: S101 - only jobs that have one are listed
        answer = await self._send(pool, status, webhook)
        problem = f"it answered {answer}" if isinstance(answer, int) else answer
        host = urlsplit(webhook.url).hostname  # not the whole address, which may hold a secret
        if answer is None:
            await self._note(status)
            metrics.WEBHOOKS.labels("sent").inc()
            logger.info("%s was told that job %s %s", host, job_id, status.state)
            return await board.settle_webhook(job_id, "sent")
        if answer == GONE or tries >= len(RETRY_SECONDS):
            metrics.WEBHOOKS.labels("failed").inc()
            logger.error("%s is not told that job %s %s: %s", host, job_id, status.state, problem)
            return await board.settle_webhook(job_id, "failed")
        metrics.WEBHOOKS.labels("retried").inc()
        logger.warning("%s shall be told of job %s in %g s again: %s", host, job_id, RETRY_SECONDS[tries], problem)
        return await board.settle_webhook(job_id, "waiting", RETRY_SECONDS[tries])

    async def _send(self, pool: httpcore.AsyncConnectionPool, status: Status, webhook: Webhook) -> str | int | None:
        """Posts the message. Returns what went wrong, or a status that is none of success."""
        content = await self._message(status, webhook)
        headers = {"Content-Type": "application/json", "User-Agent": "creps-serve"} | self._sign(status.job.id, content)
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                pool.stream("POST", webhook.url, headers=list(headers.items()), content=content.encode()) as answer,
            ):
                return None if 200 <= answer.status < 300 else answer.status
        except TimeoutError:
            return f"no answer within {ANSWER_SECONDS:g} s"
        except (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return str(error) or type(error).__name__

    async def _message(self, status: Status, webhook: Webhook) -> str:
        job = (await describe(status, webhook.base, self._services)).model_dump(mode="json", exclude={"webhook"})
        return json.dumps({"type": f"job.{status.state}", "timestamp": job["finished"], "data": job})

    def _sign(self, job_id: str, content: str) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "webhook-id": job_id,  # the same for every attempt, so that a receiver can tell what it knows
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signature.sign(job_id, now, content) for signature in self._signatures),
        }

    async def _note(self, status: Status) -> None:
        """In the store, so that a Redis which forgets does not tell again."""
        if status.state == "succeeded":
            try:
                await put_once(self._services.outputs, status.job.path(TOLD), b"")
            except STORE_ERRORS as error:
                logger.warning("job %s: that its webhook was told cannot be noted: %s", status.job.id, error)
