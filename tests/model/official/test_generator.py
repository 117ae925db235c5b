"""The importer converts what original pickles hold, and nothing that they name or carry ever runs."""

import io
import os
import pickle
import pickletools
import re
import resource
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model.config import GeneratorConfig
from model.errors import InputError
from model.generator import Generator
from model.official.generator import convert_state_dict, import_pickle
from model.official.pickle_reader import MAX_OPCODES, MAX_TUPLES, read_pickle
from tests import golden_files, original_pickle
from tests.original_pickle import Persistent

SMALL = GeneratorConfig(resolution=16, z_dim=6, w_dim=4, mapping_layers=2, channel_base=128, channel_max=12)
INIT_KWARGS = {"z_dim": 6, "c_dim": 0, "w_dim": 4, "img_resolution": 16, "img_channels": 3}


def original_state(config: GeneratorConfig) -> dict[str, Tensor]:
    """The tensors of a random generator, under the names and in the shapes of the original."""
    torch.manual_seed(0)
    state = {}
    for name, tensor in Generator(config).state_dict().items():
        name = re.sub(r"^mapping\.layers\.", "mapping.fc", name)
        name = re.sub(r"^synthesis\.blocks\.(\d+)", lambda m: f"synthesis.b{2 ** (int(m[1]) + 2)}", name)
        name = re.sub(r"^synthesis\.to_rgb", "synthesis.decoder_img", name)
        name = re.sub(r"^synthesis\.refinements\.", "synthesis.block", name)
        name = name.replace("to_line", "tores").replace("to_rgb", "tores")
        if match := re.match(r"synthesis\.decoders\.(\d+)\.layers\.(.*)", name):
            last = int(match[1]) == config.decoder_count - 1
            name = f"synthesis.decoder_{'last' if last else 2 ** (int(match[1]) + 4)}.{match[2]}"
        if name == "synthesis.input.weight":
            tensor = tensor.reshape(1, tensor.shape[0], 1, 2 * config.thickness)
        if name == "synthesis.input.frequencies":
            name, tensor = "synthesis.input.freqs", tensor.reshape(1, -1)
        state[name.replace("synthesis.input", "synthesis.b4.input")] = tensor
    return state


@pytest.fixture
def state() -> dict[str, Tensor]:
    return original_state(SMALL)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "imported.safetensors"


