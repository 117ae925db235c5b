"""Writes pickles as the original training code writes them, from tensors alone and without that code.

Stand-in modules exist under the original names for as long as a pickle is written, so that it holds the original
names: persistent objects with their source text and state, tensors in torch's legacy format, numpy scalars, EasyDicts.
"""

import io
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

MODULE_SRC = "raise SystemExit('the source text of a pickle must never run')\n"


def _function(module: str, name: str) -> Any:
    """Something that pickles as the global ``module.name``."""

    def stand_in(*_: object) -> None:
        raise AssertionError("stands for a name only")

    stand_in.__module__, stand_in.__qualname__, stand_in.__name__ = module, name, name
    return stand_in


_reconstruct = _function("torch_utils.persistence", "_reconstruct_persistent_obj")
_scalar = _function("numpy.core.multiarray", "scalar")


class EasyDict(dict[str, Any]):
    __module__ = "dnnlib.util"


class SynthesisInput(nn.Module):
    """The one original module that is not persistent: it is pickled by its class's name."""

    __module__ = "training.networks_creps"


class Persistent(nn.Module):
    """Any persistent module; ``attributes`` are plain ones, such as the original layers keep."""

    def __init__(self, class_name: str, **attributes: object) -> None:
        super().__init__()
        self._class_name = class_name
        self.__dict__.update(attributes)
        self._init_args: tuple[object, ...] = ()
        self._init_kwargs: dict[str, object] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name != "_class_name"}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": MODULE_SRC,
            "class_name": self._class_name,
            "state": state,
        }
        return (_reconstruct, (meta,), None)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, np.float64):  # under the name that numpy had before version 2
            return (_scalar, (np.dtype("float64"), obj.tobytes()))
        return NotImplemented


@contextmanager
def _original_modules() -> Iterator[None]:
    names: dict[str, dict[str, object]] = {
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct},
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
        "training": {},
        "training.networks_creps": {"SynthesisInput": SynthesisInput},
        "numpy.core.multiarray": {"scalar": _scalar},
    }
    modules = {name: ModuleType(name) for name in names}
    for name, contents in names.items():
        vars(modules[name]).update(contents)
    with patch.dict(sys.modules, modules):
        yield


def build(state: Mapping[str, Tensor], init_kwargs: Mapping[str, object]) -> Persistent:
    """The module tree of an original generator with these tensors."""
    root = Persistent("Generator", **{name: init_kwargs[name] for name in ("z_dim", "w_dim") if name in init_kwargs})
    root._init_kwargs = EasyDict(init_kwargs)
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        module: nn.Module = root
        for depth, part in enumerate(path, start=1):
            if part not in module._modules:
                module.add_module(part, _layer(path[:depth]))
            module = module.get_submodule(part)
        if leaf in ("freqs", "coords", "w_avg"):
            module.register_buffer(leaf, tensor)
        else:
            module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    return root.eval()


def _layer(path: list[str]) -> nn.Module:
    name, parent = path[-1], path[0]
    if name == "input":
        return SynthesisInput()
    if name == "decoder_last" or (name.startswith("decoder_") and name != "decoder_img"):
        return nn.Sequential()
    if name in ("mapping", "synthesis"):
        return Persistent(f"{name.title()}Network")
    if name == "tores":
        return Persistent("ToResLayer", fc_clamp=256)
    if name == "affine" or name in ("embed", "decoder_img"):
        return Persistent("FullyConnectedLayer", activation="linear", bias_gain=1, weight_gain=np.float64(0.5))
    if parent == "mapping":
        return Persistent("FullyConnectedLayer", activation="lrelu", bias_gain=0.01, weight_gain=np.float64(0.5))
    if name.startswith("fc"):
        return Persistent("SynthesisLayer", activation="lrelu", fc_clamp=256, act_gain=np.float64(2**0.5))
    if name.startswith("b"):
        return Persistent("SynthesisBlock", architecture="orig" if name == "b4" else "skip", use_fp16=False)
    return Persistent("FullyConnectedLayer", activation="lrelu", bias_gain=1, weight_gain=np.float64(0.5))


def snapshot(generator: nn.Module) -> dict[str, object]:
    """What the original training loop saves, ``generator`` being the moving average."""
    discriminator = Persistent("Discriminator", c_dim=0)
    discriminator.register_buffer("resample_filter", torch.ones(4, 4))
    return {
        "G": Persistent("Generator"),
        "D": discriminator,
        "G_ema": generator,
        "augment_pipe": None,
        "training_set_kwargs": dict(EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=32)),
    }


def dumps(value: object, protocol: int = 4) -> bytes:
    stream = io.BytesIO()
    with _original_modules():
        _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def write(path: Path, state: Mapping[str, Tensor], init_kwargs: Mapping[str, object]) -> Path:
    """Writes an original snapshot of a generator with these tensors, coordinates included."""
    resolution = int(str(init_kwargs["img_resolution"]))
    coordinates = torch.linspace(0, 1, resolution).reshape(1, -1, 1, 1).repeat(1, 1, 2, 1)
    full = {**state, "synthesis.b4.input.coords": coordinates}
    path.write_bytes(dumps(snapshot(build(full, init_kwargs))))
    return path
