"""wrk as a client: every request has another seed, and processor time is that of a server's whole process tree."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.benchmark.processes import cpu_seconds
from service.benchmark.wrk import Target, measure_load


@contextmanager
def serving(seen: list[str]) -> Iterator[int]:
    """A server that notes paths and bodies, and refuses paths with a 7 in them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            seen.append(self.path + body)
            self.send_response(503 if "7" in self.path else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_every_request_has_another_seed() -> None:
    seen: list[str] = []
    with serving(seen) as port:
        load = measure_load(Target(port, "/%d", {"all": os.getpid()}), 2, 1, first_seed=10)
        drawn = len(seen)
        measure_load(Target(port, "/", {}, body='{"seed": %d}'), 1, 1, first_seed=20)
    assert {"/13", "/14", "/17"} <= set(seen[:drawn])
    assert len(set(seen[:drawn])) == drawn
    posted = [path.removeprefix("/") for path in seen[drawn:] if "{" in path]  # a last GET may come late
    assert json.loads(posted[0])["seed"] in (21, 22)
    assert load.failed
    assert load.rate > 0
    assert load.p50_ms <= load.p99_ms


def test_processor_time_includes_children() -> None:
    program = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", program]
    before = cpu_seconds(os.getpid())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert cpu_seconds(os.getpid()) - before >= 0.2  # clock ticks are of 0.01 s
        assert cpu_seconds(child.pid) >= 0.2
        child.communicate()
    assert cpu_seconds(child.pid) == 0
