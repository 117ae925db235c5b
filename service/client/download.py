"""A file on its way from the service to a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Self

import httpx


class Download:
    """Writes a file under another name until it is whole, over as many answers as that takes.

    Args:
        path: where the file shall be; one that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tag: str | None = None
        self._written = 0
        self._size: int | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = NamedTemporaryFile(dir=self._path.parent, prefix=f".{self._path.name}-", delete=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None:
            Path(self._file.name).chmod(0o644)
            Path(self._file.name).replace(self._path)
        else:
            Path(self._file.name).unlink()

    @property
    def complete(self) -> bool:
        return self._size is not None and self._written == self._size

    def headers(self) -> dict[str, str]:
        """Asks for what is missing of the same file."""
        plain = {"Accept-Encoding": "identity"}  # parts of a compressed file would be parts of something else
        if not self._written or self._tag is None:
            return plain
        return plain | {"Range": f"bytes={self._written}-", "If-Range": self._tag}

    @contextmanager
    def receive(self, response: httpx.Response) -> Iterator[None]:
        """Takes an answer of success, the rest of the file or all of it, whose bytes are written in the block.

        Where it breaks off the rest is missing. Raises httpx.TransportError where that brought nothing. An answer that
        does not tell its length, as some proxies send it, ends with the file.
        """
        self._tag = response.headers.get("ETag")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            self._written = 0
            self._file.seek(0)
            self._file.truncate()
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {self._written}-"):
            raise httpx.RemoteProtocolError("the service sent another part than was asked for")
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
