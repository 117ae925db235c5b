"""Where log messages go, in which format, and what they are about."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]

logger = logging.getLogger(__name__)

_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - it is never changed


def configure_logging(level: str, log_format: LogFormat = "text") -> None:
    """Messages of ``level`` and above go to stderr: as text for people, or as one JSON object a line for programs.

    As JSON, what Python itself would print to stderr is such an object, too: warnings, and what ends the process.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says beside warnings, we say ourselves
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    if log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = lambda *error: logger.critical("ended by an unexpected error", exc_info=error)


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Every message of the block is about these: ``request_id``, ``job`` … They are added to those already set.

    Tasks that the block starts keep them; threads do not.
    """
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def current_log_context() -> Mapping[str, str]:
    """What messages are about at present."""
    return _context.get()


def merge(contexts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What a message is about that is about all of them: each field has every value once, separated by commas."""
    merged: dict[str, dict[str, None]] = {}
    for context in contexts:
        for name, value in context.items():
            merged.setdefault(name, {})[value] = None
    return {name: ",".join(values) for name, values in merged.items()}


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    """The formatter of one of the two formats. Both add what the message is about."""
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
