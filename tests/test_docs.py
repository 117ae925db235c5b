"""Runs every block of the documentation, except the commands in NOT_RUN.

Each block runs in a folder of its own, as a new user would run it, against a service of the bundled network. Large
sizes are replaced by those in SMALLER. Blocks that train, render or start a service of their own are slow.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image
from standardwebhooks import Webhook

from model.training.presets import PRESETS
from service.gateway.api_keys import parse_keys
from service.runtime.settings import Settings
from tests.documents import GUIDES, ROOT, Block, blocks
from tests.newcomer import Newcomer, add_files, make_home, served
from tests.service.waiting import LONG

NOT_RUN = {
    r"kubectl ": "needs a cluster; tests/deploy/test_kubernetes_docs.py checks the names against the manifests",
    r"(openssl rand|echo) .* \| kubectl ": "the same",
    r"git pull": "needs the internet",
    r"(\w+=\S+ )*docker buildx|cosign ": "need an engine and a registry; tests/deploy/test_release.py checks the files",
    r"pip install --no-deps 'nvidia-cuda-nvcc": "downloads 50 MB; tests/deploy/test_images.py checks the image's",
    r"export TRITON_PTXAS_PATH=": "the same",
    r"creps evaluate .* fid,": "needs weights of 600 MB; tests/service/commands/test_evaluate.py uses small ones",
    r"creps benchmark compile": "takes minutes; tests/kernels/benchmark/test_compile.py compiles a small network",
    r"creps benchmark render --device cuda": "needs a GPU; tests/kernels/benchmark/test_render.py measures on a CPU",
    r"python -m kernels.first_run": "takes minutes; tests/kernels/test_first_run.py runs a tiny network",
    r"pytest tests/(kernels|service/commands/test_worker.py)": "these tests are part of the suite",
    r"creps train .* runs/(16|32)\b": "tests/model/training/test_transfer.py takes these steps with tiny networks",
    r"creps (dataset|train) .* data/large.zip": "tests/model/training/test_patches.py takes these steps, too",
    r"npx openapi-typescript|openapi-python-client": "tests/service/gateway/test_generated_clients.py runs them",
    r"creps evaluate .* data/large.zip": "tests/model/evaluation/test_detail.py draws such figures of tiny networks",
    r"creps evaluate .* --zoom-video": "takes minutes; tests/service/commands/test_zoom_video.py renders a short one",
    r"torchrun ": "needs eight GPUs; tests/model/training/test_distributed.py uses two processes on a CPU",
}
"""Commands that are not run, and why."""

SLOW = (
    r"(\w+=\S+ )*creps (serve|train|evaluate|render|mix|video|directions|project|dataset|import|info)\b|curl --retry "
)
"""Commands that take seconds."""

SLOW_PYTHON = r"creps\.project\("

IMAGES = {
    "POST /v1/images": "a diagram",
    "HTTP ": "a diagram",
    "jobs/ID/job.json": "a list of files, with what they hold",
    '{"labels"': "the format of a file, shortened with …",
}
"""Blocks of text that are not addresses, by how they begin."""

TINY = (
    "--resolution 8 --thickness 2 --channel-base 64 --channel-max 8 --z-dim 8 --w-dim 8 --mapping-layers 1 "
    "--discriminator-channel-base 64 --discriminator-channel-max 8 --batch 4 --precision fp32 --workers 0"
)
"""A network that trains in a second, in place of a preset's."""

SMALLER = {
    "?width=512'": "?width=64'",
    "width=800&height=600": "width=64&height=48",
    "width=1024&height=1024": "width=64&height=64",
    "width=1024, truncation": "width=64, truncation",
    "full/800,/0/default.jpg\n": "full/64,/0/default.jpg\n",
    "30000, 512, 512]": "30000, 64, 64]",
    "width: 512, height: 512": "width: 64, height: 64",
    '"width": 512, "height": 384': '"width": 64, "height": 48',
    '"width": 512, "height": 512, "output": "mp4"': '"width": 32, "height": 32, "output": "mp4"',
    '"width": 512, "transform"': '"width": 64, "transform"',
    "--size 512 --rotate": "--size 64 --rotate",
    "--w-frames 60": "--w-frames 2",
    "--fps 30 --size 512": "--fps 4 --size 32",
    "width=100000&crop=50000,50000,512,512": "width=100000&crop=50000,50000,64,64",
    '"width": 65536, "height": 65536, "output"': '"width": 256, "height": 256, "output"',
    '"width": 4096, "height": 4096': '"width": 256, "height": 256',
    "width=4096": "width=256",
    "--size 2048x2048": "--size 64x64",
    "--size 65536x65536": "--size 256x256",
    "data/mine.zip --resolution 128": "data/mine.zip --resolution 8",
    "data/mine.zip --resolution 64": "data/mine.zip --resolution 8",
    "--preset small-128": f"--preset small-128 {TINY} --total-kimg 0.008",
    "runs/mine --preset small-64": f"runs/mine --preset small-64 {TINY} --total-kimg 0.008",
    "--preset ffhq-1024 --data": f"--preset ffhq-1024 {TINY} --total-kimg 0.008 --data",
    "--preset ffhq-1024 --dry-run": f"--preset ffhq-1024 {TINY} --dry-run",
}
"""Sizes that would take minutes to years, and what replaces them."""


