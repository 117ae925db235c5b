"""Reads an original network pickle as inert data: no code named or carried by the file ever runs.

A pickle is a program: it may call whatever it names. This reader lets it name only what original networks need, and
answers each of those names with a stand-in that merely keeps what it is given. The source text that such pickles carry
stays text. Tensors stay bytes until :meth:`TensorRecord.load` has checked that what they declare is really there.
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

MAX_FILE_BYTES = 4 << 30
"""Largest pickle that is read. A 512×512 generator takes 121 MB; a snapshot holds two, and a discriminator."""

MAX_OPCODES = 1_000_000
"""Most pickle instructions in a file; a 512×512 generator takes 20,000. Bounds objects and memo slots too."""

MAX_TUPLES = 50_000
"""Most tuples in a file. Python hashes nested tuples by recursion in C: a few 100,000 end the process."""

MAX_NAMES = 2_000
"""Most modules, and most tensors, in one network. A 512×512 generator has about 130 and 200."""

MAX_AXES = 4
"""Most axes of a tensor."""

MAX_PATH = 200
"""Most characters in a module's dotted path; ends the walk where modules contain each other."""

STORAGE_PICKLES = 5
"""Pickles at the head of a storage as torch's legacy format writes it: magic, version, system, storage, keys."""


class _Sealed(type):
    """Classes that a pickle cannot change: its BUILD instruction may otherwise set attributes of anything it holds."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError(f"{cls.__name__} cannot be changed")


class Module(metaclass=_Sealed):
    """A ``torch.nn.Module`` of the pickle: its ``__dict__`` as ``state``, and nothing that could be called."""

    __slots__ = ("state",)

    state: dict[Any, Any]

    def __new__(cls, *_: object) -> Self:
        module = super().__new__(cls)
        module.state = {}  # here, because a pickle creates plain modules by __new__ alone
        return module

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise TypeError("a module's state must be a dict")
        self.state = state

    def modules(self) -> dict[str, "Module"]:
        """This module and all below it by their dotted paths; its own path is empty."""
        found: dict[str, Module] = {"": self}
        pending = [("", self)]
        while pending:
            path, module = pending.pop()
            for name, child in module.members("_modules"):
                if not isinstance(child, Module):
                    raise InputError("source", f"{quoted(path + name)} is not a module")
                _check_count("modules", len(found), MAX_NAMES)
                _check_count("characters in the path of a module", len(path) + len(name), MAX_PATH)
                found[path + name] = child
                pending.append((f"{path}{name}.", child))
        return found

    def tensors(self) -> dict[str, "TensorRecord"]:
        """Parameters and buffers of this module and all below it, named as ``torch.nn.Module.state_dict`` does."""
        found: dict[str, TensorRecord] = {}
        for path, module in self.modules().items():
            for kind in ("_parameters", "_buffers"):
                for name, tensor in module.members(kind):
                    full = f"{path}.{name}" if path else name
                    if not isinstance(tensor, TensorRecord):
                        raise InputError("source", f"{quoted(full)} is not a tensor")
                    found[full] = tensor
                    _check_count("tensors", len(found), MAX_NAMES)
        return found

    def members(self, kind: str) -> list[tuple[str, Any]]:
        """Names and values of ``_modules``, ``_parameters`` or ``_buffers``, without those that are None."""
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
    """Stands for ``OrderedDict`` and ``EasyDict``; filled item by item, never by a copy."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()


class _Storage(metaclass=_Sealed):
    """Stands for ``torch.storage._load_from_bytes``: the bytes, unread."""

    __slots__ = ("payload",)

    def __init__(self, payload: object) -> None:
        self.payload = payload


class TensorRecord(metaclass=_Sealed):
    """Stands for ``torch._utils._rebuild_tensor_v2``: what the pickle declares about a tensor, unchecked."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: object, offset: object, shape: object, stride: object, *_: object) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    @property
    def payload(self) -> bytes:
        """The bytes from which the tensor is read; TypeError where the pickle gave it something else."""
        if not isinstance(self.storage, _Storage) or not isinstance(self.storage.payload, bytes):
            raise TypeError("it has no storage")
        return self.storage.payload

    def load(self) -> Tensor:
        """The tensor, after checking that it lies inside its storage.

        Raises:
            ValueError, TypeError: the declared offset, shape or stride makes no sense.
            Exception: the bytes are damaged; torch raises several kinds.
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
        if not 0 < math.prod(self.shape) <= flat.numel():  # a stride of 0 would make any number of elements of one
            raise ValueError(f"it declares {math.prod(self.shape)} elements, but its storage has {flat.numel()}")
        return flat.as_strided(self.shape, self.stride, self.offset)  # refuses what lies outside


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
    "numpy._core.multiarray.scalar": _Ignored,  # the same since numpy 2
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise InputError(
                "source", f"names {quoted(f'{module}.{name}')}, which no original network needs; nothing was run"
            ) from None

    def persistent_load(self, pid: object) -> object:
        raise InputError("source", "refers to objects outside the file, which no original network does")


def read_pickle(path: Path) -> object:
    """The object in a pickle file, made of plain Python values, :class:`Module` and :class:`TensorRecord`.

    Raises:
        InputError: the file cannot be read, is too large, is damaged or no pickle, or names anything that is not known.
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
    except Exception as error:  # a damaged pickle makes the unpickler raise almost anything
        raise InputError("source", f"{path} is not a complete pickle ({first_line(error)})") from None


def quoted(name: str) -> str:
    """A name out of a file as it may stand in a message: one line, of bounded length."""
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


def first_line(error: Exception) -> str:
    """What an error says, as one line of bounded length that cannot steer a terminal."""
    lines = str(error).splitlines() or [type(error).__name__]
    return "".join(filter(str.isprintable, lines[0][:200]))


def _check_opcodes(stream: IO[bytes]) -> None:
    """Reads one pickle without performing it; refuses one that is truncated or that asks for too much of anything."""
    tuples = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream), start=1):
        _check_count("instructions", count, MAX_OPCODES)
        if opcode.name.startswith("TUPLE"):
            tuples += 1
            _check_count("tuples", tuples, MAX_TUPLES)
        elif opcode.name.endswith("PUT"):
            # The unpickler allocates every memo slot up to the one that is named.
            _check_count("memo slots", int(argument or 0), MAX_OPCODES)


def _load_storage(payload: bytes) -> Tensor:
    """A storage in torch's legacy format as a flat tensor."""
    if not payload.startswith(b"\x80"):  # a zip archive, in which a few bytes could stand for any number
        raise ValueError("its storage is not in torch's legacy format")
    stream = io.BytesIO(payload)
    for _ in range(STORAGE_PICKLES):
        _check_opcodes(stream)
    storage = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise TypeError("its bytes hold something else than a storage")
    return torch.empty(0, dtype=storage.dtype).set_(storage)


def _check_count(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise InputError("source", f"has more than {limit:,} {what}")
