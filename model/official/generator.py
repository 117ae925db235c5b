"""Conversion of original CREPS network pickles to checkpoints.

Parameters are renamed to those of model/generator.py. The config is derived from the shapes of the tensors, because the
recorded constructor arguments lack the defaults of code that is never run.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import SUFFIX, Checkpoint, save_checkpoint
from model.config import CLAMP, RGB, Fusion, GeneratorConfig
from model.errors import InputError
from model.generator import Generator
from model.official.pickle_reader import Module, read_pickle
from model.shapes import tensor_shapes
from model.util.text import error_text

NETWORK = "G_ema"
"""Entry of the snapshot that is converted: the moving average, which the original tools generate with."""

DISCRIMINATOR = "D"
"""Entry of the snapshot whose settings are not those of a generator."""

UNUSED = re.compile(r"synthesis\.(b4\.tores\.|decoder_8\.|b4\.input\.coords$)")
"""Tensors that the original network never uses: two layers that are not called, and the pixel positions."""

_RENAMED = (
    (re.compile(r"mapping\.layers\.(\d+)"), lambda m: f"mapping.fc{m[1]}"),
    (re.compile(r"synthesis\.input\.frequencies"), lambda m: "synthesis.b4.input.freqs"),
    (re.compile(r"synthesis\.input"), lambda m: "synthesis.b4.input"),
    (re.compile(r"synthesis\.blocks\.(\d+)"), lambda m: f"synthesis.b{4 << int(m[1])}"),
    (re.compile(r"synthesis\.to_rgb"), lambda m: "synthesis.decoder_img"),
    (re.compile(r"synthesis\.refinements\.(\d+)"), lambda m: f"synthesis.block{m[1]}"),
    (re.compile(r"to_line|to_rgb"), lambda m: "tores"),
)

_SETTINGS: tuple[tuple[re.Pattern[str], str, object], ...] = (
    (re.compile(r"mapping\.fc\d+"), "bias_gain", 0.01),
    (re.compile(r"mapping\.fc\d+"), "activation", "lrelu"),
    (re.compile(r"synthesis\.(b\d+|block\d)\.fc\d"), "activation", "lrelu"),
    (re.compile(r"synthesis\.decoder_(\d+|last)\.\d"), "activation", "lrelu"),
    (re.compile(r"synthesis\.(b\d+|block\d)\.(fc\d|tores)"), "fc_clamp", CLAMP),
    (re.compile(r"synthesis\.(b(?!4$)\d+|block\d)"), "architecture", "skip"),
)
"""Settings that shapes do not show: (modules, attribute, the value in model/generator.py)."""


def import_pickle(source: Path, destination: Path) -> Checkpoint:
    """Convert the original pickle ``source`` to the checkpoint ``destination`` without running code of the pickle.

    Raises:
        InputError: ``source`` cannot be read, is no original pickle, refers to unknown names, or its network is not a
            CREPS generator; or ``destination`` cannot be written or has another suffix.
    """
    if destination.suffix != SUFFIX:
        raise InputError("destination", f"must end in {SUFFIX}, not {destination.name!r}")
    config, state = convert_state_dict(read_networks(source, NETWORK)[NETWORK])
    with torch.device("meta"):
        generator = Generator(config)
    generator.load_state_dict(state, assign=True)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return save_checkpoint(destination, generator, {"source": source.name, "source_sha256": digest})
    except OSError as error:
        raise InputError("destination", f"{destination} cannot be written: {error.strerror or error}") from None


def convert_state_dict(original: Mapping[str, Tensor]) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    """The config and the ``state_dict`` of the :class:`model.generator.Generator` that equals an original network.

    Args:
        original: parameters and buffers under their original names.

    Raises:
        InputError: a tensor is missing, unknown, not finite, or its shape or type does not fit the others.
    """
    config = _derive_config(original)
    expected = tensor_shapes(config)
    names = {name: _original_name(name, config) for name in expected}
    if missing := sorted(set(names.values()) - set(original)):
        raise InputError("source", f"lacks tensor {missing[0]!r}")
    if unknown := sorted(name for name in set(original) - set(names.values()) if not UNUSED.match(name)):
        raise InputError("source", f"has tensor {unknown[0][:100]!r}, which is not part of a CREPS generator")
    state = {}
    for name, shape in expected.items():
        tensor, original_shape = original[names[name]], _original_shape(name, shape)
        state[name] = to_float32(names[name], tensor, original_shape).reshape(shape)
    return config, state


def to_float32(name: str, tensor: Tensor, shape: list[int]) -> Tensor:
    """The tensor in float32. Raises InputError if its shape, type or values are invalid."""
    if list(tensor.shape) != shape:
        raise InputError("source", f"tensor {name!r} has shape {list(tensor.shape)}, not {shape}")
    if not tensor.is_floating_point():
        raise InputError("source", f"tensor {name!r} must hold floating point numbers, not {tensor.dtype}")
    tensor = tensor.detach().to(torch.float32)
    if not tensor.isfinite().all():
        raise InputError("source", f"tensor {name!r} holds values that are not finite")
    return tensor


def _original_name(name: str, config: GeneratorConfig) -> str:
    """The original name of a tensor in model/generator.py."""
    if match := re.fullmatch(r"synthesis\.decoders\.(\d+)\.layers\.(.+)", name):
        index = int(match[1])
        last = index == config.decoder_count - 1
        return f"synthesis.decoder_{'last' if last else 16 << index}.{match[2]}"
    for pattern, original in _RENAMED:
        name = pattern.sub(original, name, count=1)
    return name


def _original_shape(name: str, shape: Iterable[int]) -> list[int]:
    if name == "synthesis.input.weight":
        channels, axes, thickness = shape
        return [1, channels, 1, axes * thickness]
    if name == "synthesis.input.frequencies":
        return [1, math.prod(shape)]
    return list(shape)


def _derive_config(original: Mapping[str, Tensor]) -> GeneratorConfig:
    """The config that follows from the shapes of a few tensors; the others are checked later."""

    def shape(name: str, dimensions: int = 2) -> list[int]:
        if name not in original:
            raise InputError("source", f"is not a CREPS generator: it lacks tensor {name!r}")
        if original[name].ndim != dimensions:
            raise InputError("source", f"tensor {name!r} must have {dimensions} axes, not {original[name].ndim}")
        return list(original[name].shape)

    channels, resolution = [shape("synthesis.b4.fc1.weight")[0]], 4
    while f"synthesis.b{resolution * 2}.fc1.weight" in original:
        resolution *= 2
        channels.append(shape(f"synthesis.b{resolution}.fc1.weight")[0])
    mapping_layers = 0
    while f"mapping.fc{mapping_layers}.weight" in original:
        mapping_layers += 1
    w_dim, z_dim = shape("mapping.fc0.weight")
    classes = 0
    if "mapping.embed.weight" in original:
        embedding, classes = shape("mapping.embed.weight")
        z_dim -= embedding
    if (colours := shape("synthesis.decoder_img.weight")[0]) != RGB:
        raise InputError("source", f"img_channels must be {RGB}, not {colours}")
    between = any(f"synthesis.decoder_{8 << k}.0.weight" in original for k in range(len(channels) - 1))
    decoders = "synthesis.decoder_last.0.weight" in original
    fusion: Fusion = "last" if decoders and not between and resolution > 8 else "layerwise"
    return GeneratorConfig(
        resolution=resolution,
        z_dim=z_dim,
        w_dim=w_dim,
        classes=classes,
        mapping_layers=mapping_layers,
        channel_base=channel_base(channels),
        channel_max=max(channels),
        thickness=shape("synthesis.b4.input.weight", dimensions=4)[3] // 2,
        decoders=decoders,
        fusion=fusion,
    )


def channel_base(channels: list[int]) -> int:
    """The channel_base of blocks with these channels: a power of two if possible, else the smallest number."""
    smallest = max(c * (4 << k) for k, c in enumerate(channels))
    for base in (1 << (smallest - 1).bit_length(), smallest):
        if all(min(base // (4 << k), max(channels)) == c for k, c in enumerate(channels)):
            return base
    listing = ", ".join(map(str, channels))
    raise InputError("source", f"no channel_base and channel_max give the blocks' channels {listing}")


def read_networks(source: Path, *names: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of the networks of these names in an original pickle, without running code of the pickle.

    Raises:
        InputError: ``source`` cannot be read, lacks a network, or a network has unknown settings or damaged tensors.
    """
    snapshot = read_pickle(source)
    tensors = {}
    for name in names:
        network = snapshot.get(name) if isinstance(snapshot, dict) else None
        if not isinstance(network, Module):
            raise InputError("source", f"{source} is a pickle, but holds no network {name!r}")
        if name != DISCRIMINATOR:
            _check_settings(network)
        tensors[name] = _load_tensors(network, source.stat().st_size)
    return tensors


def _check_settings(network: Module) -> None:
    """Raise InputError if a module's settings differ from what model/generator.py computes."""
    for path, module in network.modules().items():
        for pattern, attribute, known in _SETTINGS:
            if pattern.fullmatch(path) and module.state.get(attribute, known) != known:
                raise InputError("source", f"module {path!r} has a {attribute} other than {known!r}")


def _load_tensors(network: Module, limit: int) -> dict[str, Tensor]:
    """The network's tensors. ``limit`` bounds their total bytes, since a pickle may repeat the same bytes."""
    state = {}
    total = 0
    for name, record in network.tensors().items():
        try:
            total += len(record.payload)
            if total > limit:
                raise ValueError("the tensors together are larger than the file")
            state[name] = record.load()
        except InputError:
            raise
        except Exception as error:  # damaged bytes make torch raise errors of any type
            raise InputError("source", f"tensor {name[:100]!r} cannot be read: {error_text(error)}") from None
    return state
