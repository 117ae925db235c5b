"""Webhooks of ended jobs, as standardwebhooks.com specifies: signed, at least once, retried for a day.

Every gateway sends. It claims a job for CLAIM_SECONDS; if it dies, another gateway claims the job after that.
"""

import asyncio
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

import httpcore
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from standardwebhooks import Webhook as Signature

from service.gateway.job_status import JobStatus, describe
from service.gateway.ssrf import PublicNetwork
from service.gateway.state import AppState
from service.imaging.object_store import STORE_ERRORS, put_once
from service.jobs.job import WEBHOOK_SENT, Webhook
from service.jobs.repository import UnknownJobError
from service.jobs.status import Status
from service.runtime import gateway_metrics as metrics

logger = logging.getLogger(__name__)

CONCURRENCY = 4
"""Messages that a gateway sends at once: a slow receiver must not delay the others."""

POLL_SECONDS = 1.0
"""Interval at which Redis is asked for ended jobs."""

RESPONSE_TIMEOUT = 15.0
"""Seconds for connection and response; the specification recommends 15 to 30."""

CLAIM_SECONDS = 2 * RESPONSE_TIMEOUT

RETRY_SECONDS = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""Delay after each failed attempt, about 18 hours in total."""


class WebhookMessage(BaseModel):
    """The body that is posted to a job's webhook when the job has ended."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled"]
    timestamp: datetime = Field(description="when the job ended")
    data: JobStatus = Field(description="the job, without `webhook`")


class Webhooks:
    """Sends the webhooks of one gateway, until :meth:`run` is cancelled."""

    def __init__(self, app_state: AppState) -> None:
        settings = app_state.settings
        self._app_state = app_state
        self._signatures = [Signature(secret.get_secret_value()) for secret in settings.webhook_secrets]
        self._network = httpcore.AnyIOBackend() if settings.webhook_private else PublicNetwork()

    async def run(self) -> None:
        """Send webhooks, also after outages of Redis."""
        if not self._signatures:
            return
        async with httpcore.AsyncConnectionPool(network_backend=self._network, max_keepalive_connections=0) as pool:
            # Not a TaskGroup: it passes on a cancellation once, and that one may be swallowed (see stop_task). With
            # return_exceptions, a cancelled gather waits until all have ended.
            await asyncio.gather(*(self._work(pool) for _ in range(CONCURRENCY)), return_exceptions=True)

    async def _work(self, pool: httpcore.AsyncConnectionPool) -> None:
        while True:
            try:
                claimed = await self._app_state.jobs.claim_webhook(CLAIM_SECONDS)
                if claimed is not None:
                    await self._deliver(pool, *claimed)
                    continue
            except RedisError as error:
                logger.warning("webhooks cannot be sent: %s", error)
            except Exception:
                logger.exception("a webhook could not be sent")  # it is claimed again
            await asyncio.sleep(POLL_SECONDS)

    async def _deliver(self, pool: httpcore.AsyncConnectionPool, job_id: str, tries: int) -> None:
        repository = self._app_state.jobs
        try:
            status = await repository.status(job_id)
        except UnknownJobError:
            return None  # removed meanwhile
        webhook = status.job.webhook
        assert webhook is not None  # noqa: S101 - only jobs with a webhook are claimed
        answer = await self._send(pool, status, webhook)
        problem = f"status {answer}" if isinstance(answer, int) else answer
        host = urlsplit(webhook.url).hostname  # the rest of the address may contain a secret
        if answer is None:
            await self._record(status)
            metrics.WEBHOOKS.labels("sent").inc()
            logger.info("webhook of job %s (%s) sent to %s", job_id, status.state, host)
            return await repository.settle_webhook(job_id, "sent")
        if answer == HTTPStatus.GONE or tries >= len(RETRY_SECONDS):
            metrics.WEBHOOKS.labels("failed").inc()
            logger.error("webhook of job %s (%s) to %s failed: %s", job_id, status.state, host, problem)
            return await repository.settle_webhook(job_id, "failed")
        metrics.WEBHOOKS.labels("retried").inc()
        delay = RETRY_SECONDS[tries]
        logger.warning("webhook of job %s to %s failed, retry in %g s: %s", job_id, host, delay, problem)
        return await repository.settle_webhook(job_id, "waiting", delay)

    async def _send(self, pool: httpcore.AsyncConnectionPool, status: Status, webhook: Webhook) -> str | int | None:
        """Post the message. Returns an error message or status, None after success."""
        content = await self._message(status, webhook)
        headers = {"Content-Type": "application/json", "User-Agent": "creps-serve"} | self._sign(status.job.id, content)
        try:
            async with (
                asyncio.timeout(RESPONSE_TIMEOUT),
                pool.stream("POST", webhook.url, headers=list(headers.items()), content=content.encode()) as answer,
            ):
                return None if 200 <= answer.status < 300 else answer.status
        except TimeoutError:
            return f"no response within {RESPONSE_TIMEOUT:g} s"
        except (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return str(error) or type(error).__name__

    async def _message(self, status: Status, webhook: Webhook) -> str:
        job = await describe(status, webhook.base, self._app_state)
        message = WebhookMessage.model_validate({"type": f"job.{status.state}", "timestamp": job.finished, "data": job})
        return message.model_dump_json(exclude={"data": {"webhook"}})

    def _sign(self, job_id: str, content: str) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "webhook-id": job_id,  # the same for every attempt, so that receivers can ignore duplicates
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signature.sign(job_id, now, content) for signature in self._signatures),
        }

    async def _record(self, status: Status) -> None:
        """Record in the store that the webhook was sent, so that it is not sent again if Redis loses its data."""
        if status.state == "succeeded":
            try:
                await put_once(self._app_state.outputs, status.job.path(WEBHOOK_SENT), b"")
            except STORE_ERRORS as error:
                logger.warning("job %s: the store cannot record that its webhook was sent: %s", status.job.id, error)
