"""Safe reader of original network pickles: no code that the file names or contains ever runs.

A pickle is a program that may call anything it can import. This reader resolves only the names that original networks
need, each to a stand-in class that merely stores its arguments. Source code inside the pickle stays text, and tensors
stay bytes until :meth:`TensorRecord.load` has checked their declared sizes.
"""

import io
import math
import mmap
import pickle
import pickletools
from pathlib import Path
from typing import IO, Any, Self, cast

import torch
from torch import Tensor

from model.errors import InputError
from model.util.text import error_text

MAX_FILE_BYTES = 4 << 30
"""Largest file. A 512×512 generator has 121 MB; a snapshot has two generators and a discriminator."""

MAX_OPCODES = 1_000_000
"""Most pickle instructions; a 512×512 generator has 20,000. Also bounds objects and memo slots."""

MAX_TUPLES = 50_000
"""Most tuples. Python hashes nested tuples by recursion in C, and some 100,000 levels crash the process."""

MAX_NAMES = 2_000
"""Most modules, and most tensors, in one network. A 512×512 generator has about 130 and 200."""

MAX_AXES = 4
"""Most axes of a tensor."""

MAX_PATH = 200
"""Longest dotted path of a module; ends the traversal of modules that contain each other."""

STORAGE_PICKLES = 5
"""Pickles at the start of a storage in torch's legacy format: magic, version, system, storage, keys."""


class _Sealed(type):
    """Metaclass of immutable classes: a pickle's BUILD instruction can set attributes of any object it holds."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError(f"{cls.__name__} cannot be changed")


class Module(metaclass=_Sealed):
    """Stands for a ``torch.nn.Module``: its ``__dict__`` as ``state``."""

    __slots__ = ("state",)

    state: dict[Any, Any]

    def __new__(cls, *_: object) -> Self:
        module = super().__new__(cls)
        module.state = {}  # here, because a pickle creates modules by __new__ alone
        return module

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise TypeError("a module's state must be a dict")
        self.state = state

    def modules(self) -> dict[str, "Module"]:
        """This module and its descendants by dotted path; its own path is empty."""
        found: dict[str, Module] = {"": self}
        pending = [("", self)]
        while pending:
            path, module = pending.pop()
            for name, child in module.members("_modules"):
                if not isinstance(child, Module):
                    raise InputError("source", f"{(path + name)[:100]!r} is not a module")
                _check_count("modules", len(found), MAX_NAMES)
                _check_count("characters in the path of a module", len(path) + len(name), MAX_PATH)
                found[path + name] = child
                pending.append((f"{path}{name}.", child))
        return found

    def tensors(self) -> dict[str, "TensorRecord"]:
        """Parameters and buffers of this module and its descendants, named as in ``torch.nn.Module.state_dict``."""
        found: dict[str, TensorRecord] = {}
        for path, module in self.modules().items():
            for kind in ("_parameters", "_buffers"):
                for name, tensor in module.members(kind):
                    full = f"{path}.{name}" if path else name
                    if not isinstance(tensor, TensorRecord):
                        raise InputError("source", f"{full[:100]!r} is not a tensor")
                    found[full] = tensor
                    _check_count("tensors", len(found), MAX_NAMES)
        return found

    def members(self, kind: str) -> list[tuple[str, Any]]:
        """Items of ``_modules``, ``_parameters`` or ``_buffers`` that are not None."""
        members = self.state.get(kind, {})
        if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
            raise InputError("source", f"a module's {kind} is not a dict of names")
        _check_count(f"names in one {kind}", len(members), MAX_NAMES)
        return [(name, value) for name, value in members.items() if value is not None]


class _Persistent(Module):
    """Stands for ``torch_utils.persistence._reconstruct_persistent_obj``, which would run ``meta['module_src']``."""

    __slots__ = ("meta",)

    def __init__(self, meta: object) -> None:
        if not isinstance(meta, dict):
            raise TypeError("a persistent object's meta must be a dict")
        self.meta = meta
        self.__setstate__(meta.get("state"))


class _Dict(dict[Any, Any], metaclass=_Sealed):
    """Stands for ``OrderedDict`` and ``EasyDict``, which pickles fill item by item."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()


class _Storage(metaclass=_Sealed):
    """Stands for ``torch.storage._load_from_bytes``: the bytes, unread."""

    __slots__ = ("payload",)

    def __init__(self, payload: object) -> None:
        self.payload = payload