def smaller(text: str) -> str:
    """The text with the replacements of SMALLER."""
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


BLOCKS = [block for path in GUIDES for block in blocks(path)]


pytestmark = pytest.mark.xdist_group("docs")  # they share a service


def of(*languages: str) -> pytest.MarkDecorator:
    """Parametrizes a test by all blocks of these languages."""
    return pytest.mark.parametrize(
        "block",
        [
            pytest.param(block, id=str(block), marks=[pytest.mark.slow] if is_slow(block) else [])
            for block in BLOCKS
            if block.language in languages
        ],
    )


def is_slow(block: Block) -> bool:
    if block.language == "python":
        return re.search(SLOW_PYTHON, block.text) is not None
    return block.language in ("", "sh") and any(re.match(SLOW, command) for command in block.commands)


def test_there_is_a_test_for_every_language() -> None:
    known = {"", "sh", "text", "python", "json", "toml", "yaml", "ini", "html", "js", "nginx"}
    assert {str(block): block.language for block in BLOCKS if block.language not in known} == {}


def test_every_exception_applies_to_a_block() -> None:
    commands = [command for block in BLOCKS if block.language in ("", "sh") for command in block.commands]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for command in commands), pattern
    for start in IMAGES:
        assert any(block.text.lstrip().startswith(start) for block in BLOCKS), start
    for large in SMALLER:
        assert any(large in text for text in [*commands, *(block.text for block in BLOCKS)]), large


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the program and the settings of curl."""
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def full_home(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the files that the documentation's commands use: images, networks, a finished run."""
    folder = shutil.copytree(home, tmp_path_factory.mktemp("full") / "home")
    add_files(folder, TINY)
    return folder


