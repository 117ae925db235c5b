"""OpenTelemetry traces, exported over OTLP where the environment names a collector; else no exporter is imported.

The gateway has a span for each HTTP request. What a worker does for it are children of that span: a ``traceparent``
(W3C Trace Context) travels in the queue's request. The SDK's own environment variables hold: sampler, headers, limits.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from service.logs import log_context

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables of the OpenTelemetry specification; either of them switches traces on."""

TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")

PATIENCE = 3.0
"""Seconds for which spans are offered to a collector that is away, at the process's end too, where the environment
(OTEL_EXPORTER_OTLP_TIMEOUT) says no other."""

_tracer: "Tracer | None" = None


def configure_tracing(service: str) -> None:
    """Has this process export its spans, if a collector is named, under the service's name or OTEL_SERVICE_NAME."""
    global _tracer
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("there are no traces: they need pip install 'creps-serve[tracing]'")
        return
    attributes = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or service,
        "service.version": version("creps-serve"),
    }
    provider = TracerProvider(resource=Resource.create(attributes))  # sends what is left when the process ends
    timeout = None if any(os.environ.get(name) for name in TIMEOUTS) else PATIENCE
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
    _tracer = provider.get_tracer("creps")


@contextmanager
def request_span(method: str, path: str, headers: Mapping[str, str]) -> Iterator[Callable[[str, int], None]]:
    """A server span around the block, below the one that ``headers`` name, and its trace's id in log messages.

    Yields what is to be called with the route's template and the status of the answer.
    """
    if _tracer is None:
        yield lambda route, status: None
        return
    from opentelemetry.trace import SpanKind, StatusCode, format_trace_id
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract(headers)
    attributes = {"http.request.method": method, "url.path": path}  # names of the semantic conventions for HTTP
    with _tracer.start_as_current_span(method, parent, SpanKind.SERVER, attributes) as span:

        def describe(route: str, status: int) -> None:
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_status(StatusCode.ERROR)

        with log_context(trace_id=format_trace_id(span.get_span_context().trace_id)):
            yield describe


def current_traceparent() -> str:
    """The current span, for another process to go on with. Empty where there is none."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def record_span(name: str, traceparent: str, start: float, end: float, **attributes: str | int) -> None:
    """A span that is over, from ``start`` to ``end`` (unix seconds), below the one named; nothing where none is."""
    if _tracer is None or not traceparent:
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    named = {f"creps.{attribute}": value for attribute, value in attributes.items()}
    span = _tracer.start_span(name, parent, attributes=named, start_time=round(start * 1e9))
    span.end(round(end * 1e9))
