"""A file on its way from the service to a folder."""

import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Self

import httpx

MAX_BREAKS = 10
"""How often a download may break off without a byte more before it is given up."""


class Download:
    """Writes a file under another name until it is whole, over as many answers as that takes.

    Args:
        path: where the file shall be; one that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tag: str | None = None
        self._written = self._before = self._breaks = 0
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

    def begin(self, response: httpx.Response) -> None:
        """Takes an answer of success: the rest of the file, or all of it."""
        self._tag = response.headers.get("ETag")
        length = int(response.headers["Content-Length"])
        found = re.fullmatch(r"bytes (\d+)-\d+/\d+", response.headers.get("Content-Range", ""))
        if response.status_code != httpx.codes.PARTIAL_CONTENT or not found or int(found[1]) != self._written:
            self._written = 0
            self._file.seek(0)
            self._file.truncate()
        self._before = self._written
        self._size = self._written + length

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._written += len(chunk)

    def broke(self, error: httpx.TransportError) -> None:
        """Notes that an answer broke off. Raises the error where that happens again and again."""
        self._breaks = self._breaks + 1 if self._written == self._before else 0
        if self._breaks > MAX_BREAKS:
            raise error
