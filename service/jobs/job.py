"""A job as it is kept in the object store, beside its files: enough to begin it again where Redis has lost it."""

import json
from dataclasses import dataclass

from service.outputs.order import Order

FOLDER = "jobs"
RECORD = "job.json"


@dataclass(frozen=True)
class Job:
    """An order that somebody gave.

    Attributes:
        id: 32 hex digits.
        created: unix seconds.
    """

    id: str
    created: float
    order: Order

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
        return json.dumps({"id": self.id, "created": self.created, "order": json.loads(self.order.to_json())})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Job":
        """The inverse of :meth:`to_json`. Raises ValueError, KeyError or TypeError for what it did not write."""
        values = json.loads(text)
        return cls(values["id"], values["created"], Order.from_json(json.dumps(values["order"])))
