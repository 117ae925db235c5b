"""The simulation finds the limits that can be told without it, and plans stay within them."""

import shutil
from dataclasses import replace
from typing import Any

import pytest

from service.benchmark import capacity
from service.benchmark.simulation import Cost, Costs, Deployment, simulate

NOTHING = Cost(0.0)

FREE = Costs(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, redis_commands=5.0, redis_bytes=1000.0)

SERVICE = Deployment(workers=2, gateways=2, clients=64, image_bytes=10_000)

IMAGES = 4000


@pytest.mark.parametrize(
    ("costs", "change", "limit", "rate"),
    [
        (FREE, {}, "GPU", 2 / SERVICE.render_seconds),
        (replace(FREE, gateway=Cost(0.001)), {}, "gateway", 2 / 0.001),
        (replace(FREE, gateway=Cost(0.0005, 5e-8)), {}, "gateway", 2 / 0.001),
        (replace(FREE, worker=Cost(0.001)), {}, "worker", 2 / 0.001),
        (replace(FREE, cache=Cost(0.001)), {}, "cache", 1 / 0.001),
        (replace(FREE, redis=Cost(0.001)), {}, "Redis", 1 / 0.001),
        (replace(FREE, redis=Cost(0.001)), {"redis": 2}, "Redis", 2 / 0.001),
        (replace(FREE, redis=Cost(0.0, 1e-7)), {"past_redis": True}, "GPU", 2 / SERVICE.render_seconds),
        (FREE, {"gigabits": 0.1}, "gateway's network", 0.1e9 / (8 * 20_000)),
        (FREE, {"image_bytes": 0, "gigabits": 0.004}, "Redis' network", 0.004e9 / (8 * 500)),
    ],
)
def test_the_busiest_part_limits_the_rate(costs: Costs, change: dict[str, float], limit: str, rate: float) -> None:
    outcome = simulate(costs, replace(SERVICE, **change), IMAGES)  # type: ignore[arg-type]
    assert outcome.limit == limit
    assert outcome.rate == pytest.approx(rate, rel=0.1)
    assert outcome.busy[limit] == pytest.approx(1, rel=0.05)
    assert outcome.median <= outcome.p99


def test_processes_of_one_machine_share_its_cores() -> None:
    each = Cost(0.0001)
    costs = Costs(each, each, each, each, each, 5.0, 1000.0)
    machine = replace(SERVICE, render_seconds=0.0, cores=2)
    assert simulate(costs, machine, IMAGES).rate == pytest.approx(2 / 0.0005, rel=0.1)
    assert simulate(costs, replace(machine, slowdown=2.0), IMAGES).rate == pytest.approx(1 / 0.0005, rel=0.1)
    assert simulate(costs, replace(machine, cores=None), IMAGES).rate > 2 / 0.0005


def test_waits_follow_from_clients_and_rate() -> None:
    outcome = simulate(FREE, SERVICE, IMAGES)
    assert outcome.median == pytest.approx(SERVICE.clients / outcome.rate, rel=0.1)  # Little's law
    assert simulate(FREE, SERVICE, IMAGES) == outcome


def test_plans_have_what_their_gpus_need(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(capacity, "GPUS", (1, 8))
    monkeypatch.setattr(capacity, "IMAGES", 2000)
    costs = replace(FREE, gateway=Cost(0.0002), redis=Cost(0.00002, 1e-9), cache=Cost(0.00002), worker=Cost(0.0001))
    rows = {str(row[""]) + f", {row['Redis']} Redis": row for row in capacity.plan(costs, 60_000, 25.0).rows}
    assert rows["1 GPU, 1 Redis"]["gateways"] == "1"
    alone, sharded = rows["8 GPUs, 1 Redis"], rows["8 GPUs, 4 Redis"]
    past = rows["8 GPUs, images past Redis, 1 Redis"]
    assert str(alone["limit"]).startswith("Redis")
    assert alone["images/s"] == pytest.approx(1 / 0.00008, rel=0.1)
    assert {str(row["limit"]).split()[0] for row in (sharded, past)} == {"GPU"}
    assert sharded["gateways"] == "6"  # 8 · 0.2 ms / 0.4 ms of processes that are 70 % busy
    for row in (sharded, past):
        assert row["images/s"] == pytest.approx(8 * 2500, rel=0.1)
    capacity.main(["--image-bytes", "20000", "--gigabits", "10"])
    assert "20000 bytes" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("wrk"), reason="Debian's wrk is not installed")
@pytest.mark.slow
def test_costs_are_measured_and_confirmed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(capacity, "GPUS", (1,))
    monkeypatch.setattr(capacity, "MEASURED_CLIENTS", 16)
    monkeypatch.setattr(capacity, "ROUNDS", 1)
    monkeypatch.setattr(capacity, "CONFIRMED", replace(capacity.CONFIRMED, clients=16))
    measured, measure = [], capacity.measure_costs

    def measure_once() -> Any:
        measured.append(measure())
        return measured[0]

    monkeypatch.setattr(capacity, "measure_costs", measure_once)
    capacity.main(["--measure"])
    assert "simulated" in capsys.readouterr().out
    ((costs, _),) = measured
    assert costs.gateway.of(20_000) > 0
    assert costs.redis_commands > 1
    assert costs.redis_bytes > 0
