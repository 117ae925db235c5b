"""Resumable downloads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import httpx


class Download:
    """Writes one or more partial responses to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._tag: str | None = None
        self._written = 0
        self._size: int | None = None

    @property
    def complete(self) -> bool:
        return self._size is not None and self._written == self._size

    def headers(self) -> dict[str, str]:
        """Headers of a request for the remaining part of the file."""
        plain = {"Accept-Encoding": "identity"}  # ranges of compressed content would not match
        if not self._written or self._tag is None:
            return plain
        return plain | {"Range": f"bytes={self._written}-", "If-Range": self._tag}

    @contextmanager
    def receive(self, response: httpx.Response) -> Iterator[None]:
        """Receive a successful response with the remaining part or the whole file; the block writes its bytes.

        An interrupted response is accepted; httpx.TransportError is raised only if it had no bytes. A response without
        a length, as some proxies send, is complete when it ends.
        """
        self._tag = response.headers.get("ETag")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            self._written = 0
            self._file.seek(0)
            self._file.truncate()
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {self._written}-"):
            raise httpx.RemoteProtocolError("the service sent another range than requested")
        begin = self._written
        length = response.headers.get("Content-Length")
        self._size = None if length is None else begin + int(length)
        try:
            yield
        except httpx.TransportError:
            if self._written == begin:
                raise
        else:
            self._size = self._written if length is None else self._size

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._written += len(chunk)
