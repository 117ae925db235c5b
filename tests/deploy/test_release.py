"""The files of a release agree with each other, as far as they can be checked without an engine."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from service.cli import main
from tests.deploy.images import ROOT

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_follow_their_schema(workflow: Path) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.github-workflows", workflow], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_may_only_read_unless_a_job_needs_more() -> None:
    for workflow in WORKFLOWS:
        assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_every_target_of_the_bake_file_has_its_dockerfile() -> None:
    bake = (ROOT / "docker/bake.hcl").read_text()
    dockerfiles = re.findall(r'dockerfile = "(.+)"', bake)
    assert {ROOT / path for path in dockerfiles} == set((ROOT / "docker").glob("*.Dockerfile"))
    (group,) = re.findall(r'group "default" { targets = \[(.+)\] }', bake)
    targets = re.findall(r'"(\S+)"', group)
    assert set(re.findall(r'target "(.+)"', bake)) == {"image", *targets}
    assert [f"creps-serve-{target}" for target in targets] == re.findall(r"}(creps-serve-\S+):", bake)


def test_kubernetes_deploys_this_version() -> None:
    overlays = [yaml.safe_load(path.read_text()) for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml")]
    tags = {image["newTag"] for overlay in overlays for image in overlay["images"] if image["name"] != "valkey"}
    assert tags == {VERSION}


def test_the_changelog_has_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", VERSION]


def test_the_command_line_tells_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"creps {VERSION}\n"
