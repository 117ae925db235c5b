"""The Kubernetes objects that the overlays give, and what they say of one another."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"

NAME = "app.kubernetes.io/name"

Object = dict[str, Any]

DOCS = K8S.parent / "docs" / "kubernetes.md"

VARIANTS: dict[str, tuple[str, ...]] = {
    "cpu": (),
    "gpu": (),
    "cpu + monitoring + keda": ("monitoring", "keda"),
    "gpu + external-redis": ("external-redis",),
    "cpu + ingress": ("ingress",),
    "gpu + all": ("ingress", "monitoring", "tracing", "keda", "external-redis", "api-keys", "webhooks"),
}
"""What operators apply: the overlays as they are, and with components added as their comments say."""


@cache
def build(variant: str, addition: str = "") -> tuple[Object, ...]:
    """The objects that ``kubectl apply -k`` would send, with lines added to the overlay's ``patches``, if any."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which builds the overlays, is not installed")
    with TemporaryDirectory() as folder:
        copy = shutil.copytree(K8S, Path(folder) / "k8s")
        overlay = copy / "overlays" / variant.split()[0]
        file = overlay / "kustomization.yaml"
        text = file.read_text()
        for component in VARIANTS[variant]:
            comment, line = f"# - ../../components/{component}\n", f"- ../../components/{component}\n"
            assert comment in text, f"{file} does not offer the component {component}"
            text = text.replace(comment, line)
        file.write_text(text.replace("\npatches:\n", f"\npatches:\n{addition}"))
        built = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "Warning" not in built.stderr, built.stderr
    return tuple(yaml.safe_load_all(built.stdout))


def oldest_version() -> str:
    """The oldest Kubernetes that the docs name."""
    (version,) = set(re.findall(r"\b(\d\.\d+) or later", DOCS.read_text()))
    return str(version)


@dataclass(frozen=True)
class Pods:
    """The pods of one workload. ``name`` is the workload's."""

    name: str
    kind: str
    workload: Object
    labels: Mapping[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def container(self) -> Object:
        """The one container that it has."""
        (container,) = self.containers
        return container

    @property
    def claims(self) -> set[str]:
        """The PersistentVolumeClaims that it mounts."""
        volumes = self.spec.get("volumes", ())
        return {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one}

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", ())}


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    (found,) = (one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)
    return found


def all_pods(objects: Sequence[Object]) -> dict[str, Pods]:
    """By the name of their workload."""
    return {
        one["metadata"]["name"]: Pods(
            one["metadata"]["name"],
            one["kind"],
            one,
            one["spec"]["template"]["metadata"]["labels"],
            one["spec"]["template"]["spec"],
        )
        for one in of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
    }


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector means what has these labels."""
    unknown = selector.keys() - {"matchLabels", "matchExpressions"}
    assert not unknown, unknown
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions", ())
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator == "In":
        return labels.get(key) in expression["values"]
    assert operator == "Exists", operator
    return key in labels


def settings_of(objects: Sequence[Object]) -> dict[str, str]:
    """The ConfigMap that gateways and workers get."""
    (settings,) = (
        one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"].startswith("creps-settings-")
    )
    data: dict[str, str] = settings["data"]
    return data


def probes(container: Object) -> Iterator[Object]:
    return (container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in container)


_UNITS = {"mb": 2**20, "gb": 2**30, "Mi": 2**20, "Gi": 2**30}


def in_bytes(text: str) -> int:
    """Bytes, of what Redis or Kubernetes calls 512mb or 2Gi."""
    return int(text[:-2]) * _UNITS[text[-2:]]
