"""A job as it is kept in the object store, beside its files. Redis can be filled again from there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from service.imaging.order import Order, read_order

FOLDER = "jobs"
RECORD = "job.json"
"""Name of the object that holds a job. It is written before the job is accepted and deleted before its other files."""
WEBHOOK_SENT = "told"
"""Name of an empty object beside the record: the webhook of the job's success was sent."""


@dataclass(frozen=True)
class Webhook:
    """Where to post that a job has ended.

    ``base`` is the service's own address as its client saw it, without a slash at the end. Links begin with it.
    """

    url: str
    base: str


@dataclass(frozen=True)
class Job:
    """An export that a client has ordered.

    Attributes:
        id: 32 hex digits, random, and never used for another job.
        created: unix seconds.
        key: SHA-256 of the idempotency key, in hex digits.
        model_name: name of the model when the job was ordered; None for a job of an earlier version.
        labels: given by the client.
        owner: whose API key ordered the job; None if it was ordered without a key, and for a job of an earlier version.
    """

    id: str
    created: float
    export: Order
    webhook: Webhook | None = None
    key: str | None = None
    model_name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None

    @property
    def folder(self) -> str:
        """The job's folder in the object store."""
        return f"{FOLDER}/{self.id}"

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def to_json(self) -> str:
        webhook = None if self.webhook is None else asdict(self.webhook)
        export = json.loads(self.export.to_json())
        values = {"id": self.id, "created": self.created, "order": export, "webhook": webhook, "key": self.key}
        return json.dumps(values | self.details() | {"owner": self.owner})

    def details(self) -> dict[str, Any]:
        """What is only told to clients, as JSON values."""
        return {"model_name": self.model_name, "labels": dict(self.labels)}

    @classmethod
    def from_json(cls, text: str | bytes) -> "Job":
        """The inverse of :meth:`to_json`. Raises ValueError, KeyError or TypeError for other text."""
        values = json.loads(text)
        export = read_order(json.dumps(values["order"]))
        webhook = Webhook(**values["webhook"]) if values.get("webhook") else None
        details = values.get("model_name"), values.get("labels", {}), values.get("owner")
        return cls(values["id"], values["created"], export, webhook, values.get("key"), *details)
