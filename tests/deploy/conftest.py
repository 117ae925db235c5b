"""What the tests of deployment share."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.images import FINAL, ROOT, copy_context, run, run_commands
from tests.deploy.manifests import VARIANTS, Object, build


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Installed:
    """The program as an image has it.

    Attributes:
        python: the image's interpreter, which finds nothing of the test's environment.
        healthcheck: the image's health check.
        environment: what processes of the image may see.
    """

    python: Path
    healthcheck: Path
    environment: Mapping[str, str]


@pytest.fixture(scope="session")
def gateway_image(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What the gateway's Dockerfile installs, by the very commands that it runs."""
    root = tmp_path_factory.mktemp("image")
    build, opt, wheel = root / "build", root / "opt", root / "wheel"
    copy_context(build)
    commands = run_commands(ROOT / "docker" / "gateway.Dockerfile")
    kept = ("HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # python and pip are the test's
    install = next(command for command in commands[FINAL] if "/wheel" in command)  # the others make users and folders
    for command in (*commands["dependencies"], *commands["wheel"], install):
        folders = {"/opt/creps": opt / "creps", "/wheel": wheel}
        run(command.replace("--no-cache-dir", ""), folders, build, environment)
    environment["PATH"] = f"{opt / 'creps' / 'bin'}:/usr/bin:/bin"
    return Installed(opt / "creps" / "bin" / "python", build / "docker" / "healthcheck.py", environment)


@pytest.fixture(params=VARIANTS)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return build(request.param)