def refusal(source: Path, destination: Path) -> str:
    """The message with which a pickle is refused; nothing may have been written."""
    before = set(destination.parent.iterdir())
    with pytest.raises(InputError) as caught:
        import_pickle(source, destination)
    assert set(destination.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def refusal_of(content: bytes, destination: Path) -> str:
    source = destination.with_name("network.pkl")
    source.write_bytes(content)
    return refusal(source, destination)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _storage(tensor: Tensor) -> bytes:
    """A tensor's storage as torch writes it into a pickle."""
    arguments = (argument for _, argument, _ in pickletools.genops(pickle.dumps(tensor)))
    return next(argument for argument in arguments if isinstance(argument, bytes))


def _tensor(payload: bytes, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    """Pickles as a tensor that declares anything about the storage in ``payload``."""
    storage = Call(torch.storage._load_from_bytes, payload)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())


def _snapshot_with(payload: bytes, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A snapshot whose only tensor is ``mapping.w_avg``."""
    network, mapping = Persistent("Generator"), Persistent("MappingNetwork")
    mapping.__dict__["_buffers"] = {"w_avg": _tensor(payload, shape, stride, offset)}
    network.add_module("mapping", mapping)
    return original_pickle.dumps({"G_ema": network})


@cache
def _small_pickle() -> bytes:
    return original_pickle.dumps(original_pickle.snapshot(original_pickle.build(original_state(SMALL), INIT_KWARGS)))


@contextmanager
def _bounded_memory(megabytes: int = 64) -> Iterator[None]:
    """Fails where the process's peak memory grows by more."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < megabytes * 1024


# What is converted


@pytest.mark.parametrize("network", golden_files.NETWORKS)
def test_an_original_pickle_becomes_a_checkpoint(network: str, tmp_path: Path, destination: Path) -> None:
    golden = golden_files.load(network)
    source = original_pickle.write(tmp_path / f"{network}.pkl", golden.state, golden.config)
    checkpoint = import_pickle(source, destination)
    config, expected = convert_state_dict(golden.state)
    assert checkpoint.config == config
    assert checkpoint.info["source"] == source.name
    found = checkpoint.load().state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_importing_again_gives_the_same_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    source = original_pickle.write(tmp_path / "a.pkl", state, INIT_KWARGS)
    digests = {import_pickle(source, tmp_path / f"{i}.safetensors").digest for i in range(4)}
    assert len(digests) == 1


def test_the_pickles_of_these_tests_name_what_originals_name(state: dict[str, Tensor]) -> None:
    content = original_pickle.dumps(original_pickle.snapshot(original_pickle.build(state, INIT_KWARGS)))
    named = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            named.add(f"{module}.{name}")
            return type(name, (dict,), {"__init__": lambda *_: None, "__setstate__": lambda *_: None})

    Recorder(io.BytesIO(content)).load()
    assert named == {
        "torch_utils.persistence._reconstruct_persistent_obj",
        "dnnlib.util.EasyDict",
        "training.networks_creps.SynthesisInput",
        "torch.nn.modules.container.Sequential",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.storage._load_from_bytes",
        "collections.OrderedDict",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
    }
    assert not {"torch_utils.persistence", "dnnlib.util", "training.networks_creps"} & sys.modules.keys()


@given(
    st.builds(
        GeneratorConfig,
        resolution=st.sampled_from([8, 16, 32, 64]),
        z_dim=st.integers(1, 9),
        w_dim=st.integers(1, 9),
        classes=st.integers(0, 4),
        mapping_layers=st.integers(1, 4),
        channel_base=st.integers(8, 90).map(lambda n: 8 * n),
        channel_max=st.integers(4, 12).map(lambda n: 2 * n),
        thickness=st.integers(1, 9),
        decoders=st.booleans(),
    )
)
def test_the_form_follows_from_the_shapes(config: GeneratorConfig) -> None:
    found, state = convert_state_dict(original_state(config))
    assert found.channels == config.channels
    for setting in ("resolution", "z_dim", "w_dim", "classes", "mapping_layers", "thickness", "decoders", "fusion"):
        assert getattr(found, setting) == getattr(config, setting)
    torch.manual_seed(0)
    for name, tensor in Generator(config).state_dict().items():
        assert torch.equal(state[name], tensor)


def test_a_network_of_the_last_product_only() -> None:
    config = GeneratorConfig(32, z_dim=4, w_dim=4, mapping_layers=1, channel_base=512, channel_max=8, fusion="last")
    found, _ = convert_state_dict(original_state(config))
    assert found.fusion == "last"
    assert found.decoder_count == 1


@pytest.mark.parametrize(
    ("channels", "base", "maximum"),
    [
        ((1024, 1024, 1024, 1024, 1024, 512, 256, 128), 65536, 1024),
        ((512, 512, 512, 512, 512, 256, 128, 64), 32768, 512),
        ((8, 8), 64, 8),
        ((8, 8, 7), 112, 8),
    ],
)
def test_channel_settings_are_found(channels: tuple[int, ...], base: int, maximum: int) -> None:
    config = GeneratorConfig(
        4 << (len(channels) - 1), z_dim=2, w_dim=2, mapping_layers=1, channel_base=base, channel_max=maximum
    )
    assert config.channels == channels
    with torch.device("meta"):
        shapes = original_state(config)
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in shapes.items()}
    found, _ = convert_state_dict(state)
    assert (found.channel_base, found.channel_max) == (base, maximum)


def test_half_precision_is_widened(state: dict[str, Tensor]) -> None:
    _, found = convert_state_dict({name: tensor.half() for name, tensor in state.items()})
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


# Networks that are not CREPS generators


@pytest.mark.parametrize(
    "name",
    [
        "mapping.w_avg",
        "mapping.fc0.bias",
        "synthesis.b4.input.freqs",
        "synthesis.b4.fc1.weight",
        "synthesis.b8.tores.affine.weight",
        "synthesis.decoder_16.2.bias",
        "synthesis.decoder_img.weight",
        "synthesis.block1.tores.weight",
    ],
)
def test_a_missing_tensor_is_named(state: dict[str, Tensor], name: str) -> None:
    del state[name]
    with pytest.raises(InputError, match=re.escape(repr(name))):
        convert_state_dict(state)


@pytest.mark.parametrize("name", ["synthesis.b4.const", "synthesis.b64.fc1.weight", "mapping.fc7.weight", "x" * 5000])
def test_an_unknown_tensor_is_named(state: dict[str, Tensor], name: str) -> None:
    with pytest.raises(InputError, match=re.escape(name[:100])) as caught:
        convert_state_dict({**state, name: torch.zeros(1)})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "name", ["synthesis.b4.tores.weight", "synthesis.decoder_8.0.bias", "synthesis.b4.input.coords"]
)
def test_tensors_that_originals_never_use_are_dropped(state: dict[str, Tensor], name: str) -> None:
    _, plain = convert_state_dict(state)
    _, found = convert_state_dict({**state, name: torch.zeros(7)})
    assert found.keys() == plain.keys()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("synthesis.b8.fc0.weight", lambda t: t[:, :-1], "has shape"),
        ("synthesis.b4.input.weight", lambda t: t[:, :, :, :-2], "has shape"),
        ("synthesis.b4.input.weight", lambda t: t.squeeze(), "must have 4 axes"),
        ("synthesis.b4.input.freqs", lambda t: t.reshape(-1), "has shape"),
        ("synthesis.b4.fc1.weight", lambda t: t[0], "must have 2 axes"),
        ("synthesis.b8.fc1.weight", lambda t: t[:5], "channel_base"),
        ("synthesis.decoder_16.1.weight", lambda t: t[:100], "has shape"),
        ("synthesis.decoder_img.weight", lambda t: t[:1], "img_channels must be 3, not 1"),
        ("synthesis.decoder_last.3.bias", lambda t: t * torch.nan, "not finite"),
        ("synthesis.b16.fc0.bias", lambda t: t.double() + 1e300, "not finite"),
        ("mapping.w_avg", lambda t: t.int(), "floating point"),
        ("mapping.fc0.weight", lambda t: t[:, :0], "config.z_dim"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    state: dict[str, Tensor], name: str, change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert_state_dict({**state, name: change(state[name])})


@pytest.mark.parametrize(
    ("module", "attribute", "value"),
    [
        ("synthesis.b8.fc0", "fc_clamp", None),
        ("synthesis.block1.tores", "fc_clamp", 64),
        ("synthesis.b16.fc1", "activation", "relu"),
        ("synthesis.decoder_16.2", "activation", "linear"),
        ("mapping.fc1", "activation", "elu"),
        ("mapping.fc0", "bias_gain", 1),
        ("synthesis.b16", "architecture", "orig"),
    ],
)
def test_a_network_that_computes_otherwise_is_refused(
    state: dict[str, Tensor], destination: Path, module: str, attribute: str, value: object
) -> None:
    """Shapes alone do not tell: the image would come out wrong without a word."""
    network = original_pickle.build(state, INIT_KWARGS)
    setattr(network.get_submodule(module), attribute, value)
    message = refusal_of(original_pickle.dumps(original_pickle.snapshot(network)), destination)
    assert module in message
    assert attribute in message


# Files that are no original pickles


@pytest.mark.parametrize("place", ["D", "G_ema", "training_set_kwargs"])
@pytest.mark.parametrize(
    ("function", "code", "name"),
    [
        (os.system, "touch {}", f"{os.name}.system"),
        (eval, "open({!r}, 'w')", "builtins.eval"),
        (exec, "open({!r}, 'w')", "builtins.exec"),
        (getattr, "{}", "builtins.getattr"),
        (torch.load, "{}", "torch.serialization.load"),
        (nn.Linear, "{}", "torch.nn.modules.linear.Linear"),
        (set, "{}", "builtins.set"),
    ],
)
def test_forbidden_names_are_refused_and_nothing_runs(
    destination: Path, place: str, function: Callable[..., object], code: str, name: str
) -> None:
    canary = destination.with_name("canary")
    content = original_pickle.dumps({"G": None, place: Call(function, code.format(str(canary)))})
    assert repr(name) in refusal_of(content, destination)
    assert not canary.exists()


@pytest.mark.parametrize("opcodes", [b"cos\nsystem\n", b"(S'id'\nios\nsystem\n", b"\x8c\x02os\x8c\x06system\x93"])
def test_every_way_of_naming_is_watched(destination: Path, opcodes: bytes) -> None:
    assert "'os.system'" in refusal_of(b"\x80\x04" + opcodes + b".", destination)


def test_the_source_text_in_a_pickle_never_runs(
    state: dict[str, Tensor], destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = destination.with_name("canary")
    monkeypatch.setattr(original_pickle, "MODULE_SRC", f"open({str(canary)!r}, 'w')\n")
    source = original_pickle.write(destination.with_name("a.pkl"), state, INIT_KWARGS)
    assert str(canary).encode() in source.read_bytes()
    import_pickle(source, destination).load()
    assert not canary.exists()


def test_a_pickle_nested_in_a_tensor_never_runs(destination: Path) -> None:
    """torch's own reader of these bytes would run them."""
    canary = destination.with_name("canary")
    payload = io.BytesIO()
    torch.save(Call(os.system, f"touch {canary}"), payload, _use_new_zipfile_serialization=False)
    message = refusal_of(_snapshot_with(payload.getvalue(), (1,), (1,)), destination)
    assert "mapping.w_avg" in message
    assert not canary.exists()


@pytest.mark.parametrize("zipped", [False, True])
def test_bytes_that_are_no_storage_are_refused(destination: Path, zipped: bool) -> None:
    payload = io.BytesIO()
    torch.save({"a": 1}, payload, _use_new_zipfile_serialization=zipped)
    assert "mapping.w_avg" in refusal_of(_snapshot_with(payload.getvalue(), (1,), (1,)), destination)


def test_stand_ins_cannot_be_changed_by_a_pickle(state: dict[str, Tensor], destination: Path) -> None:
    """BUILD with slots sets attributes, even of a class that was merely named."""
    content = b"\x80\x04ccollections\nOrderedDict\n(N}\x8c\x08__init__Nstb."
    assert "cannot be changed" in refusal_of(content, destination)
    import_pickle(original_pickle.write(destination.with_name("a.pkl"), state, INIT_KWARGS), destination)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world\n", "not a complete pickle"),
        (b'{"a": 1}', "not a complete pickle"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a complete pickle"),
        (b"PK\x03\x04" + bytes(100), "torch.save archive"),
        (pickle.dumps({"a": 1}), "holds no network 'G_ema'"),
        (pickle.dumps([1, 2, 3]), "holds no network 'G_ema'"),
        (pickle.dumps({"G_ema": {"weight": 1}}), "holds no network 'G_ema'"),
        (b"\x80\x04\x8c\x01aQ.", "outside the file"),
        (b"\x80\x04}b.", "not a complete pickle"),
        (b"\x80\x04\x82\x01.", "not a complete pickle"),
    ],
)
def test_other_files_are_refused(destination: Path, content: bytes, message: str) -> None:
    assert message in refusal_of(content, destination)


def test_files_that_cannot_be_read_are_named(destination: Path, tmp_path: Path) -> None:
    assert "missing.pkl cannot be read: No such file" in refusal(tmp_path / "missing.pkl", destination)
    assert "Is a directory" in refusal(tmp_path, destination)


def test_destinations_are_checked(state: dict[str, Tensor], tmp_path: Path) -> None:
    source = original_pickle.write(tmp_path / "a.pkl", state, INIT_KWARGS)
    assert "must end in .safetensors" in refusal(source, tmp_path / "b.pkl")
    with pytest.raises(InputError, match="cannot be written"):
        import_pickle(source, source / "b.safetensors")


@given(st.floats(0, 1, exclude_max=True))
def test_truncated_pickles_are_refused(tmp_path_factory: pytest.TempPathFactory, part: float) -> None:
    content = _small_pickle()
    destination = tmp_path_factory.mktemp("truncated") / "a.safetensors"
    message = refusal_of(content[: int(part * len(content))], destination)
    assert "complete pickle" in message or "is empty" in message


@given(st.data())
def test_damaged_pickles_never_end_in_anything_but_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(_small_pickle())
    # The instructions lie between the tensors' bytes; half of the damage goes to the beginning, where there are most.
    last = data.draw(st.sampled_from([2000, len(content) - 1]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a.pkl").write_bytes(content)
    try:
        import_pickle(folder / "a.pkl", folder / "a.safetensors")
    except InputError:
        assert [path.name for path in folder.iterdir()] == ["a.pkl"]


# Files that ask for too much


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((1 << 40,), (1,), 0),
        ((1 << 40,), (0,), 0),
        ((1 << 20, 1 << 20), (0, 0), 0),
        ((2, 2), (1 << 40, 1), 0),
        ((4,), (1,), 1),
        ((4,), (1,), 1 << 62),
        ((-1,), (1,), 0),
        ((4,), (-1,), 3),
        ((4,), (1, 1), 0),
        ((1 << 70,), (1 << 70,), 0),
        ((1,) * 1000, (1,) * 1000, 0),
        ((0,), (1,), 0),
        (("4",), (1,), 0),
    ],
)
def test_tensors_larger_than_their_storage_are_refused(
    destination: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    content = _snapshot_with(_storage(torch.zeros(4)), shape, stride, offset)
    with _bounded_memory():
        assert "tensor 'mapping.w_avg' cannot be read" in refusal_of(content, destination)


@pytest.mark.parametrize("elements", [5, 1 << 30, 1 << 40, 1 << 62, -1])
def test_storages_larger_than_their_bytes_are_refused(destination: Path, elements: int) -> None:
    """Both places where the legacy format tells the number of elements."""
    storage = _storage(torch.zeros(4))
    head, mark, tail = storage.partition(b"K\x04Nt")
    assert mark
    declared = head + b"\x8a\x08" + struct.pack("<q", elements) + b"Nt" + tail
    for payload in (declared, declared[:-24] + struct.pack("<q", elements) + declared[-16:]):
        with _bounded_memory():
            message = refusal_of(_snapshot_with(payload, (4,), (1,)), destination)
        assert "tensor 'mapping.w_avg' cannot be read" in message


def test_the_same_bytes_named_again_and_again_are_refused(destination: Path) -> None:
    """A small file could otherwise fill any memory with copies."""
    payload = _storage(torch.zeros(1 << 20))
    network = Persistent("Generator")
    network.__dict__["_buffers"] = {f"copy{i}": _tensor(payload, (1 << 20,), (1,)) for i in range(100)}
    content = original_pickle.dumps({"G_ema": network})
    assert len(content) < 2 * len(payload)
    with _bounded_memory():
        assert "larger than the file" in refusal_of(content, destination)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04Nr\xff\xff\xff\xff.", "memo slots"),
        (b"\x80\x04Np4294967295\n.", "memo slots"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.", "not a complete pickle"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.", "not a complete pickle"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.", "not a complete pickle"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.", "not a complete pickle"),
        (b"\x80\x04" + b"N0" * MAX_OPCODES + b"N.", "instructions"),
        (b"\x80\x04}(" + b")" + b"\x85" * 500_000 + b"Nu.", "tuples"),
        (b"\x80\x04}(" + b")" + b"\x85" * (MAX_TUPLES - 1) + b"Nu.", "holds no network"),
        (b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".", "holds no network"),
        (b"L" + b"9" * 100_000 + b"\n.", "not a complete pickle"),
    ],
    ids=["memo", "text-memo", "bytes", "text", "bytearray", "frame", "length", "hash", "tuples", "lists", "integer"],
)
def test_bombs_are_refused(destination: Path, content: bytes, message: str) -> None:
    with _bounded_memory(megabytes=256):
        assert message in refusal_of(content, destination)