@pytest.fixture(scope="module")
def address(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service of the bundled network."""
    with served("creps serve", shutil.copytree(home, tmp_path_factory.mktemp("service") / "home")) as address:
        yield address


@pytest.fixture
def newcomer(
    request: pytest.FixtureRequest, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Newcomer]:
    """A user in a home folder of their own."""
    source: Path = request.getfixturevalue("full_home" if request.node.get_closest_marker("slow") else "home")
    home = shutil.copytree(source, tmp_path / "home")
    monkeypatch.chdir(home)
    with Newcomer(home, address) as newcomer:
        yield newcomer


def prepare(command: str) -> None:
    """Makes a folder, or copies a file."""
    subprocess.run(shlex.split(command), check=True)


@of("", "sh")
def test_commands(block: Block, newcomer: Newcomer) -> None:
    shown = [other.text.strip() for other in blocks(block.path) if other.language == "json"]
    do: dict[str, Callable[[str], None]] = {
        r"curl ": lambda command: newcomer.curl(command, shown),
        r"(\w+=\S+ )*creps serve": newcomer.serve,
        r"creps key ": newcomer.key,
        r"creps ": newcomer.creps,
        r"make ": newcomer.make,
        r"(mkdir|cp) ": prepare,
        r"docker compose ": newcomer.compose,
        r"docker build ": newcomer.build,
    }
    for command in block.commands:
        if any(re.match(pattern, command) for pattern in NOT_RUN):
            continue
        if command.startswith("curl ") and not shutil.which("curl"):
            pytest.skip("curl is not installed")
        run = next((run for pattern, run in do.items() if re.match(pattern, command)), None)
        assert run, f"{block}: {command!r} is neither run nor in NOT_RUN"
        run(smaller(command))


@of("python")
def test_python(block: Block, newcomer: Newcomer, capsys: pytest.CaptureFixture[str]) -> None:
    secret, body = "whsec_" + "c2VjcmV0" * 4, '{"type": "job.succeeded"}'
    names: dict[str, Any] = {"body": body, "headers": newcomer.signed(Webhook(secret), body)}
    text = smaller(newcomer.here(block.text)).replace("whsec_…", secret)
    exec(compile(text, str(block), "exec"), names)  # noqa: S102
    files = re.findall(r'"(\w+\.(?:png|tiff))"', text)
    for file in files:
        with Image.open(file) as image:
            image.load()
    if "print" in text:
        assert capsys.readouterr().out.splitlines()[-1].startswith("100%")
    elif videos := re.findall(r'"(\w+\.mp4)"', text):
        assert all(b"moov" in Path(video).read_bytes() for video in videos)
    elif not files:
        assert names["message"] == json.loads(body)


@of("js")
def test_javascript(block: Block, newcomer: Newcomer, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "fetch"], capture_output=True).returncode:
        pytest.skip("needs Node.js 18 or later")
    (tmp_path / "block.mjs").write_text(f"{smaller(newcomer.here(block.text))}\nconsole.log(image.type, image.size);")
    run = subprocess.run([node, tmp_path / "block.mjs"], capture_output=True, text=True, timeout=LONG)
    assert re.fullmatch(r"image/webp [1-9]\d+", run.stdout.strip()), run.stderr


@of("text")
def test_text(block: Block, newcomer: Newcomer) -> None:
    if block.text.lstrip().startswith(tuple(IMAGES)):
        return
    for line in smaller(block.text).splitlines():
        assert httpx.get(newcomer.here(line), timeout=LONG).status_code == 200, line


@of("json")
def test_json(block: Block) -> None:
    assert json.loads(block.text)


@of("toml")
def test_keys(block: Block) -> None:
    (key,) = parse_keys(block.text.encode())
    assert key.name == tomllib.loads(block.text)["key"][0]["name"]


@of("ini")
def test_settings(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(line.split("=", 1) for line in block.text.splitlines())
    for name, text in given.items():
        assert name.startswith("AWS_") or name.removeprefix("CREPS_").lower() in Settings.model_fields
        monkeypatch.setenv(name, text)
    assert Settings().outputs == given["CREPS_OUTPUTS"]


@of("yaml")
def test_yaml(block: Block) -> None:
    document = yaml.safe_load(block.text)
    ours = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in document.pop("services", {}).items():
        assert name in ours
        for setting in service["environment"]:
            assert setting.removeprefix("CREPS_").lower() in Settings.model_fields
    for file in document.pop("rule_files", ()):
        assert (ROOT / "docker" / "prometheus" / file).is_file()
    for patch in document.pop("patches", ()):  # tests/deploy/test_kubernetes_docs.py applies them
        assert yaml.safe_load(patch["patch"])
    document.pop("content_type_overrides", None)  # tests/service/gateway/test_generated_clients.py uses them
    assert document == {}


@of("nginx")
def test_nginx_directives_are_complete(block: Block) -> None:
    for line in block.text.splitlines():
        directive = r'("[^"]+"|[a-z_]+)( [^;#{}]+)+;|[a-z_]+( [^;#{}]+)+ {|}|'
        assert re.fullmatch(rf" *({directive})( +# .*)?", line), line


class Page(HTMLParser):
    """Collects the scripts of a page, and its open elements."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)


@of("html")
def test_pages(block: Block, newcomer: Newcomer, tmp_path: Path) -> None:
    """The pages load their viewers from the internet; the images that they name are served here."""
    page = Page()
    page.feed(newcomer.here(block.text))
    assert page.open == []
    (script,) = page.scripts
    (source,) = re.findall(r'"(http://[^"]+/iiif/3/[^"]+)"', script)
    info = httpx.get(source if source.endswith("info.json") else f"{source}/info.json", timeout=LONG).json()
    assert info["type"] == "ImageService3"
    for width, height in re.findall(r"width: (\d+), height: (\d+)", script):
        assert (info["width"], info["height"]) == (int(width), int(height))
    if node := shutil.which("node"):
        (tmp_path / "page.js").write_text(script)
        subprocess.run([node, "--check", tmp_path / "page.js"], check=True)


def test_presets_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `(\w+-\d+(?:-patches)?)` \|", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    assert rows == list(PRESETS)
