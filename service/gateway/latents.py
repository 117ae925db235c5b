"""From what a request says of latents to a resolved Latent."""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.direction import Direction, find_direction
from model.latents.latent import MAX_DEPTH, MAX_LATENTS, MAX_SEED, Edit, Latent, LayerStyles, Weighted, pack_floats
from model.latents.ranges import parse_layers
from service.gateway.direction_store import DirectionStore
from service.gateway.latent_schemas import EditRequest, LatentRequest
from service.gateway.schemas import ImageRequest
from service.models.latent_store import LatentStore

_SOURCES = ("seed", "z", "w", "id", "mix")


async def resolve_latent(
    request: ImageRequest, checkpoint: Checkpoint, store: LatentStore, directions: DirectionStore
) -> Latent:
    """The latent of a request, with a random seed if the request names none. It fits the model. Directions have vectors
    in place of names, so that workers need not look for any.

    Raises InputError, which names the field of ImageRequest, STORE_ERRORS, and UnavailableError while the directions
    are not known.
    """
    seed = request.seed
    if seed is None and request.latent is None:
        seed = secrets.randbelow(MAX_SEED + 1)
    if request.latent is None and not request.styles and not request.edits:  # most requests
        class_index = checkpoint.find_class(request.class_index)
        latent = Latent(seed, class_index=class_index, psi=request.truncation_psi, cutoff=request.truncation_cutoff)
        latent.check(checkpoint.config)
        return latent
    if request.latent is not None and request.seed is not None:
        raise InputError("latent", "cannot be combined with seed")
    source = LatentRequest.model_construct(seed=seed) if request.latent is None else request.latent
    stored = await _load([source, *(part.latent for part in request.styles)], checkpoint, store)
    resolver = _Resolver(checkpoint, stored)
    inherited = _Inherited(request.class_index, request.truncation_psi, request.truncation_cutoff)
    num_ws = checkpoint.config.num_ws
    styles = tuple(
        LayerStyles(
            parse_layers(f"styles[{i}].layers", part.layers, num_ws),
            resolver.resolve(part.latent, inherited, f"styles[{i}].latent"),
        )
        for i, part in enumerate(request.styles)
    )
    named = any(isinstance(edit.direction, str) for edit in request.edits)
    known = await directions.get(checkpoint) if named else {}
    edits = tuple(_edit(edit, f"edits[{i}]", num_ws, known) for i, edit in enumerate(request.edits))
    latent = resolver.resolve(source, inherited, "latent")
    if styles or edits:
        if latent.styles or latent.edits:  # a stored latent, which is changed as a whole
            latent = Latent(mix=(Weighted(latent),))
        latent = replace(latent, styles=styles, edits=edits)
    try:
        latent.check(checkpoint.config)
    except InputError as error:
        raise InputError(_with_brackets(error.field), error.message) from None
    return latent


async def _load(given: Iterable[LatentRequest], checkpoint: Checkpoint, store: LatentStore) -> dict[str, Latent]:
    """The stored latents that requests name, by their ids."""
    ids = {latent_id: place for source in given for latent_id, place in _ids(source, "latent")}
    if len(ids) > MAX_LATENTS:
        raise InputError("latent", f"must hold at most {MAX_LATENTS} latents")
    return {latent_id: await store.get(latent_id, checkpoint, place) for latent_id, place in ids.items()}


def _ids(source: LatentRequest, place: str) -> Iterator[tuple[str, str]]:
    """The ids in a latent and their places."""
    if source.id is not None:
        yield source.id, f"{place}.id"
    for i, part in enumerate(source.mix or ()):
        yield from _ids(part.latent, f"{place}.mix[{i}].latent")


@dataclass(frozen=True)
class _Inherited:
    """Class and truncation of latents that have none of their own."""

    class_index: int | str | None = None
    psi: float = 1.0
    cutoff: int | None = None


@dataclass(frozen=True)
class _Resolver:
    """Turns LatentRequests into latents of a model. ``stored`` has those that are named by id."""

    checkpoint: Checkpoint
    stored: Mapping[str, Latent]

    def resolve(self, given: LatentRequest, inherited: _Inherited, place: str, depth: int = 0) -> Latent:
        """The latent at ``place`` of the request. Raises InputError."""
        sources = [name for name in _SOURCES if getattr(given, name) is not None]
        if len(sources) != 1:
            raise InputError(place, f"must have exactly one of {', '.join(_SOURCES)}")
        if depth > MAX_DEPTH:
            raise InputError(place, f"must be nested at most {MAX_DEPTH} deep")
        if given.id is not None and given.class_index is not None:
            raise InputError(f"{place}.class_index", "is part of the stored latent")
        of_class = inherited.class_index if given.class_index is None else given.class_index
        psi = inherited.psi if given.truncation_psi is None else given.truncation_psi
        cutoff = inherited.cutoff if given.truncation_cutoff is None else given.truncation_cutoff
        parts = tuple(
            Weighted(
                self.resolve(part.latent, _Inherited(of_class), f"{place}.mix[{i}].latent", depth + 1), part.weight
            )
            for i, part in enumerate(given.mix or ())
        )
        try:
            if given.id is not None:
                latent = _truncate(self.stored[given.id], psi, cutoff)
            else:
                # Equal images have equal keys, so that a class that has no effect is left out.
                takes_class = sources[0] in ("seed", "z")
                class_index = self.checkpoint.find_class(of_class) if takes_class else None
                latent = Latent(given.seed, given.z, given.w, parts, class_index, psi, cutoff)
            latent.check(self.checkpoint.config)
        except InputError as error:
            own = getattr(given, error.field.partition(".")[0], None) is not None
            raise InputError(_with_brackets(f"{place}.{error.field}" if own else error.field), error.message) from None
        return latent


def _truncate(stored: Latent, psi: float, cutoff: int | None) -> Latent:
    """A stored latent, truncated as a whole."""
    if (psi, cutoff) == (1.0, None):
        return stored
    if (stored.psi, stored.cutoff) == (1.0, None) and not stored.styles and not stored.edits:
        return replace(stored, psi=psi, cutoff=cutoff)
    return Latent(mix=(Weighted(stored),), psi=psi, cutoff=cutoff)


def _edit(edit: EditRequest, place: str, num_ws: int, known: Mapping[str, Direction]) -> Edit:
    layers = None if edit.layers is None else parse_layers(f"{place}.layers", edit.layers, num_ws)
    if isinstance(edit.direction, bytes):
        return Edit(edit.direction, edit.amount, layers)
    if (found := find_direction(known, edit.direction)) is None:
        raise InputError(f"{place}.direction", f"must be one of {names_of(known)}, not {edit.direction}")
    return Edit(pack_floats(found.vector), edit.amount, found.layers if layers is None else layers)


def names_of(known: Mapping[str, Direction]) -> str:
    """The names of a model's directions, those of an operator first."""
    labels = [each.label for each in known.values() if each.label is not None]
    return ", ".join([*labels, *known])


def _with_brackets(field: str) -> str:
    """Places as pydantic's errors name them: mix[0].weight for mix.0.weight."""
    return re.sub(r"\.(\d+)\b", r"[\1]", field)
