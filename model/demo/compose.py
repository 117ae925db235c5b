"""Composes smileys of any colour from the parts of Microsoft's Fluent Emoji, for the demo's training data.

    python -m model.demo.compose package/assets smileys --count 60000

``package/assets`` is that of the npm package @lobehub/fluent-emoji-3d (MIT). The smileys' spheres lie exactly upon one
another. So the plain sphere is found as what most of them have in common; eyes and mouths are what differs from it. An
image is the sphere in another hue, with the eyes of one smiley and the mouth of another. Needs numpy and Pillow.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from model.util.progress import progress

SIDE = 256
"""Of the package's images, and of the composed ones."""

PLAIN = ["1f611", "1f636", "1f60c", "1f61a", "1f619", "1f60a", "263a-fe0f", "1f614"]
"""Smileys with little on the sphere, whose median it is at first."""

EYES = [
    "1f610", "1f600", "1f603", "1f601", "1f606", "1f616", "1f623", "1f609", "1f61c", "1f60f", "1f611", "1f61a",
    "1f61f", "1f627", "1f62f", "1f626", "1f625", "1f629", "1f62a", "1f635", "1f644", "1f929", "1f92a", "1f928",
    "1f974",
]  # fmt: skip

MOUTHS = [
    "1f600", "1f601", "1f603", "1f609", "1f60f", "1f610", "1f613", "1f615", "1f616", "1f617", "1f618", "1f61b",
    "1f61c", "1f61f", "1f623", "1f626", "1f627", "1f629", "1f62c", "1f62e", "1f62f", "1f632", "1f635", "1f641",
    "1f642", "1f644", "1f92a", "1f929", "1f974", "1fae4", "1f602",
]  # fmt: skip

WIDE_EYES = {"1f60d": 0.465, "1f60e": 0.555, "1f913": 0.58, "1f633": 0.62}
"""Smileys whose eyes, glasses or hearts touch other parts, and the height at which they are cut off."""

OTHERS = [
    "1f604", "1f605", "1f60b", "1f612", "1f61d", "1f61e", "1f620", "1f622", "1f62b", "1f62d", "1f634", "1f637",
    "1f643", "1f910", "1f911", "1f924", "1f92d", "1f970", "1f972", "1f973", "1f978", "1f979", "1f97a", "1f9d0",
    "2639-fe0f",
]  # fmt: skip
"""More smileys, which show parts of the sphere that the others cover."""

DIFFERENCE = 0.1
"""Of a colour channel from the sphere's: more is a part of the face."""

CLEAR_DIFFERENCE, SHADING = 0.3, 0.06
"""Of a pixel that belongs to a part alone, at least, and of one that belongs to the sphere alone, at most."""

MIN_AGREEING = 4
"""Smileys whose colours are near the fit, for their median to be the sphere's."""

MIN_PIXELS = 40
"""Of a part. Less is noise at the sphere's edge."""

MAX_OVERLAP = 60
"""Pixels in which eyes and mouth may overlap."""

Pixels = NDArray[np.float32]
"""Colours or weights from 0 to 1, [256, 256, channels] or [256, 256]."""


@dataclass(frozen=True)
class Part:
    """Eyes or a mouth: its smiley's colours [S, S, 4], where it is [S, S], and its share of each pixel [S, S]."""

    image: Pixels
    mask: Pixels
    cover: Pixels


@dataclass(frozen=True)
class Parts:
    """The sphere's colours and alpha, [S, S, 4], and all eyes and mouths."""

    sphere: Pixels
    eyes: list[Part]
    mouths: list[Part]


def read_parts(folder: Path) -> Parts:
    """Takes the smileys of the package apart."""
    names = sorted({*PLAIN, *EYES, *MOUTHS, *WIDE_EYES, *OTHERS})
    images = {name: _read(folder / f"{name}.webp") for name in names}
    sphere = _find_sphere(np.stack(list(images.values())), np.stack([images[name] for name in PLAIN]))
    faces = {name: _masks(images[name], sphere) for name in {*EYES, *MOUTHS}}
    eyes = [_part(images[name], sphere, faces[name][0]) for name in EYES]
    for name, cut in WIDE_EYES.items():
        above = np.zeros((SIDE, SIDE), bool)
        above[: round(cut * SIDE)] = _opened(_difference(images[name], sphere) > DIFFERENCE)[: round(cut * SIDE)]
        eyes.append(_part(images[name], sphere, above))
    mouths = [_part(images[name], sphere, faces[name][1]) for name in MOUTHS]
    return Parts(sphere, eyes, mouths)


