"""OpenTelemetry traces, exported over OTLP if the environment names a collector. Otherwise no exporter is imported.

The gateway records a span for each HTTP request, workers record its children: the request in the queue carries a
``traceparent`` (W3C Trace Context). The SDK reads its own environment variables for sampler, headers and limits.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING

from service.runtime.logs import log_context

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables of the OpenTelemetry specification; either switches traces on."""

TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")

EXPORT_TIMEOUT = 3.0
"""Default of OTEL_EXPORTER_OTLP_TIMEOUT in seconds. A process waits this long at its end for an absent collector."""

_tracer: "Tracer | None" = None
_propagator: "TraceContextTextMapPropagator"  # set with the tracer


def configure_tracing(service: str) -> None:
    """Exports the spans of this process if a collector is named, under OTEL_SERVICE_NAME or the name given here."""
    global _tracer, _propagator
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        logger.warning("traces are off: they need pip install 'creps-serve[tracing]'")
        return
    attributes = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or service,
        "service.version": version("creps-serve"),
    }
    provider = TracerProvider(resource=Resource.create(attributes))  # flushes at exit
    timeout = None if any(os.environ.get(name) for name in TIMEOUTS) else EXPORT_TIMEOUT
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
    _tracer, _propagator = provider.get_tracer("creps"), TraceContextTextMapPropagator()


def request_span(
    method: str, path: str, headers: Mapping[str, str]
) -> AbstractContextManager[Callable[[str, int], None]]:
    """Records a server span around the block, as a child of the one in ``headers``. Log messages get its trace id.

    Yields:
        a function to call with the route's template and the response's status.
    """
    return nullcontext(_describe_nothing) if _tracer is None else _recorded_span(_tracer, method, path, headers)


def _describe_nothing(route: str, status: int) -> None:
    pass


@contextmanager
def _recorded_span(
    tracer: "Tracer", method: str, path: str, headers: Mapping[str, str]
) -> Iterator[Callable[[str, int], None]]:
    from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

    parent = _propagator.extract(headers)
    attributes = {"http.request.method": method, "url.path": path}  # semantic conventions for HTTP
    with tracer.start_as_current_span(method, parent, SpanKind.SERVER, attributes) as span:

        def describe(route: str, status: int) -> None:
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_status(StatusCode.ERROR)

        with log_context(trace_id=format_trace_id(span.get_span_context().trace_id)):
            yield describe


def current_traceparent() -> str:
    """The ``traceparent`` of the current span, empty if there is none."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", "")


def record_span(name: str, traceparent: str, start: float, end: float, **attributes: str | int) -> None:
    """Records a finished span from ``start`` to ``end`` (unix seconds), as a child of ``traceparent`` if not empty."""
    if _tracer is None or not traceparent:
        return
    parent = _propagator.extract({"traceparent": traceparent})
    named = {f"creps.{attribute}": value for attribute, value in attributes.items()}
    span = _tracer.start_span(name, parent, attributes=named, start_time=round(start * 1e9))
    span.end(round(end * 1e9))