def test_modules_that_contain_each_other_are_refused(destination: Path) -> None:
    network = Persistent("Generator")
    loop = original_pickle.SynthesisInput()
    loop._modules["self"] = loop
    network._modules["loop"] = loop
    assert "path of a module" in refusal_of(original_pickle.dumps({"G_ema": network}), destination)


def test_modules_that_multiply_are_refused(destination: Path) -> None:
    module: nn.Module = Persistent("Leaf")
    for _ in range(20):
        parent = Persistent("Node")
        parent._modules = {str(i): module for i in range(20)}
        module = parent
    assert "modules" in refusal_of(original_pickle.dumps({"G_ema": module}), destination)


@pytest.mark.parametrize("kind", ["_modules", "_parameters", "_buffers"])
@pytest.mark.parametrize("members", [[1, 2], {1: None}, {"a": 1}, {"a": {"b": 2}}])
def test_modules_of_odd_members_are_refused(destination: Path, kind: str, members: object) -> None:
    module = Persistent("Generator")
    module.__dict__[kind] = members
    refusal_of(original_pickle.dumps({"G_ema": module}), destination)


def test_reading_leaves_tensors_unread(tmp_path: Path) -> None:
    """The discriminator's tensors are never turned into memory of their own."""
    (tmp_path / "a.pkl").write_bytes(_snapshot_with(b"nonsense", (4,), (1,)))
    assert isinstance(read_pickle(tmp_path / "a.pkl"), dict)
