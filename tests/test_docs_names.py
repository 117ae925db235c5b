"""Options, settings with their defaults, links, headings and files named in the documentation exist."""

import io
import os
import re
from functools import cache
from pathlib import Path

import pytest

from service.cli import COMMANDS, main
from service.commands.benchmark import BENCHMARKS
from service.runtime.settings import ENVIRONMENT_PREFIX, Settings
from tests.documents import DOCUMENTS, ROOT, anchors, blocks, links, spans

MODULES = {
    "kernels.benchmark": "benchmark",
    "model.training.profiling.benchmark": "benchmark train",
    "model.training": "train",
}
"""Modules that are run with python -m, and the same commands of creps."""

COMMAND = re.compile(
    r"^(?:\w+=\S+ )*(?:creps|(?:python|torchrun [\w -]+?) -m (?P<module>[a-z.]+))(?P<rest>(?: [^|>]+)?)"
)

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")

OTHERS = {
    "--build-arg": "docker build",
    "--maxmemory": "Redis",
    "--inplace": "rsync",
    "--profile": "docker compose",
}
"""Options of other programs that are mentioned without their command."""

DEFAULTS = {"model_cache": "~/.cache/creps", "model_bytes": "half of a GPU's, 4 GiB on a CPU", "outputs": "outputs"}
"""Defaults that are computed at run time, as the documentation describes them."""

THEIRS = {"docker-compose.override.yml"}
"""Files that users create."""

OF_RENDERERS = {"CUDA_GRAPHS", "NATIVE"}
"""Environment variables that kernels/ reads by itself, also without the service."""

OF_COMPOSE = {"GATEWAY_MEMORY", "WORKER_MEMORY"}
"""Environment variables that docker-compose.yml reads."""

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of every command, as its ``--help`` shows them."""
    names = [name for name in COMMANDS if name != "benchmark"] + [f"benchmark {name}" for name in BENCHMARKS]
    return {name: _options_in_help(name) for name in names}


def _options_in_help(command: str) -> set[str]:
    with pytest.MonkeyPatch.context() as patch:
        written = io.StringIO()
        patch.setattr("sys.stdout", written)
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
    return set(OPTION.findall(written.getvalue()))


def _in_lines(path: Path) -> list[str]:
    """All inline code and commands of a document."""
    return spans(path) + [command for block in blocks(path) for command in block.commands]


@documents
def test_options_are_those_of_their_commands(path: Path, options: dict[str, set[str]]) -> None:
    known = set().union(*options.values()) | set(OTHERS)
    for code in _in_lines(path):
        if code.startswith("--"):
            assert OPTION.findall(code)[0] in known, f"{code}: no command has this option"
        found = COMMAND.match(code)
        if not found or (found["module"] and found["module"] not in MODULES):
            continue
        words = f"{MODULES.get(found['module'], '')}{found['rest']}".split()
        if words[:1] == ["COMMAND"]:
            continue
        name = next((name for name in (" ".join(words[:2]), *words[:1]) if name in options), "")
        given = set(OPTION.findall(found["rest"]))
        assert given <= options.get(name, set()), f"{code}: creps {name} has no such option"


@documents
def test_commands_exist(path: Path) -> None:
    for code in _in_lines(path):
        for name in re.findall(r"(?:^|[;&(=] ?|\S=\S+ )creps ([a-z]+)", code):
            assert name in COMMANDS, code


@documents
def test_settings_exist(path: Path) -> None:
    for name in re.findall(rf"\b{ENVIRONMENT_PREFIX}(\w+)", path.read_text()):
        assert name in OF_RENDERERS | OF_COMPOSE or name.lower() in Settings.model_fields, name


def test_the_table_has_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(ENVIRONMENT_PREFIX) or name == "XDG_CACHE_HOME":
            monkeypatch.delenv(name)
    listed: dict[str, str] = {}
    for line in (ROOT / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        names = re.findall(rf"`{ENVIRONMENT_PREFIX}(\w+)`", cells[0])
        if line.startswith("| `CREPS_"):
            assert len(cells) == 3, line
            values = cells[2].split(", ") if len(names) > 1 and ", " in cells[2] else [cells[2]] * len(names)
            listed |= {name.lower(): default for name, default in zip(names, values, strict=True)}
            for option in re.findall(r"`--([\w-]+)`", cells[0]):
                assert option.replace("-", "_") in [name.lower() for name in names], line
    defaults = Settings()
    assert set(listed) == set(Settings.model_fields)
    for name, told in listed.items():
        value = getattr(defaults, name)
        if name in DEFAULTS:
            assert told.strip("`") == DEFAULTS[name]
        elif value in (None, "", ()):
            assert re.match("none\\b", told), name
        elif isinstance(value, bool):
            assert told.strip("`") == str(value).lower(), name
        elif isinstance(value, int | float):
            assert float(told.strip("`")) == value, name
        else:
            assert told.strip("`") == value, name
    assert str(defaults.model_cache) == os.path.expanduser(DEFAULTS["model_cache"])  # noqa: PTH111
    assert defaults.outputs == Path("outputs").absolute().as_uri()


@documents
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@documents
def test_files_exist(path: Path) -> None:
    tops = {entry.name for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    for span in spans(path):
        file = re.sub(r"::\w+$|:\d+$", "", span)
        if not re.fullmatch(r"[\w./-]+", file) or file in THEIRS:
            continue
        first, *rest = file.split("/")
        if (first in (*tops, "..") and rest) or re.search(r"\.(py|md|ya?ml|Dockerfile)$", file):
            assert _is_there(file), f"{span} is not there"


def _is_there(file: str) -> bool:
    """Whether a path from the root exists, or the end of a path: `step.py`, `../../components/keda`."""
    if (ROOT / file).exists():
        return True
    end = "/" + re.sub(r"^(\.\./)+", "", file).rstrip("/")
    return any(str(found).endswith(end) for found in _files())


@cache
def _files() -> frozenset[Path]:
    tops = [entry for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return frozenset(found for top in tops for found in top.rglob("*") if "__pycache__" not in found.parts)
