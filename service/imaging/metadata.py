"""Files that tell how they were made: the canonical spec, the model's digest and the version, but no time, so that
equal specs give equal bytes.

A PNG holds JSON in an iTXt chunk, JPEG and WebP hold it in EXIF's UserComment. All hold XMP that says that the image
was generated (IPTC DigitalSourceType) and repeats the JSON. A TIFF holds the JSON as its description.
"""

import io
import json
import struct
import zlib
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from numpy.typing import NDArray
from PIL import ExifTags, Image

from model.errors import InputError
from model.spec import RenderSpec
from model.viewport import Viewport
from service.imaging.deep import encode_deep
from service.imaging.encode import encode

VERSION = version("creps-serve")

KEYWORD = "creps"
"""Of the iTXt chunk."""

MAX_SPEC_BYTES = 30_000
"""Longest JSON in a file: a JPEG's EXIF has at most 64 KiB. Of a longer spec, with a large w+, only the key stays."""

_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_ASCII = b"ASCII\0\0\0"  # character code of EXIF's UserComment
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"


def encode_image(image: NDArray[Any], spec: RenderSpec) -> bytes:
    """Encode an image [H, W, 3] of a spec whose model is a digest, with its metadata unless it asks for none.

    AVIF, JPEG XL and npy hold pixels alone.
    """
    full = spec.encoding.metadata == "full"
    if spec.encoding.is_deep:
        spec.encoding.check_size(width=image.shape[1], height=image.shape[0])
        content = encode_deep(image, spec.encoding, spec.viewport.crop[:2], describe(spec) if full else "")
    else:
        content = encode(image, spec.encoding)
    return embed(content, spec) if full else content


def embed(content: bytes, spec: RenderSpec) -> bytes:
    """Add metadata to a file of :func:`service.imaging.encode.encode`, whose pixels stay as they are."""
    text = describe(spec)
    match spec.encoding.format:
        case "png":
            start = 8 + 25  # signature and IHDR
            return content[:start] + _png_chunks(text) + content[start:]
        case "jpeg":
            segments = (b"Exif\0\0" + _exif(text)[6:], _XMP_SEGMENT + _xmp(text))
            added = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(each)) + each for each in segments)
            return content[:2] + added + content[2:]
        case "webp":
            return _extend_webp(content, _exif(text)[6:], _xmp(text))
    return content


def describe(spec: RenderSpec) -> str:
    """The JSON that files hold."""
    values = {"software": "CREPS Serve", "version": VERSION, "key": spec.key, "spec": json.loads(spec.to_json())}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    if len(text) > MAX_SPEC_BYTES:
        del values["spec"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return text


def png_metadata(spec: RenderSpec) -> bytes:
    """The chunks of a PNG that hold its metadata; empty if it asks for none."""
    return b"" if spec.encoding.metadata == "none" else _png_chunks(describe(spec))


def _png_chunks(text: str) -> bytes:
    return _itxt(KEYWORD, text.encode()) + _itxt("XML:com.adobe.xmp", _xmp(text))


def is_picture(path: Path) -> bool:
    """Whether a file begins as PNG, JPEG and WebP files do, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(12)
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (head[:4], head[8:]) == (b"RIFF", b"WEBP")


def read_spec(content: bytes) -> RenderSpec:
    """The spec in a file. Raises InputError for ``picture`` if there is none, or it is damaged."""
    description = read_description(content)
    if "spec" not in description:
        raise InputError("picture", "does not hold its spec, which is too long, but only the spec's SHA-256")
    try:
        spec = RenderSpec.from_json(json.dumps(description["spec"]))
        shown = spec.viewport
        Viewport.resolve(**{each.name: getattr(shown, each.name) for each in fields(shown)})  # checks it
        if spec.key != description["key"] or not isinstance(spec.latent.seed, int | None):
            raise ValueError("the key is that of another spec")
        return spec
    except Exception as error:  # an untrusted file raises errors of any type
        raise InputError("picture", f"has no valid spec ({type(error).__name__})") from None


def read_description(content: bytes) -> dict[str, Any]:
    """The JSON that a file holds. Raises InputError for ``picture`` if there is none, or it is damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
            text = image.info.get(KEYWORD)
            if text is None:
                text = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, "")
        description = json.loads(text.removeprefix(_ASCII) if isinstance(text, bytes) else text) if text else {}
    except Exception as error:  # an untrusted file raises errors of any type
        raise InputError("picture", f"cannot be read ({type(error).__name__})") from None
    if not isinstance(description, dict) or "key" not in description:
        raise InputError("picture", "does not tell how it was made")
    return description


def _itxt(keyword: str, text: bytes) -> bytes:
    """An iTXt chunk without compression, language and translation (PNG 3rd edition, section 11.3.3.4)."""
    body = keyword.encode() + b"\0\0\0\0\0" + text
    checksum = zlib.crc32(body, zlib.crc32(b"iTXt"))
    return struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", checksum)


def _exif(text: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = f"CREPS Serve {VERSION}"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: _ASCII + text.encode("ascii")}
    return exif.tobytes()


def _xmp(text: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<Iptc4xmpExt:DigitalSourceType>{_SOURCE}</Iptc4xmpExt:DigitalSourceType>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(text)}</rdf:li></rdf:Alt></dc:description>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def _extend_webp(content: bytes, exif: bytes, xmp: bytes) -> bytes:
    """A simple WebP file as an extended one (WebP container specification)."""
    width, height = Image.open(io.BytesIO(content)).size
    flags = 0b1100  # EXIF and XMP
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = _riff(b"VP8X", bytes([flags, 0, 0, 0]) + size) + content[12:] + _riff(b"EXIF", exif) + _riff(b"XMP ", xmp)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
