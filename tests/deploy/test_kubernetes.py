"""The manifests of k8s/: what Kubernetes would take, and what has to fit together in them and with the program."""

import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel

from service.commands import worker as worker_command
from service.gateway import server as gateway_server
from service.gateway.app import ROUTERS
from service.gateway.image_cache import MAX_PENDING_BYTES, STORE_TIMEOUT
from service.gateway.middleware.concurrency_limit import MAX_REQUESTS
from service.gateway.routes.job_files import CHUNK_BYTES
from service.gateway.state import MAX_TRANSFORMS
from service.runtime.settings import ENVIRONMENT_PREFIX, Settings
from service.worker.health_server import HealthServer
from tests.deploy.manifests import (
    K8S,
    VARIANTS,
    Object,
    Pods,
    all_pods,
    build,
    in_bytes,
    named,
    of_kind,
    oldest_version,
    probes,
    selects,
    settings_of,
)
from tests.service.gateway.stand_in import run_gateway, settings
from tests.service.waiting import LONG

VERSIONS = (oldest_version(), kubernetes_validate.latest_version())
"""The oldest Kubernetes that the docs name, and the newest whose schemas are published."""


def custom_models() -> dict[str, type[BaseModel]]:
    """Models that were made of the operators' published schemas (KEDA 2.16, Prometheus Operator 0.80)."""
    # Here, since it takes seconds.
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

    return {model.__name__: model for model in (ScaledObject, PodMonitor, PrometheusRule)}


def model_upload() -> Pods:
    pod = yaml.safe_load((K8S / "model-upload.yaml").read_text())
    return Pods("model-upload", "Pod", pod, pod["metadata"].get("labels", {}), pod["spec"])


def check(one: Object, version: str) -> None:
    """Raises where Kubernetes of that version, or the operator, would refuse the object or ignore a part of it."""
    if model := custom_models().get(one["kind"]):
        understood = model.model_validate(one).model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert understood == one  # what it does not know is left out
    else:
        kubernetes_validate.validate(one, version, strict=True)


_followed = set[tuple[str, str]]()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_follows_its_schema(objects: tuple[Object, ...], version: str) -> None:
    for one in (*objects, model_upload().workload):
        if (key := (version, yaml.safe_dump(one))) not in _followed:  # the variants share most objects
            check(one, version)
            _followed.add(key)


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("Deployment", lambda spec: spec["template"]["spec"]["containers"][0].update(ressources={})),
        ("NetworkPolicy", lambda spec: spec.update(policyType=["Ingress"])),
        ("ScaledObject", lambda spec: spec["triggers"][0].update(treshold="1")),
        ("ScaledObject", lambda spec: spec.update(minReplicaCount="one")),
        ("PodMonitor", lambda spec: spec["podMetricsEndpoints"][0].update(ports="http")),
        ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].update(severity="critical")),
    ],
)
def test_the_schemas_refuse_mistakes(kind: str, spoil: Callable[[Object], Any]) -> None:
    one = yaml.safe_load(yaml.safe_dump(of_kind(build("cpu + monitoring + keda"), kind)[0]))
    check(one, VERSIONS[0])
    spoil(one["spec"])
    with pytest.raises((ValueError, AssertionError, kubernetes_validate.ValidationError)):
        check(one, VERSIONS[0])


def test_everything_is_in_one_namespace_with_names_of_its_own(objects: tuple[Object, ...]) -> None:
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    others = [one for one in objects if one is not namespace]
    assert {one["metadata"]["namespace"] for one in others} == {namespace["metadata"]["name"]}


def test_every_selector_means_the_pods_of_its_name(objects: tuple[Object, ...]) -> None:
    pods = all_pods(objects)
    for one in of_kind(objects, "Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor"):
        assert _selected(one["spec"]["selector"], pods) == {one["metadata"]["name"]}
    for service in of_kind(objects, "Service"):
        assert _selected({"matchLabels": service["spec"]["selector"]}, pods) == {service["metadata"]["name"]}
    for policy in of_kind(objects, "NetworkPolicy"):
        assert _selected(policy["spec"]["podSelector"], pods), policy["metadata"]["name"]
    for name, pod in pods.items():
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            assert _selected(spread["labelSelector"], pods) == {name}