def _read(path: Path) -> Pixels:
    with Image.open(path) as image:
        resized = image.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return (np.asarray(resized) / 255).astype(np.float32)


def _find_sphere(images: Pixels, plain: Pixels) -> Pixels:
    """The sphere without a face: a smooth fit of the colours that most images agree on, and at its rim their median."""
    alpha = np.median(images[..., 3], axis=0)
    inside = alpha > 0.98
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE / 2) - 1
    terms = np.stack([x**i * y**j for i in range(9) for j in range(9 - i)], axis=-1)
    rim = np.median(images[..., :3], axis=0)
    base = np.median(plain[..., :3], axis=0)
    fit = base
    colours = np.ascontiguousarray(images[:, inside, :3].transpose(2, 1, 0))  # [3, inside, N], N last: it is sorted
    for tolerance in (1.0, 0.06, 0.04, 0.03, 0.03, 0.02, 0.02, 0.02):
        agreed = inside & (np.abs(base - fit).max(axis=-1) < tolerance)
        fit = terms @ np.linalg.lstsq(terms[agreed], base[agreed], rcond=None)[0]
        near = np.maximum.reduce(np.abs(colours - fit[inside].T[..., None])) < DIFFERENCE  # [inside, N]
        count = near.sum(axis=-1)
        ordered = np.sort(np.where(near, colours, np.inf), axis=-1)  # the near ones first
        middle = (count // 2).clip(0, len(images) - 1)[None, :, None]
        median = np.take_along_axis(ordered, middle, axis=-1)[..., 0].T  # [inside, 3]
        base = np.where(inside[..., None], fit, rim)
        base[inside] = np.where((count >= MIN_AGREEING)[:, None], median, base[inside])
    core = _blurred(_filtered(inside, ImageFilter.MinFilter(25)), 4)[..., None]
    return np.dstack([base * (1 - core) + fit.clip(0, 1) * core, alpha]).astype(np.float32)


def _difference(image: Pixels, sphere: Pixels) -> Pixels:
    colours = np.abs(image[..., :3] - sphere[..., :3]).max(axis=-1) * np.maximum(image[..., 3], sphere[..., 3])
    difference: Pixels = np.maximum(colours, np.abs(image[..., 3] - sphere[..., 3]))
    return difference


def _masks(image: Pixels, sphere: Pixels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the eyes and the mouth are: connected areas above and below the middle."""
    labels = _label(_filtered(_opened(_difference(image, sphere) > 0.12), ImageFilter.MaxFilter(5)) > 0.5)
    eyes, mouth = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    for label in np.unique(labels[labels > 0]):
        area = labels == label
        rows = np.nonzero(area)[0]
        if len(rows) >= MIN_PIXELS:
            is_above = rows.mean() < 0.5 * SIDE and np.percentile(rows, 98) < 0.66 * SIDE
            (eyes if is_above else mouth)[area] = True
    return eyes, mouth


def _label(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """A number for each connected area of a mask [S, S], and 0 elsewhere: the largest index of its pixels."""
    labels = np.where(mask, np.arange(1, mask.size + 1, dtype=np.int32).reshape(mask.shape), 0)
    while True:
        spread = labels.copy()
        for axis in (0, 1):
            near, far = (np.moveaxis(spread, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
            np.maximum(near, far, out=near)
            np.maximum(far, near, out=far)
        spread *= mask
        if (spread == labels).all():
            return labels
        labels = spread


def _part(image: Pixels, sphere: Pixels, where: NDArray[np.bool_]) -> Part:
    difference = _difference(image, sphere)
    # A pixel at the edge of a part mixes its colour and the sphere's: the difference grows with the part's share.
    around = np.maximum(_filtered(difference.clip(0, 1), ImageFilter.MaxFilter(9)), CLEAR_DIFFERENCE)
    cover = ((difference - SHADING) / (around - SHADING)).clip(0, 1).astype(np.float32)
    mask = _blurred(_filtered(where, ImageFilter.MaxFilter(7)), 2)
    return Part(image, mask, cover)


def _opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without what is thinner than three pixels."""
    return _filtered(_filtered(mask, ImageFilter.MinFilter(3)), ImageFilter.MaxFilter(3)) > 0.5


def _filtered(
    values: NDArray[Any], kernel: ImageFilter.MinFilter | ImageFilter.MaxFilter | ImageFilter.GaussianBlur
) -> Pixels:
    image = Image.fromarray((np.asarray(values, np.float32) * 255).round().astype(np.uint8))
    return (np.asarray(image.filter(kernel)) / 255).astype(np.float32)


def _blurred(values: NDArray[Any], radius: float) -> Pixels:
    return _filtered(values, ImageFilter.GaussianBlur(radius))


HUES = np.array([[30, 0.78, 1.0], [60, 0.9, 1.0], [90, 1.0, 1.0], [130, 0.86, 0.8], [165, 0.85, 0.7], [220, 0.82, 0.75],
                 [265, 0.72, 0.95], [300, 0.74, 0.95], [345, 0.82, 0.95], [390, 0.78, 1.0]])  # fmt: skip
"""Hues in OKLab in degrees, with the factors of lightness and chroma at which they look well beside the yellow."""

YELLOW = 90.0
"""Hue of the package's smileys."""

PLAIN_SHARE = 0.15
"""Of images whose sphere stays yellow."""

TO_LMS = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
TO_OKLAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip
"""From linear sRGB to cone responses, and from their cube roots to OKLab (Ottosson 2020)."""


def change_hue(colours: Pixels, hue: float, strength: float, light: float) -> Pixels:
    """Turns yellow colours [S, S, 3] to another hue in degrees."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(linear @ TO_LMS.T) @ TO_OKLAB.T
    _, lightness, chroma = (np.interp((hue - 30) % 360 + 30, HUES[:, 0], column) for column in HUES.T)
    angle = np.radians(hue - YELLOW)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = np.concatenate([lab[..., :1] * lightness * light, lab[..., 1:] @ turn.T * chroma * strength], axis=-1)
    linear = ((turned @ np.linalg.inv(TO_OKLAB).T) ** 3 @ np.linalg.inv(TO_LMS).T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded.astype(np.float32)


def compose(parts: Parts, random: np.random.Generator) -> Image.Image:
    """A random smiley on white."""
    while True:
        eyes, mouth = (group[random.integers(len(group))] for group in (parts.eyes, parts.mouths))
        if (np.minimum(eyes.mask, mouth.mask) > 0.3).sum() < MAX_OVERLAP:
            break
    plain, hue = random.random() < PLAIN_SHARE, random.uniform(0, 360)
    skin = parts.sphere[..., :3]
    changed = skin if plain else change_hue(skin, hue, random.uniform(0.85, 1.05), random.uniform(0.97, 1.03))
    result = np.dstack([changed, parts.sphere[..., 3]])
    for part in (mouth, eyes):
        colours = part.image[..., :3] + (1 - part.cover)[..., None] * (changed - skin)
        layer = np.dstack([colours, part.image[..., 3]])
        result += (layer - result) * part.mask[..., None]
    alpha = result[..., 3:]
    on_white = result[..., :3] * alpha + 1 - alpha
    return Image.fromarray((on_white.clip(0, 1) * 255).round().astype(np.uint8))


class Writer:
    """Writes images in a process of its own, which gets the parts once."""

    parts: Parts

    @classmethod
    def start(cls, parts: Parts) -> None:
        """Initializes the process."""
        cls.parts = parts

    @classmethod
    def write(cls, folder: Path, seed: int, number: int) -> None:
        """Writes ``<number>.png``, which depends on the seed and the number alone."""
        image = compose(cls.parts, np.random.default_rng((seed, number)))
        image.save(folder / f"{number:06d}.png", compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("assets", type=Path, help="the folder assets of the package")
    parser.add_argument("folder", type=Path, help="a folder to write PNGs to")
    parser.add_argument("--count", type=int, default=60_000, help="number of images (default: 60000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = read_parts(options.assets)
    with ProcessPoolExecutor(initializer=Writer.start, initargs=(parts,)) as pool:
        written = pool.map(partial(Writer.write, options.folder, options.seed), range(options.count), chunksize=16)
        for _ in progress(written, options.count, "composing"):
            pass


if __name__ == "__main__":
    main()
