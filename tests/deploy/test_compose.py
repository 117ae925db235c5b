"""docker-compose.yml and what it mounts, as far as they can be checked without an engine."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.commands.worker import SHUTDOWN_TIMEOUT as WORKER_GRACE
from service.gateway.server import DRAIN_TIMEOUT as GATEWAY_GRACE
from service.runtime.embedded_redis import find_binary
from service.runtime.redis import connect
from service.runtime.settings import Settings
from service.worker.model_cache import CPU_BYTES
from tests.deploy.images import ROOT
from tests.deploy.manifests import in_bytes
from tests.service.waiting import answers, eventually

COMPOSE = ROOT / "docker-compose.yml"

OURS = ("gateway", "worker", "worker-cpu")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    assert set(OURS) < set(found)
    return found


def test_it_follows_the_compose_specification() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run([checker, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_itself_can_read_it(profile: str, tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CREPS_")}
    done = subprocess.run(
        [docker, "compose", "--profile", profile, "--file", COMPOSE, "config", "--format", "json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    worker = "worker" if profile == "gpu" else "worker-cpu"
    assert set(json.loads(done.stdout)["services"]) == {"gateway", worker, "redis", "cache", "prometheus", "grafana"}


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert not service.get("privileged"), name
        for port in service.get("ports", ()):
            assert port.startswith(("127.0.0.1:", "${CREPS_HOST:-127.0.0.1}:")), (
                "no other machine, unless it is asked for"
            )


def test_images_are_built_here_or_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name in OURS:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        else:
            assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), name


def test_there_is_time_to_finish(services: dict[str, Any]) -> None:
    for name in OURS:
        seconds = int(services[name]["stop_grace_period"].removesuffix("s"))
        assert seconds >= max(WORKER_GRACE, GATEWAY_GRACE) + 5


def test_every_setting_exists_and_can_be_used(services: dict[str, Any]) -> None:
    for name in OURS:
        environment: dict[str, str] = services[name]["environment"]
        given = {key.removeprefix("CREPS_").lower(): text for key, text in environment.items() if text}
        assert set(given) <= set(Settings.model_fields), name
        given = {key: re.sub(r"^\$\{CREPS_\w+:?-(.*)\}$", r"\1", text) for key, text in given.items()}
        assert given.pop("models") == "/models"  # a folder of the image
        Settings.model_validate(given)
    for name in ("CREPS_API_KEYS", "CREPS_CACHE_URL"):
        assert services["worker"]["environment"][name] == ""


def test_mounted_files_and_volumes_exist(services: dict[str, Any]) -> None:
    volumes = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    for name, service in services.items():
        for mount in service.get("volumes", ()):
            source, target, *mode = mount.split(":")
            if source == "./models":  # of the operator; Docker makes it
                assert mode == ["ro"], name
            elif source.startswith("./"):
                assert (ROOT / source).is_dir(), source
                assert mode == ["ro"], name
            else:
                assert source in volumes, source
            assert target.startswith("/")


@pytest.mark.parametrize(("name", "network", "clients"), [("redis", "queue", OURS), ("cache", "cache", ("gateway",))])
def test_servers_are_reached_by_their_clients_alone(
    services: dict[str, Any], name: str, network: str, clients: tuple[str, ...]
) -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    assert document["networks"][network]["internal"]
    assert {one for one, service in services.items() if network in service.get("networks", ())} == {name, *clients}
    assert list(services[name]["networks"]) == [network]
    assert "ports" not in services[name]


def memory_limit(service: dict[str, Any]) -> int:
    """The limit of a service, or its default if ``.env`` may set it."""
    (limit,) = re.fullmatch(r"(?:\$\{\w+:-)?(\w+)\}?", service["mem_limit"]).groups()  # type: ignore[union-attr]
    return in_bytes(f"{limit}b")


def test_every_service_has_a_memory_limit(services: dict[str, Any]) -> None:
    limits = {name: memory_limit(service) for name, service in services.items()}
    assert min(limits.values()) >= 256 << 20
    assert limits["gateway"] > 2 * Settings().answer_bytes + 400_000_000
    assert min(limits["worker"], limits["worker-cpu"]) > CPU_BYTES


async def configuration(service: dict[str, Any], folder: Path) -> dict[str, str]:
    """Starts a Redis as the service does, and returns how it is configured."""
    _, *options = service["command"]
    socket = folder / "socket"
    options += ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--logfile", "log"]
    server = await asyncio.create_subprocess_exec(find_binary(), *options)
    try:
        async with connect(f"unix://{socket}") as redis:
            await eventually(partial(answers, redis))
            found: Any = await redis.config_get("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy")
            return dict(found)
    finally:
        server.terminate()
        assert await server.wait() == 0


@pytest.mark.anyio
async def test_the_queue_is_on_disk_and_never_evicted(services: dict[str, Any], tmp_path: Path) -> None:
    found = await configuration(services["redis"], tmp_path)
    assert memory_limit(services["redis"]) >= 2 * int(found.pop("maxmemory")) > 0
    assert found == {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


@pytest.mark.anyio
async def test_the_cache_evicts_and_is_not_on_disk(services: dict[str, Any], tmp_path: Path) -> None:
    found = await configuration(services["cache"], tmp_path)
    assert (found["appendonly"], found["save"], found["maxmemory-policy"]) == ("no", "", "allkeys-lru")
    assert memory_limit(services["cache"]) >= 1.5 * int(found["maxmemory"]) > 0
    assert "volumes" not in services["cache"]


def test_prometheus_finds_every_gateway_and_worker(services: dict[str, Any]) -> None:
    folder = ROOT / "docker" / "prometheus"
    jobs = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    sought = {(name, entry["port"]) for job in jobs for entry in job["dns_sd_configs"] for name in entry["names"]}
    assert sought == {("gateway", 8000), ("workers", 9000)}
    for name in ("worker", "worker-cpu"):
        assert services[name]["networks"]["default"]["aliases"] == ["workers"]
        assert services[name]["environment"]["CREPS_METRICS_PORT"] == "9000"
    assert services["gateway"]["environment"]["CREPS_PORT"] == "8000"
    assert "default" in services["gateway"]["networks"]


def test_prometheus_can_read_its_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    configuration = ROOT / "docker" / "prometheus" / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", configuration], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_provisioned_with_what_is_mounted(services: dict[str, Any]) -> None:
    provisioning = ROOT / "docker" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "creps.yml").read_text())["providers"]
    assert f"./docker/grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
    assert (ROOT / "docker" / "grafana" / "dashboards" / Path(home).name).is_file()
