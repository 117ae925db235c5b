"""Logging as text or JSON, with context fields in every message."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]

logger = logging.getLogger(__name__)

LOG_FIELDS = "creps.log_fields"
"""Key of a request's scope: further fields of its log message."""

_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - it is never mutated


def configure_logging(level: str, log_format: LogFormat = "text") -> None:
    """Logs messages of ``level`` and above to stderr, as text or as one JSON object per line.

    In JSON, warnings and uncaught exceptions of Python are logged as such objects, too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # we log requests ourselves
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    if log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = lambda *error: logger.critical("uncaught exception", exc_info=error)


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Adds fields, such as ``request_id`` or ``job``, to every message that is logged in the block.

    Tasks that are started in the block inherit them; threads do not.
    """
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def current_log_context() -> Mapping[str, str]:
    """The fields that are added to messages at present."""
    return _context.get()


def merge(contexts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The fields of a message about several things: each has all its different values, separated by commas."""
    merged: dict[str, dict[str, None]] = {}
    for context in contexts:
        for name, value in context.items():
            merged.setdefault(name, {})[value] = None
    return {name: ",".join(values) for name, values in merged.items()}


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    """The formatter of one of the two formats. Both add the context fields."""
    if log_format == "text":
        return _TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    return _JsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"},
        rename_fields_keep_missing=False,
        timestamp="time",
    )


class _TextFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        return super().formatMessage(record) + "".join(f" {name}={value}" for name, value in _context.get().items())


class _JsonFormatter(JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data.update(_context.get())
