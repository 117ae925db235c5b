"""Weights that come from users: what is refused, and that nothing in them is run."""

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.errors import InputError
from model.evaluation.extractors import INCEPTION, VGG16
from tests.model.evaluation.toy import LAYER, NAME, Toy, write_weights

TOY = replace(INCEPTION, name=NAME, layer=LAYER)
CPU = torch.device("cpu")


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refused(path: Path | None) -> str:
    with pytest.raises(InputError) as error:
        TOY.load(path, CPU)
    assert error.value.field == "inception-weights"
    assert "\n" not in error.value.message
    return error.value.message


def test_the_weights_are_used(tmp_path: Path) -> None:
    network = TOY.load(write_weights(tmp_path / "a.pth", 0.5), CPU)
    (features,) = network(torch.full((2, 3, 4, 4), 10, dtype=torch.uint8))
    assert torch.equal(features, torch.full((2, 3), 5.0))


def test_none_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_: pytest.fail("downloads"))
    for extractor in (INCEPTION, VGG16):
        with pytest.raises(InputError) as error:
            extractor.load(None, CPU)
        assert extractor.url in error.value.message
        assert f"--{extractor.option}" in error.value.message


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_not_run(legacy: bool, tmp_path: Path) -> None:
    path, made = tmp_path / "a.pth", tmp_path / "made"
    torch.save({"scale": Payload(made)}, path, _use_new_zipfile_serialization=not legacy)
    assert "cannot be read as weights alone" in refused(path)
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()  # it would have been run


def test_code_of_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    path, made = tmp_path / "a.pth", tmp_path / "made"
    path.write_bytes(pickle.dumps(Payload(made)))
    refused(path)
    assert not made.exists()


def test_what_was_checked_is_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes after it was read changes nothing."""
    path, made = write_weights(tmp_path / "a.pth", 2.0), tmp_path / "made"
    load = torch.load

    def load_and_replace(*arguments: object, **options: object) -> object:
        state = load(*arguments, **options)  # type: ignore[arg-type]
        torch.save({"scale": Payload(made)}, path)
        return state

    monkeypatch.setattr("torch.load", load_and_replace)
    assert dict(TOY.load(path, CPU).named_parameters())["scale"] == 2
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"scale": torch.tensor(float("nan"))}, "not finite"),
        ({"other": torch.tensor(1.0)}, "does not hold the weights"),
        ({"scale": torch.zeros(3)}, "does not hold the weights"),
        ({"scale": 1.0}, "does not hold the tensors"),
        (torch.tensor(1.0), "does not hold the tensors"),
    ],
)
def test_other_contents(content: object, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert told in refused(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", bytes(1000)])
def test_files_that_hold_no_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert "cannot be read as weights alone" in refused(tmp_path / "a.pth")


def test_files_cut_short(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.pth")
    path.write_bytes(path.read_bytes()[:-100])
    refused(path)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    assert "is not a file" in refused(tmp_path)
    assert "is not a file" in refused(tmp_path / "missing.pth")


def test_unpublished_weights_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_weights(tmp_path / "a.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert TOY.digest(path) == digest
    assert f"begins with {digest[:8]}" in capsys.readouterr().err
    published = replace(TOY, address=f"{__name__}:PUBLISHED")
    globals()["PUBLISHED"] = f"https://example.org/toy-{digest[:8]}.pth"
    assert published.digest(path) == digest
    assert capsys.readouterr().err == ""


def test_torch_fidelity_has_what_is_asked_of_it() -> None:
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    assert FEATURE_EXTRACTORS_REGISTRY[NAME] is Toy
    for extractor, metric in ((INCEPTION, "fid"), (INCEPTION, "kid"), (VGG16, "prc")):
        kind = FEATURE_EXTRACTORS_REGISTRY[extractor.name]
        assert kind.get_default_feature_layer_for_metric(metric) == extractor.layer
    assert INCEPTION.url.endswith("/weights-inception-2015-12-05-6726825d.pth")
    assert VGG16.url == "https://download.pytorch.org/models/vgg16-397923af.pth"


class TestImport:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A torch_fidelity that goes before the real one."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
            monkeypatch.delitem(sys.modules, name)
        (tmp_path / "torch_fidelity").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path / "torch_fidelity" / "__init__.py"

    def test_a_torchvision_for_another_torch(self, package: Path) -> None:
        package.write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        with pytest.raises(InputError, match="torchvision of the same build: pip install --force-reinstall"):
            TOY.load(None, CPU)

    def test_not_installed(self, package: Path) -> None:
        package.write_text("import no_such_package")
        with pytest.raises(InputError, match=r"no_such_package.*pip install 'creps-serve\[evaluate\]'"):
            TOY.load(None, CPU)

    def test_only_when_it_is_needed(self) -> None:
        """The import needs nothing of the evaluate extra."""
        modules = "model.evaluation.evaluation, model.evaluation.figure"
        blocked = ["torch_fidelity", "torchvision", "matplotlib", "kernels", "service"]
        code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {modules}"
        subprocess.run([sys.executable, "-c", code], check=True)
