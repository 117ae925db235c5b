"""A ZIP archive that is written while it is sent."""

import zipfile
from collections.abc import AsyncIterable, AsyncIterator


class _Pipe:
    """A file that can only be written to; what was written is taken out again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, content: bytes) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """There is nothing between."""

    def take(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content


async def zip_stream(files: AsyncIterable[tuple[str, bytes]]) -> AsyncIterator[bytes]:
    """The archive of files, given as path and content, in parts. They are stored as they are: images are compressed.

    Memory holds one file, and about 200 bytes for each.
    """
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        async for path, content in files:
            archive.writestr(zipfile.ZipInfo(path), content)  # without a time: the same bytes each time
            yield pipe.take()
    yield pipe.take()
