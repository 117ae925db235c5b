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

from service.commands.worker import GRACE_SECONDS as WORKER_GRACE
from service.embedded_redis import find_binary
from service.gateway.server import GRACE_SECONDS as GATEWAY_GRACE
from service.queue import connect
from service.settings import Settings
from tests.deploy.images import ROOT
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
    assert set(json.loads(done.stdout)["services"]) == {"gateway", worker, "redis", "prometheus", "grafana"}


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
        given = {key: re.sub(r"^\$\{CREPS_\w+:-(.*)\}$", r"\1", text) for key, text in given.items()}
        assert given.pop("models") == "/models"  # a folder of the image
        Settings.model_validate(given)
    assert services["worker"]["environment"]["CREPS_API_KEYS"] == ""


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


def test_redis_is_reached_by_gateways_and_workers_alone(services: dict[str, Any]) -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    assert document["networks"]["queue"]["internal"]
    assert {name for name, service in services.items() if "queue" in service.get("networks", ())} == {"redis", *OURS}
    assert list(services["redis"]["networks"]) == ["queue"]
    assert "ports" not in services["redis"]


@pytest.mark.anyio
async def test_redis_starts_as_it_is_told_and_keeps_the_queue(services: dict[str, Any], tmp_path: Path) -> None:
    _, *options = services["redis"]["command"]
    socket = tmp_path / "socket"
    options += ["--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--logfile", "log"]
    server = await asyncio.create_subprocess_exec(find_binary(), *options)
    try:
        async with connect(f"unix://{socket}") as redis:
            await eventually(partial(answers, redis))
            told = await redis.config_get("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy")
    finally:
        server.terminate()
        assert await server.wait() == 0
    assert told.pop("maxmemory") == str(2**30)
    assert told == {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


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
