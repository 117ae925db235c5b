"""Clients of a service that is measured: so many at once, each asking again as soon as it has been answered."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection

from tqdm import tqdm

from model.errors import InputError

ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """A GET, or with a JSON body a POST."""

    path: str
    body: str | None = None


@dataclass(frozen=True)
class Answer:
    """What one client waited, and the header Server-Timing."""

    milliseconds: float
    timing: str


def ask_all(port: int, requests: Sequence[Request], clients: int, what: str) -> tuple[float, list[Answer]]:
    """Asks for everything. Returns the seconds that all took, and the answers in the order of the requests.

    Raises:
        InputError: an answer was not 200.
    """
    answers: list[Answer | None] = [None] * len(requests)

    def ask_some(mine: range) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        for i in mine:
            answers[i] = _ask(connection, requests[i])
            bar.update()
        connection.close()

    with (
        tqdm(total=len(requests), desc=what, unit="request", leave=False, delay=2) as bar,
        ThreadPoolExecutor(clients) as pool,
    ):
        began = time.perf_counter()
        list(pool.map(ask_some, (range(i, len(requests), clients) for i in range(clients))))
        seconds = time.perf_counter() - began
    return seconds, [answer for answer in answers if answer is not None]


def _ask(connection: HTTPConnection, request: Request) -> Answer:
    began = time.perf_counter()
    if request.body is None:
        connection.request("GET", request.path)
    else:
        connection.request("POST", request.path, request.body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    milliseconds = 1000 * (time.perf_counter() - began)
    if answer.status != 200:
        raise InputError("benchmark", f"the service answered {answer.status}: {content[:200]!r}")
    return Answer(milliseconds, answer.getheader("Server-Timing", ""))