def _selected(selector: Object, pods: dict[str, Pods]) -> set[str]:
    return {name for name, one in pods.items() if selects(selector, one.labels)}


def test_disruptions_leave_gateways_and_workers_unless_all_are_on_one_node(objects: tuple[Object, ...]) -> None:
    budgets = {one["metadata"]["name"] for one in of_kind(objects, "PodDisruptionBudget")}
    one_node = settings_of(objects)["CREPS_OUTPUTS"].startswith("file:")
    assert budgets == (set() if one_node else {"creps-gateway", "creps-worker"})


def test_settings_are_the_programs(
    objects: tuple[Object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable exists, and the program takes its value."""
    settings = settings_of(objects)
    for name in list(settings) + [variable for one in all_pods(objects).values() for variable in _own_variables(one)]:
        assert name.removeprefix(ENVIRONMENT_PREFIX).lower() in Settings.model_fields or name in (
            "AWS_REGION",
            "OMP_NUM_THREADS",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ), name
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CREPS_MODELS", str(tmp_path))  # the volume, which is not here
    read = Settings()
    assert (read.host, read.outputs.partition(":")[0]) == (
        "::",
        "file" if settings["CREPS_DEVICE"] == "cpu" else "s3",
    )


def _own_variables(pods: Pods) -> list[str]:
    return [variable["name"] for container in pods.containers for variable in container.get("env", ())]


def test_configuration_is_there_or_optional(objects: tuple[Object, ...]) -> None:
    """Secrets are never in the manifests; only those that a component asks for have to be made."""
    assert not of_kind(objects, "Secret")
    maps = {one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")}
    for one in all_pods(objects).values():
        sources = [source for container in one.containers for source in container.get("envFrom", ())]
        variables = [variable.get("valueFrom", {}) for c in one.containers for variable in c.get("env", ())]
        secrets = [s["secretRef"] for s in sources if "secretRef" in s]
        secrets += [v["secretKeyRef"] for v in variables if "secretKeyRef" in v]
        assert {s["configMapRef"]["name"] for s in sources if "configMapRef" in s} <= maps
        assert {secret["name"] for secret in secrets if not secret.get("optional")} <= {"creps-redis"}
        files = {volume["secret"]["secretName"] for volume in one.spec.get("volumes", ()) if "secret" in volume}
        assert files <= {"creps-key-file"}
        assert secrets or one.name != "creps-gateway"
        assert one.claims <= {claim["metadata"]["name"] for claim in of_kind(objects, "PersistentVolumeClaim")}


def test_the_servers_are_where_the_settings_say(objects: tuple[Object, ...]) -> None:
    pods = all_pods(objects)
    port = named(objects, "Service", "creps-cache")["spec"]["ports"][0]["port"]
    assert settings_of(objects)["CREPS_CACHE_URL"] == f"redis://creps-cache:{port}/0"
    external = any(
        {"secretRef": {"name": "creps-redis"}} in pods[name].container["envFrom"]
        for name in ("creps-gateway", "creps-worker")
    )
    assert external == ("creps-redis" not in pods)
    if not external:
        service = named(objects, "Service", "creps-redis")
        port = service["spec"]["ports"][0]["port"]
        assert settings_of(objects)["CREPS_REDIS_URL"] == f"redis://creps-redis:{port}/0"


def test_ports_are_those_that_the_program_listens_on(objects: tuple[Object, ...]) -> None:
    settings, pods = settings_of(objects), all_pods(objects)
    assert pods["creps-gateway"].ports == {"http": int(settings["CREPS_PORT"])}
    assert pods["creps-worker"].ports == {"metrics": int(settings["CREPS_METRICS_PORT"])}
    for one in pods.values():
        for probe in probes(one.container):
            assert "exec" in probe or probe["httpGet"]["port"] in one.ports
    for service in of_kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in pods[service["metadata"]["name"]].ports
    for monitor in of_kind(objects, "PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["port"] in pods[monitor["metadata"]["name"]].ports
            assert monitor["spec"]["jobLabel"] in pods[monitor["metadata"]["name"]].labels


def test_the_operator_gets_the_alerts_that_prometheus_gets() -> None:
    (rules,) = of_kind(build("cpu + monitoring + keda"), "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((K8S.parent / "docker" / "prometheus" / "alerts.yml").read_text())


def test_probes_are_routes(objects: tuple[Object, ...]) -> None:
    pods = all_pods(objects)
    asked = {probe["httpGet"]["path"] for probe in probes(pods["creps-gateway"].container)}
    assert asked == {"/livez", "/readyz?exclude=worker"}
    routes = {str(getattr(route, "path", "")) for router in ROUTERS for route in router.routes}
    assert {urlsplit(path).path for path in asked} <= routes


def test_probes_tell_a_worker_that_hangs() -> None:
    paths = {probe["httpGet"]["path"] for probe in probes(all_pods(build("gpu"))["creps-worker"].container)}
    port = HealthServer(0)
    for status, trouble in ((200, None), (503, "the render thread hangs")):
        port.unhealthy_reason = lambda trouble=trouble: trouble  # type: ignore[misc]
        urls = [f"http://127.0.0.1:{port.port}{path}" for path in paths]
        assert {httpx.get(url, trust_env=False, timeout=LONG).status_code for url in urls} == {status}


def test_models_fit_the_memory_of_a_worker() -> None:
    """CREPS_MODEL_BYTES and what a worker takes without: 490 MiB, measured with the demo."""
    limit = all_pods(build("cpu"))["creps-worker"].container["resources"]["limits"]["memory"]
    assert int(settings_of(build("cpu"))["CREPS_MODEL_BYTES"]) + 490 * 2**20 < in_bytes(limit)


@pytest.mark.parametrize("variant", [*VARIANTS, None])
def test_pods_are_restricted(variant: str | None) -> None:
    """The Pod Security Standard "restricted", and more: no writable root, no token, bounded resources."""
    for one in all_pods(build(variant)).values() if variant else [model_upload()]:
        context = one.spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["fsGroup"] == 10001
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one.spec["automountServiceAccountToken"] is False
        # A Service creps would make a variable CREPS_PORT=tcp://…, which is our setting's name.
        assert one.spec["enableServiceLinks"] is False
        assert not one.spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert all(
            v.keys() <= {"name", "emptyDir", "persistentVolumeClaim", "secret"} for v in one.spec.get("volumes", ())
        )
        assert all(v["emptyDir"]["sizeLimit"] for v in one.spec.get("volumes", ()) if "emptyDir" in v)
        for container in one.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for bound in ("requests", "limits"):
                assert container["resources"][bound].keys() >= {"cpu", "memory"}
            assert re.search(r":[\w.-]+$", container["image"]), "an image without a tag"
            assert not container["image"].endswith(":latest")


def test_images_are_of_this_version(objects: tuple[Object, ...]) -> None:
    version = tomllib.loads((K8S.parent / "pyproject.toml").read_text())["project"]["version"]
    for name in ("creps-gateway", "creps-worker"):
        image = all_pods(objects)[name].container["image"]
        assert fnmatch(image, f"creps-serve-*:{version}")


def test_models_are_read_only_and_outputs_writable(objects: tuple[Object, ...]) -> None:
    settings = settings_of(objects)
    for name in ("creps-gateway", "creps-worker"):
        pods = all_pods(objects)[name]
        mounts = {mount["mountPath"]: mount for mount in pods.container["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pods.spec["volumes"]}
        assert mounts[settings["CREPS_MODELS"]]["readOnly"] is True
        assert "readOnly" not in mounts["/tmp"]  # noqa: S108
        if settings["CREPS_OUTPUTS"].startswith("file://"):
            assert "readOnly" not in mounts[settings["CREPS_OUTPUTS"].removeprefix("file://")]


def test_volumes_of_one_node_hold_their_pods_there(objects: tuple[Object, ...]) -> None:
    pods = all_pods(objects)
    modes = {one["metadata"]["name"]: one["spec"]["accessModes"] for one in of_kind(objects, "PersistentVolumeClaim")}
    for name in ("creps-gateway", "creps-worker"):
        if any(modes[claim] == ["ReadWriteOnce"] for claim in pods[name].claims):
            (term,) = pods[name].spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            # Its own pods, too: else the first could be put nowhere.
            assert _selected(term["labelSelector"], pods) == {"creps-gateway", "creps-worker"}
        else:
            assert "affinity" not in pods[name].spec


def test_there_is_time_to_finish(objects: tuple[Object, ...]) -> None:
    pods = all_pods(objects)
    pause = float(settings_of(objects)["CREPS_DRAIN_SECONDS"])
    gateway = pause + gateway_server.DRAIN_TIMEOUT + STORE_TIMEOUT + 5
    assert pods["creps-gateway"].spec["terminationGracePeriodSeconds"] >= gateway
    assert pods["creps-worker"].spec["terminationGracePeriodSeconds"] >= worker_command.SHUTDOWN_TIMEOUT + 5


def test_gateways_have_memory_for_all_that_their_limits_allow(objects: tuple[Object, ...]) -> None:
    at_work, one_stitched = 99 * 2**20, 200 * 10**6  # as measured: BENCHMARKS.md, and the comment at MAX_TRANSFORMS
    images = int(settings_of(objects).get("CREPS_ANSWER_BYTES", Settings().answer_bytes))
    worst = at_work + images + MAX_PENDING_BYTES + MAX_REQUESTS * CHUNK_BYTES + MAX_TRANSFORMS * one_stitched
    assert in_bytes(all_pods(objects)["creps-gateway"].container["resources"]["limits"]["memory"]) >= worst


@pytest.mark.parametrize("variant", ["gpu", "cpu"])
def test_workers_get_their_device(variant: str) -> None:
    worker = all_pods(build(variant))["creps-worker"]
    resources = worker.container["resources"]
    gpus = [resources[bound].get("nvidia.com/gpu") for bound in ("requests", "limits")]
    tolerated = [one["key"] for one in worker.spec.get("tolerations", ())]
    device = settings_of(build(variant))["CREPS_DEVICE"]
    if variant == "gpu":
        assert (gpus, tolerated, device) == ([1, 1], ["nvidia.com/gpu"], "cuda")
        assert "creps-kernels" in worker.claims  # new pods do not compile everything again
    else:
        assert (gpus, tolerated, device) == ([None, None], [], "cpu")


def test_scalers_have_targets(objects: tuple[Object, ...]) -> None:
    for one in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        workload = named(objects, target.get("kind", "Deployment"), target["name"])
        assert "replicas" not in workload["spec"]  # each `apply` would undo what the scaler did
    for one in of_kind(objects, "ScaledObject"):
        assert one["spec"]["fallback"]["replicas"] >= one["spec"]["minReplicaCount"] >= 1
        for trigger in one["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            assert f'namespace="{one["metadata"]["namespace"]}"' in query


def test_the_workers_scaler_asks_for_what_gateways_tell(tmp_path: Path) -> None:
    (scaler,) = of_kind(build("cpu + monitoring + keda"), "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    label, metric = re.findall(r"by \((\w+)\) \((creps_\w+)", trigger["metadata"]["query"])[0]
    with run_gateway(tmp_path, settings()) as gateway:
        assert re.search(rf'^{metric}{{{label}="\w+"}} \d', gateway.http.get("/metrics").text, re.MULTILINE)