class TensorRecord(metaclass=_Sealed):
    """Stands for ``torch._utils._rebuild_tensor_v2``: a tensor's declared properties, unchecked."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: object, offset: object, shape: object, stride: object, *_: object) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    @property
    def payload(self) -> bytes:
        """The bytes of the tensor's storage. Raises TypeError if the pickle has something else there."""
        if not isinstance(self.storage, _Storage) or not isinstance(self.storage.payload, bytes):
            raise TypeError("it has no storage")
        return self.storage.payload

    def load(self) -> Tensor:
        """Check that the tensor lies inside its storage and load it.

        Raises:
            ValueError, TypeError: the declared offset, shape or stride is invalid.
            Exception: the bytes are damaged; torch raises errors of several types.
        """
        if not isinstance(self.shape, tuple) or not isinstance(self.stride, tuple):
            raise TypeError("its shape and stride must be tuples")
        if len(self.shape) > MAX_AXES or len(self.stride) != len(self.shape):
            raise ValueError(f"it must have at most {MAX_AXES} axes, and a stride for each")
        if not isinstance(self.offset, int) or not all(
            0 <= n <= MAX_FILE_BYTES for n in (self.offset, *self.shape, *self.stride)
        ):
            raise ValueError(f"its offset, shape and stride must be from 0 to {MAX_FILE_BYTES}")
        flat = _load_storage(self.payload)
        if not 0 < math.prod(self.shape) <= flat.numel():  # with stride 0 a single element could stand for any number
            raise ValueError(f"it declares {math.prod(self.shape)} elements, but its storage has {flat.numel()}")
        return flat.as_strided(self.shape, self.stride, self.offset)  # raises if it exceeds the storage


class _Parameter(metaclass=_Sealed):
    """Stands for ``torch._utils._rebuild_parameter``: the tensor itself."""

    def __new__(cls, data: Any, *_: object) -> Any:
        return data


class _Ignored(metaclass=_Sealed):
    """Stands for numpy scalars and dtypes, whose values (gains of layers) follow from the shapes."""

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_STAND_INS: dict[str, type] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _Persistent,
    "training.networks_creps.SynthesisInput": Module,
    "torch.nn.modules.container.Sequential": Module,
    "dnnlib.util.EasyDict": _Dict,
    "collections.OrderedDict": _Dict,
    "torch.storage._load_from_bytes": _Storage,
    "torch._utils._rebuild_tensor_v2": TensorRecord,
    "torch._utils._rebuild_parameter": _Parameter,
    "numpy.dtype": _Ignored,
    "numpy.core.multiarray.scalar": _Ignored,
    "numpy._core.multiarray.scalar": _Ignored,  # the name since numpy 2
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise InputError(
                "source", f"refers to {f'{module}.{name}'[:100]!r}, which no original network needs; nothing was run"
            ) from None

    def persistent_load(self, pid: object) -> object:
        raise InputError("source", "refers to objects outside the file, which no original network does")


def read_pickle(path: Path) -> object:
    """Read a pickle file as plain Python values, :class:`Module` and :class:`TensorRecord`.

    Raises:
        InputError: the file cannot be read, is too large, damaged or no pickle, or refers to unknown names.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            _check_count("bytes", size, MAX_FILE_BYTES)
            if size == 0:
                raise InputError("source", f"{path} is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content[:4] == b"PK\x03\x04":
                    raise InputError("source", f"{path} is a torch.save archive, not an original network pickle")
                _check_opcodes(cast(IO[bytes], content))
                content.seek(0)
                return _Unpickler(content).load()
    except InputError:
        raise
    except OSError as error:
        raise InputError("source", f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle makes the unpickler raise errors of any type
        raise InputError("source", f"{path} is not a complete pickle ({error_text(error)})") from None


def _check_opcodes(stream: IO[bytes]) -> None:
    """Scan one pickle without executing it. Raises an error if it is truncated or exceeds a limit."""
    tuples = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream), start=1):
        _check_count("instructions", count, MAX_OPCODES)
        if opcode.name.startswith("TUPLE"):
            tuples += 1
            _check_count("tuples", tuples, MAX_TUPLES)
        elif opcode.name.endswith("PUT"):
            # The unpickler allocates all memo slots up to this one.
            _check_count("memo slots", int(argument or 0), MAX_OPCODES)


def _load_storage(payload: bytes) -> Tensor:
    """Load a storage in torch's legacy format as a flat tensor."""
    if not payload.startswith(b"\x80"):  # a zip archive, which may decompress to any size
        raise ValueError("its storage is not in torch's legacy format")
    stream = io.BytesIO(payload)
    for _ in range(STORAGE_PICKLES):
        _check_opcodes(stream)
    storage = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise TypeError("its bytes are not a storage")
    return torch.empty(0, dtype=storage.dtype).set_(storage)


def _check_count(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise InputError("source", f"has more than {limit:,} {what}")
