"""Traces as a collector receives them: a real HTTP server that decodes OTLP."""

import gzip
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.jobs.cluster import Cluster
from tests.service.stand_in import BREAKS
from tests.service.waiting import LONG, eventually

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
"""The example of the W3C recommendation."""


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it receives, each with the name of its service."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Span]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, trace: str) -> dict[str, tuple[str, Span]]:
        """The spans of one trace by their names."""
        return {span.name: (service, span) for service, span in self.spans if span.trace_id.hex() == trace}


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [(attributes["service.name"], span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def attributes(span: Span) -> dict[str, str | int]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestProcesses:
    """A gateway and a worker."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def cluster(self, tmp_path: Path, collector: Collector) -> AsyncIterator[Cluster]:
        command = (sys.executable, "-m", "tests.service.stand_in")
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        cluster = Cluster(tmp_path, command, environment)
        cluster.worker = (*command, cluster.redis_url, str(cluster.models))
        save_hollow_checkpoint(cluster.models, "plain")
        async with cluster.running("redis", "gateway", "worker-1"):
            yield cluster

    async def test_one_trace_from_the_edge_to_the_worker(self, cluster: Cluster, collector: Collector) -> None:
        async with httpx.AsyncClient(base_url=cluster.address, timeout=LONG, trust_env=False) as http:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            assert (await http.get("/v1/images/plain/1.png?width=8", headers=headers)).status_code == 200
            unsampled = {"traceparent": f"00-{'a' * 32}-{PARENT}-00"}
            await http.get("/v1/images/plain/2.png?width=8", headers=unsampled)
            await http.get(f"/v1/images/plain/{BREAKS}.png?width=8", headers={"traceparent": "nonsense"})
        await eventually(lambda: len(collector.of(TRACE)) == 4 and len(collector.spans) == 7)
        name = "GET /v1/images/{model}/{seed}.{format}"
        spans = collector.of(TRACE)
        assert {name: service for name, (service, _) in spans.items()} == {
            name: "creps-gateway",
            "queue": "creps-worker",
            "render": "creps-worker",
            "encode": "creps-worker",
        }
        server = spans[name][1]
        assert server.kind == Span.SPAN_KIND_SERVER
        assert server.parent_span_id.hex() == PARENT
        assert attributes(server) == {
            "http.request.method": "GET",
            "url.path": "/v1/images/plain/1.png",
            "http.route": "/v1/images/{model}/{seed}.{format}",
            "http.response.status_code": 200,
        }
        children = [spans[child][1] for child in ("queue", "render", "encode")]
        assert all(child.parent_span_id == server.span_id for child in children)
        times = [time for span in children for time in (span.start_time_unix_nano, span.end_time_unix_nano)]
        assert times == sorted(times)
        assert server.start_time_unix_nano <= times[0]
        assert times[-1] <= server.end_time_unix_nano
        assert attributes(children[1]) == {"creps.batch_size": 1}
        (failed,) = [span for _, span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR]
        assert failed.name == name
        assert attributes(failed)["http.response.status_code"] == 500
        assert not failed.parent_span_id


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_without_a_collector_nothing_is_exported() -> None:
    program = (
        "import sys, service.commands.gateway, service.worker.worker, service.runtime.tracing as tracing\n"
        "tracing.configure_tracing('creps'); tracing.record_span('render', 'x', 0, 1)\n"
        "assert not tracing.current_traceparent()\n"
        "with tracing.request_span('GET', '/', {}) as describe: describe('/', 200)\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]"
    )
    result = run(program)
    assert result.returncode == 0, result.stderr


def test_without_the_packages_the_service_runs_and_says_so() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from service.runtime.logs import configure_logging; from service.runtime.tracing import configure_tracing\n"
        "configure_logging('info'); configure_tracing('creps')"
    )
    result = run(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert result.returncode == 0
    assert "pip install 'creps-serve[tracing]'" in result.stderr
