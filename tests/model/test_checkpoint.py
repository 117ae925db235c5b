"""Checkpoints are read back as written, and any other file is refused."""

import hashlib
import json
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint import Checkpoint, save_checkpoint
from model.config import PRESETS, GeneratorConfig
from model.errors import InputError
from model.generator import Generator
from model.shapes import tensor_shapes
from model.util.files import write_atomically

CONFIG = GeneratorConfig(resolution=8, z_dim=4, w_dim=4, classes=3, mapping_layers=1, channel_base=64, channel_max=8)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(1)
    return Generator(CONFIG)


@pytest.fixture
def path(tmp_path: Path, generator: Generator) -> Path:
    return save_checkpoint(tmp_path / "demo.safetensors", generator, {"licence": "CC0", "images_seen": 5}).path


def rewrite(
    path: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors,
    metadata: Mapping[str, str | None] = {},
) -> Path:
    """Writes the file again with other tensors or other metadata; None leaves an entry out."""
    present = {
        "format": "creps",
        "format_version": "1",
        "config": json.dumps(CONFIG.to_dict()),
        "info": "{}",
        **metadata,
    }
    save_file(
        change(load_file(path)), path, metadata={name: text for name, text in present.items() if text is not None}
    )
    return path


def refusal(path: Path) -> str:
    """The message with which opening or loading refuses the file: one line, naming it."""
    with pytest.raises(InputError) as caught:
        Checkpoint.open(path).load()
    message = str(caught.value)
    assert caught.value.field == "checkpoint"
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_what_is_saved_is_loaded(path: Path, generator: Generator) -> None:
    checkpoint = Checkpoint.open(path)
    assert checkpoint.name == "demo"
    assert checkpoint.config == CONFIG
    assert checkpoint.info == {"licence": "CC0", "images_seen": 5}
    loaded = checkpoint.load()
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.state_dict().keys() == generator.state_dict().keys()
    for name, tensor in generator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_its_text(preset: str) -> None:
    values = json.loads(json.dumps(PRESETS[preset].to_dict()))
    assert GeneratorConfig.from_dict(values) == PRESETS[preset]


