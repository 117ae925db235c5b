"""A direction in w, its place in latents, and files of directions. Needs no torch."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.config import GeneratorConfig
from model.errors import InputError
from model.latents.latent import Edit, Latent, pack_floats

VERSION = 1
"""Part of the names of files: increase it when other directions are found."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in w.

    Attributes:
        name: ``sefa:0`` or ``pca:0`` …, numbered by effect.
        layers: the styles that it changes.
        axis: unit vector [w_dim] in float64; those of PCA, and of SeFa in one style, are orthogonal.
        sigma: standard deviation of w along the axis.
        effect: change of the image by a step of one sigma, root mean square in levels of 255.
        ratio: change of the image, relative to that of random directions in the same layers by a step of equal length.
        luma: change of the mean brightness by a step of one sigma, in levels.
        chroma: change of the mean colourfulness, in levels.
        label: what an operator calls it, see model/latents/direction_names.py.
    """

    name: str
    layers: tuple[int, ...]
    axis: NDArray[np.float64]
    sigma: float
    effect: float = 0.0
    ratio: float = 0.0
    luma: float = 0.0
    chroma: float = 0.0
    label: str | None = None

    @property
    def vector(self) -> NDArray[np.float32]:
        """The step of one sigma [w_dim]."""
        return (self.sigma * self.axis).astype(np.float32)


def find_direction(directions: Mapping[str, Direction], name: str) -> Direction | None:
    """The direction of that name, or which an operator calls so."""
    return directions.get(name) or next((each for each in directions.values() if each.label == name), None)


def name_vectors(latent: Latent, directions: Mapping[str, Direction]) -> Latent:
    """The latent with vectors in place of the names of directions, also in the latents within it.

    Raises InputError if there is no such direction.
    """
    edits = tuple(_with_vector(edit, directions) for edit in latent.edits)
    mix = tuple(replace(part, latent=name_vectors(part.latent, directions)) for part in latent.mix)
    styles = tuple(replace(part, latent=name_vectors(part.latent, directions)) for part in latent.styles)
    return replace(latent, edits=edits, mix=mix, styles=styles)


def _with_vector(edit: Edit, directions: Mapping[str, Direction]) -> Edit:
    if isinstance(edit.direction, bytes):
        return edit
    if (found := directions.get(edit.direction)) is None:
        known = ", ".join(directions) or "none"
        raise InputError("edits", f"this model has no direction {edit.direction!r}; it has {known}")
    return Edit(pack_floats(found.vector), edit.amount, found.layers if edit.layers is None else edit.layers)


def encode_directions(directions: Sequence[Direction], config: GeneratorConfig) -> bytes:
    """The directions of a network as an npz file."""
    w_dim, num_ws = config.w_dim, config.num_ws
    numbers = [(each.sigma, each.effect, each.ratio, each.luma, each.chroma) for each in directions]
    content = io.BytesIO()
    np.savez(
        content,
        names=np.array([each.name for each in directions], "<U9"),
        axes=np.array([each.axis for each in directions], np.float64).reshape(-1, w_dim),
        numbers=np.array(numbers, np.float64).reshape(-1, 5),
        layers=np.array([[style in each.layers for style in range(num_ws)] for each in directions]).reshape(-1, num_ws),
    )
    return content.getvalue()


def decode_directions(content: bytes, config: GeneratorConfig) -> dict[str, Direction]:
    """The directions in a file of :func:`encode_directions`, by name. Raises ValueError if it is damaged, or of another
    network."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names, axes, numbers, layers = (arrays[name] for name in ("names", "axes", "numbers", "layers"))
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"is no file of directions ({error})") from None
    shapes = (axes.shape, numbers.shape, layers.shape)
    expected = tuple((len(names), length) for length in (config.w_dim, 5, config.num_ws))
    if shapes != expected or not np.isfinite(axes).all() or not np.isfinite(numbers).all():
        raise ValueError("does not fit its checkpoint")
    return {
        str(name): Direction(str(name), tuple(np.flatnonzero(mask).tolist()), axis, *row.tolist())
        for name, axis, row, mask in zip(names, axes, numbers, layers, strict=True)
    }
