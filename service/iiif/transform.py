"""A scaled region's pixels → the file that was asked for: mirrored, turned, without colour."""

from io import BytesIO

from PIL import Image

from model.spec import DEFAULT_QUALITY
from service.iiif.request import Resolved, Suffix
from service.iiif.rotation import Rotation

PILLOW_NAMES: dict[Suffix, str] = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}

_TURNS = {
    90.0: Image.Transpose.ROTATE_270,  # Pillow turns the other way round
    180.0: Image.Transpose.ROTATE_180,
    270.0: Image.Transpose.ROTATE_90,
}


def transform(picture: Image.Image, request: Resolved) -> bytes:
    """The file of a picture that has the request's region and size already."""
    picture = _turn(picture, request.rotation)
    if request.quality == "gray":
        picture = picture.convert("L")
    elif request.quality == "bitonal":
        picture = picture.convert("1")
        if request.suffix != "png":
            picture = picture.convert("L")  # the other formats have no pixels of one bit
    file = BytesIO()
    options = {"compress_level": 1} if request.suffix == "png" else {"quality": DEFAULT_QUALITY}
    picture.save(file, PILLOW_NAMES[request.suffix], **options)
    return file.getvalue()


def _turn(picture: Image.Image, rotation: Rotation) -> Image.Image:
    if rotation.mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rotation.degrees:
        picture = picture.transpose(_TURNS[rotation.degrees])
    return picture
