"""The latent that the options of ``creps render`` give."""

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.direction_names import read_labels
from model.latents.files import read_latent_file
from model.latents.latent import Edit, Latent, Weighted
from model.spec import RenderSpec
from model.util.arguments import ArgumentParser
from service.commands import options as types

_SOURCES = ("seed", "seeds", "latent", "mix", "like")
"""Options that exclude each other."""


def add_latents(parser: ArgumentParser) -> None:
    """Add --latent, --mix, --like and --edit."""
    add = parser.add_argument
    add("--latent", "--projected-w", type=Path, metavar="FILE", help="npy, npz or safetensors file with w, w+ or z")
    mix = "mean of several latents with weights: a seed, or a file as of --latent; may be repeated"
    add("--mix", type=_part, action="append", metavar="SEED=WEIGHT", help=mix)
    like = "a picture of this service or command: render the same image, for example at another --size"
    add("--like", type=Path, metavar="PICTURE", help=like)
    edit = "move along a direction of creps directions, in standard deviations; may be repeated"
    add("--edit", type=types.edit, action="append", default=[], metavar="NAME=AMOUNT", help=edit)


def find_latent(options: Namespace, checkpoint: Checkpoint, like: RenderSpec | None) -> Latent:
    """The latent of the option that is given; with --seeds, that of the first. Raises InputError and OSError."""
    given = [name for name in _SOURCES if getattr(options, name) is not None]
    if len(given) > 1:
        raise InputError(given[1], f"cannot be given together with --{given[0]}")
    edits = _with_own_names(options.edit, checkpoint)
    if like is not None:
        if (options.psi, options.cutoff, options.class_index) != (1.0, None, None):
            raise InputError("like", "cannot be given together with --psi, --cutoff or --class")
        return replace(like.latent, edits=like.latent.edits + edits)
    if options.mix is not None:
        parts = (Weighted(_source(source, options, checkpoint), weight) for source, weight in options.mix)
        latent = Latent(mix=tuple(parts))
    else:
        first = options.seeds[0] if options.seeds else options.seed or 0
        latent = _source(options.latent or first, options, checkpoint)
    return replace(latent, psi=options.psi, cutoff=options.cutoff, edits=edits)


def _source(seed_or_file: int | Path, options: Namespace, checkpoint: Checkpoint) -> Latent:
    if isinstance(seed_or_file, int):
        return Latent(seed_or_file, class_index=checkpoint.find_class(options.class_index))
    # w needs no class
    class_index = None if options.class_index is None else checkpoint.find_class(options.class_index)
    return read_latent_file(seed_or_file, checkpoint.config, class_index)


def _with_own_names(edits: Sequence[Edit], checkpoint: Checkpoint) -> tuple[Edit, ...]:
    """Edits with the directions' own names in place of those that an operator has given them."""
    own = {label: name for name, label in read_labels(checkpoint).items()} if edits else {}
    return tuple(replace(edit, direction=own.get(str(edit.direction), edit.direction)) for edit in edits)


def _part(text: str) -> tuple[int | Path, float]:
    """``2=0.7`` or ``file.npz=0.3``."""
    source, equals, weight = text.rpartition("=")
    if not equals or not source:
        raise ArgumentTypeError("must be SEED=WEIGHT or FILE=WEIGHT, such as 2=0.7")
    return int(source) if re.fullmatch("[0-9]{1,18}", source) else Path(source), types.number(weight)
