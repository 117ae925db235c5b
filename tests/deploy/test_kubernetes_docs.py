"""docs/kubernetes.md: its commands name what there is, and do what it says as far as that shows without a cluster."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from service.runtime.settings import Settings
from tests.deploy.manifests import DOCS, K8S, VARIANTS, Object, all_pods, build, of_kind

TEXT = DOCS.read_text()

COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]

SECRETS = [line for line in COMMANDS if " create secret " in line]

EVERYTHING = tuple(one for variant in VARIANTS for one in build(variant)) if shutil.which("kubectl") else ()

needs_kubectl = pytest.mark.skipif(not EVERYTHING, reason="kubectl, which builds the overlays, is not installed")


@needs_kubectl
def test_the_table_has_every_object_and_no_other() -> None:
    rows = re.findall(r"^\| ([A-Z]\w+) \| (`creps.*?`) \|", TEXT, re.MULTILINE)
    listed = {(kind, name) for kind, names in rows for name in re.findall(r"`([\w-]+)`", names)}
    assert listed == {(one["kind"], _stem(one)) for one in EVERYTHING}


def _stem(one: Object) -> str:
    name: str = one["metadata"]["name"]
    return re.sub(r"-[a-z0-9]{10}$", "", name) if one["kind"] == "ConfigMap" else name


def test_files_that_it_names_are_there() -> None:
    named = re.findall(r"\bk8s/[\w./-]*\w", TEXT)
    assert named
    for path in named:
        assert (K8S.parent / path).exists(), path


@needs_kubectl
def test_commands_name_objects_that_there_are() -> None:
    named = [found for line in COMMANDS for found in re.findall(r"\b(deployment|service|pod)/([\w-]+)", line)]
    known = {(one["kind"].lower(), one["metadata"]["name"]) for one in EVERYTHING} | {("pod", "model-upload")}
    assert named
    assert set(named) <= known
    assert all("-n creps " in line for line in COMMANDS if "kubectl" in line and not re.search(r" -[kf] ", line))


@needs_kubectl
@pytest.mark.parametrize("command", SECRETS)
def test_secrets_are_what_the_pods_look_for(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bucket.env").write_text("AWS_ACCESS_KEY_ID=name\nAWS_SECRET_ACCESS_KEY=secret\n")
    (tmp_path / "redis.env").write_text(_told("CREPS_REDIS_URL=") + "\n")
    (tmp_path / "keys.toml").touch()
    made = subprocess.run(
        ["bash", "-c", f"{command.partition(' --dry-run')[0]} --dry-run=client -o yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    secret = yaml.safe_load(made.stdout)
    name, keys = secret["metadata"]["name"], set(secret["data"])
    files = [
        volume.get("secret", {}).get("secretName")
        for pods in all_pods(EVERYTHING).values()
        for volume in pods.spec.get("volumes", ())
    ]
    if name in files:
        assert keys == {"keys.toml"}
        return
    containers = [pods.container for pods in all_pods(EVERYTHING).values()]
    wanted = [
        variable.get("valueFrom", {}).get("secretKeyRef") for one in containers for variable in one.get("env", ())
    ]
    whole = [source.get("secretRef", {}).get("name") for one in containers for source in one.get("envFrom", ())]
    assert name in whole or any(one and (one["name"], {one["key"]}) == (name, keys) for one in wanted)
    for key, value in secret["data"].items():
        monkeypatch.setenv(key, subprocess.check_output(["base64", "-d"], input=value.encode()).decode())
    settings = Settings()
    assert name != "creps-api-keys" or [len(key.get_secret_value()) for key in settings.api_keys] == [64]
    assert name != "creps-redis" or str(settings.redis_url).endswith(":6379/0")


def _told(start: str) -> str:
    """What the text shows between backticks."""
    (found,) = re.findall(rf"`({re.escape(start)}[^`]*)`", TEXT)
    return str(found)


@needs_kubectl
def test_the_patch_of_the_ingress() -> None:
    (block,) = re.findall(r"^```yaml\npatches:\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (ingress,) = of_kind(build("cpu + ingress", block), "Ingress")
    (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    assert tls["secretName"]