def test_the_digest_is_that_of_the_file(path: Path) -> None:
    assert Checkpoint.open(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_checkpoints_are_equal_files(tmp_path: Path, generator: Generator) -> None:
    digests = {save_checkpoint(tmp_path / f"{i}.safetensors", generator, {"b": 1, "a": 2}).digest for i in range(6)}
    assert len(digests) == 1


def test_tensors_begin_where_they_can_be_mapped(path: Path) -> None:
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_half_precision_is_read_as_single(path: Path) -> None:
    rewrite(path, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    assert {tensor.dtype for tensor in Checkpoint.open(path).load().state_dict().values()} == {torch.float32}


def test_opening_needs_no_torch(path: Path) -> None:
    """The gateway runs where torch is not installed."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from model.checkpoint import Checkpoint; import model.spec, model.viewport\n"
        "checkpoint = Checkpoint.open(Path(sys.argv[1])); print(checkpoint.digest, checkpoint.config.resolution)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [Checkpoint.open(path).digest, "8"]


def test_loading_needs_no_compiler_of_torch(path: Path) -> None:
    """Importing it takes longer than all the rest of loading."""
    program = (
        "import sys; from pathlib import Path; from model.checkpoint import Checkpoint\n"
        "Checkpoint.open(Path(sys.argv[1])).load(); print(*sys.modules.keys() & {'torch._dynamo', 'sympy'})"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# Files that are no checkpoints


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused(path: Path, part: float) -> None:
    content = path.read_bytes()
    short = path.with_name("short.safetensors")
    short.write_bytes(content[: int(part * len(content))])
    assert "not a complete safetensors file" in refusal(short)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a complete safetensors file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a complete safetensors file"),
        (b"\xff" * 7 + b"\x7f{}", "not a complete safetensors file"),
        (pickle.dumps({"a": 1}), "a pickle, which is never loaded"),
        (b"PK\x03\x04" + bytes(100), "a pickle, which is never loaded"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Harmful:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {canary}",)

    path = tmp_path / "network.safetensors"
    path.write_bytes(pickle.dumps(Harmful()))
    assert "creps import" in refusal(path)
    assert not canary.exists()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert "is not a file" in refusal(tmp_path / "missing.safetensors")
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_files_that_cannot_be_read_are_named(path: Path) -> None:
    path.chmod(0)
    assert "cannot be read" in refusal(path)


# Headers


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": None}, "not a CREPS checkpoint"),
        ({"format": "pt"}, "not a CREPS checkpoint"),
        ({"format_version": None}, "format version ''"),
        ({"format_version": "2"}, "format version '2'"),
        ({"config": None}, "no readable config"),
        ({"config": "{"}, "no readable config"),
        ({"config": "[]"}, "no readable config"),
        ({"config": "[" * 100_000}, "no readable config"),
        ({"config": '{"resolution": ' + "9" * 5000 + "}"}, "no readable config"),
        ({"info": "7"}, "no readable config"),
        ({"config": "{}"}, "config.resolution: is missing"),
        ({"config": '{"resolution": 8, "depth": 1}'}, "unknown setting 'depth'"),
        ({"config": '{"resolution": 8, "' + "x" * 9000 + '": 1}'}, "unknown setting"),
        ({"config": '{"resolution": "8"}'}, "config.resolution: must be an integer"),
        ({"config": '{"resolution": 12}'}, "config.resolution: must be a power of two"),
        ({"config": '{"resolution": 1048576}'}, "config.resolution: must be an integer from 8 to 4096"),
        ({"config": '{"resolution": 8, "w_dim": 1000000000}'}, "config.w_dim: must be an integer from 1 to 4096"),
        ({"config": '{"resolution": 8, "classes": -1}'}, "config.classes"),
        ({"config": '{"resolution": 8, "thickness": true}'}, "config.thickness"),
        ({"config": '{"resolution": 8, "decoders": 1}'}, "config.decoders"),
        ({"config": '{"resolution": 8, "fusion": "first"}'}, "config.fusion"),
        ({"config": '{"resolution": 4096, "channel_base": 2048}'}, "config.channel_base"),
    ],
)
def test_headers_are_checked(path: Path, metadata: dict[str, str | None], message: str) -> None:
    assert message in refusal(rewrite(path, metadata=metadata))


@given(
    st.builds(
        GeneratorConfig,
        resolution=st.sampled_from([8, 16, 64]),
        z_dim=st.integers(1, 5),
        w_dim=st.integers(1, 5),
        classes=st.integers(0, 3),
        mapping_layers=st.integers(1, 3),
        channel_base=st.sampled_from([64, 256]),
        channel_max=st.sampled_from([2, 6]),
        thickness=st.integers(1, 3),
        decoders=st.booleans(),
        fusion=st.sampled_from(["layerwise", "last"]),
        last_block=st.sampled_from([None, 8]),
    )
)
def test_shapes_are_known_without_the_network(config: GeneratorConfig) -> None:
    with torch.device("meta"):
        state = Generator(config).state_dict()
    assert tensor_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_a_config_of_the_largest_size_costs_nothing(path: Path) -> None:
    """Shapes are compared before anything is allocated."""
    largest = {"resolution": 4096, "w_dim": 4096, "z_dim": 4096, "channel_base": 1 << 20, "channel_max": 4096}
    message = refusal(rewrite(path, metadata={"config": json.dumps({**largest, "classes": 100_000, "thickness": 64})}))
    assert "tensor" in message


# Tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {n: t[n] for n in t if n != "mapping.w_avg"}, "lacks tensor 'mapping.w_avg'"),
        (lambda t: {**t, "mapping.x": torch.zeros(1)}, "has an unknown tensor 'mapping.x'"),
        (
            lambda t: {**t, "mapping.w_avg": torch.zeros(5)},
            "tensor 'mapping.w_avg' is F32 [5], its config requires [4]",
        ),
        (lambda t: {**t, "mapping.w_avg": torch.zeros(4, dtype=torch.int32)}, "tensor 'mapping.w_avg' is I32"),
        (
            lambda t: {**t, "mapping.w_avg": torch.full((4,), torch.nan)},
            "'mapping.w_avg' holds values that are not fin",
        ),
        (lambda t: {**t, "mapping.w_avg": torch.full((4,), -torch.inf)}, "'mapping.w_avg' holds values that are not"),
        (lambda t: {}, "lacks tensor"),
    ],
)
def test_tensors_are_checked(
    path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    assert message in refusal(rewrite(path, change))


def test_tensors_that_do_not_fit_the_config_are_refused(path: Path) -> None:
    other = {**CONFIG.to_dict(), "thickness": 4}
    assert "synthesis.input" in refusal(rewrite(path, metadata={"config": json.dumps(other)}))


# Writing


def test_writing_replaces_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["a"]


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "a", b"new")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    path: Path, generator: Generator, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, generator)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_what_is_loaded_does_not_change_with_the_file(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "a.safetensors", Generator(CONFIG))
    generator = checkpoint.load()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    size = checkpoint.path.stat().st_size
    with checkpoint.path.open("r+b") as file:  # over it, not into its place
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_a_file_that_was_written_over_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "a.safetensors", Generator(CONFIG))
    other = save_checkpoint(tmp_path / "b.safetensors", Generator(CONFIG))
    checkpoint.path.write_bytes(other.path.read_bytes())
    os.utime(checkpoint.path, ns=(1, 1))
    with pytest.raises(InputError, match="has been overwritten"):
        checkpoint.load()


@pytest.mark.parametrize("left", [0, 4, 8000])
def test_a_file_truncated_after_its_header_was_read_is_refused(path: Path, left: int) -> None:
    checkpoint = Checkpoint.open(path)
    os.truncate(path, left)
    for read in (checkpoint.check, checkpoint.load):
        with pytest.raises(InputError, match="not a complete safetensors file"):
            read()


def test_a_file_overwritten_while_it_is_read_ends_no_process(path: Path) -> None:
    """``cp`` truncates the file that it overwrites; a process that reads a mapping of it is killed by SIGBUS."""
    program = (
        "import sys; from pathlib import Path; from model.checkpoint import Checkpoint, InputError\n"
        "print('ready', flush=True)\n"
        "while Path(sys.argv[1]).exists():\n"
        "    try: Checkpoint.open(Path(sys.argv[1])).check()\n"
        "    except InputError: pass"
    )
    content = path.read_bytes()
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        for _ in range(500):
            path.write_bytes(content)
        path.unlink()
    assert process.returncode == 0


def test_a_file_much_larger_than_its_config_is_not_read(path: Path) -> None:
    """A sparse terabyte whose header is consistent is refused before any memory is taken."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["mapping.w_avg"] = {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + (1 << 40))
    with pytest.raises(InputError, match="larger than its config"):
        Checkpoint.open(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 5000,
        b"[]",
        b'{"a": 9' + b"9" * 5000 + b"}",
        b'{"a": {"dtype": "F32", "shape": [2]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": []}}',
        b'{"__metadata__": 7}',
        b"\xff\xfe",
    ],
)
def test_malformed_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "not a complete safetensors file" in refusal(tmp_path / "a.safetensors")
