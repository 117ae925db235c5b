"""A job as it is kept in the object store, beside its files: enough to begin it again where Redis has lost it."""

import json
from dataclasses import asdict, dataclass

from service.outputs.order import Order

FOLDER = "jobs"
RECORD = "job.json"
TOLD = "told"
"""An empty object beside the record, once the job's webhook has been told of its success."""


@dataclass(frozen=True)
class Webhook:
    """Whom to tell of a job's end.

    Attributes:
        url: where the message is posted.
        base: the service's own address as its client saw it, without a slash at the end: messages link to it.
    """

    url: str
    base: str


@dataclass(frozen=True)
class Job:
    """An order that somebody gave.

    Attributes:
        id: 32 hex digits, made up for it. No other job ever has them, so what is kept under an id is never of another.
        created: unix seconds.
        key: SHA-256 of the idempotency key that it was ordered with, in hex digits.
    """

    id: str
    created: float
    order: Order
    webhook: Webhook | None = None
    key: str | None = None

    @property
    def folder(self) -> str:
        """Where everything of the job is, in the object store."""
        return f"{FOLDER}/{self.id}"

    @property
    def record(self) -> str:
        """The object that holds this, written before the job is accepted and deleted before anything else of it."""
        return f"{self.folder}/{RECORD}"

    def path(self, name: str) -> str:
        """The object of that name among the job's files."""
        return f"{self.folder}/{name}"

    def to_json(self) -> str:
        webhook = None if self.webhook is None else asdict(self.webhook)
        order = json.loads(self.order.to_json())
        values = {"id": self.id, "created": self.created, "order": order, "webhook": webhook, "key": self.key}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Job":
        """The inverse of :meth:`to_json`. Raises ValueError, KeyError or TypeError for what it did not write."""
        values = json.loads(text)
        order = Order.from_json(json.dumps(values["order"]))
        webhook = Webhook(**values["webhook"]) if values.get("webhook") else None
        return cls(values["id"], values["created"], order, webhook, values.get("key"))
