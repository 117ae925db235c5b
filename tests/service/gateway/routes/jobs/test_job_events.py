"""Watching jobs over HTTP."""

import time

import pytest

from service.gateway.routes import job_events
from service.jobs import pace
from service.jobs.repository import JobRepository
from service.jobs.status import State, Status
from service.jobs.tile_tasks import TileTask, TileTasks
from tests.service.gateway.routes.jobs.ordering import call, drawing, order, order_of, read_events, settle, watch
from tests.service.gateway.stand_in import RunningGateway


def test_events_tell_every_tile_once_and_can_be_resumed(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    watching = watch(gateway, job["id"])
    told = [next(watching)]  # before anything is drawn: of a job that has ended no tiles are told
    with drawing(gateway):
        told += watching
    tiles = [tuple(tile) for _, data in told for tile in data["tiles"]]
    pyramid = order_of(gateway, job["id"]).pyramid
    assert set(tiles) == {pyramid.locate(index) for index in range(pyramid.tiles)}
    assert told[-1][1]["state"] == "succeeded"
    assert told[-1][1]["progress"] == 1
    progress = [data["progress"] for _, data in told]
    assert progress == sorted(progress)
    middle = len(told) // 2
    rest = [tuple(tile) for _, data in read_events(gateway, job["id"], told[middle][0]) for tile in data["tiles"]]
    seen = [tuple(tile) for _, data in told[: middle + 1] for tile in data["tiles"]]
    assert sorted([*seen, *rest]) == sorted(tiles)
    ((last, again),) = read_events(gateway, job["id"])
    assert (last, again["state"], again["tiles"]) == (told[-1][0], "succeeded", [])  # they are all there


@pytest.mark.parametrize("last", [None, "9999999999999999999-0", "1-0"])
def test_events_that_are_not_known_are_told_from_the_beginning(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, last: str | None
) -> None:
    monkeypatch.setattr(job_events, "MAX_TILES", 4)
    job = order(gateway).json()

    settled = settle(gateway, job["id"], 10)
    watching = watch(gateway, job["id"], last)
    told = [next(watching) for _ in range(3)]
    gateway.http.delete(job["links"]["self"])
    *_, (_, end) = watching
    locate = order_of(gateway, job["id"]).pyramid.locate
    assert [len(data["tiles"]) for _, data in told] == [4, 4, 2]
    assert [tuple(tile) for _, data in told for tile in data["tiles"]] == [locate(tile) for tile in settled]
    # Only who has all tiles goes on after them.
    assert [identifier != "" for identifier, _ in told] == [False, False, True]
    assert end["state"] == "cancelled"


def test_an_end_between_status_and_events_is_told(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last entry of the log is read with the status of before it."""
    job, read, states = order(gateway).json(), JobRepository.status, list[State]()

    async def status(repository: JobRepository, job_id: str) -> Status:
        found = await read(repository, job_id)
        states.append(found.state)
        if len(states) == 2:
            await repository.cancel(job_id)
        return found

    monkeypatch.setattr(JobRepository, "status", status)
    *_, (_, end) = read_events(gateway, job["id"])
    assert end["state"] == "cancelled"
    assert states == ["queued", "queued", "cancelled"]


def test_head_does_not_wait_for_the_end(gateway: RunningGateway) -> None:
    path = f"/v1/jobs/{order(gateway).json()['id']}/events"
    head = gateway.http.head(path)
    with gateway.http.stream("GET", path) as get:
        for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering", "Content-Length"):
            assert head.headers.get(name) == get.headers.get(name)
    assert (head.status_code, gateway.http.head("/v1/jobs/absent/events").status_code) == (200, 404)


def test_an_event_that_cannot_be_is_refused(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    answer = gateway.http.get(job["links"]["events"], headers={"Last-Event-ID": "99999999999999999999-0"})
    assert (answer.status_code, answer.json()["field"]) == (422, "last-event-id")


def test_what_is_left_of_the_last_file_is_estimated(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "KNOWN_SECONDS", 0.5)
    job = order(gateway, output="tiff").json()

    settle(gateway, job["id"], job["tiles_total"])
    finishing = TileTask(b"0-1", job["id"], job["tiles_total"], tries=0)
    assert 0 <= gateway.http.get(job["links"]["self"]).json()["eta_seconds"] < 1  # of a small file
    for tiles in (2, 4, 6, 8):
        call(gateway, TileTasks(gateway.app_state.jobs.redis).advance(finishing, tiles))
        time.sleep(0.2)
    described = gateway.http.get(job["links"]["self"]).json()
    assert described["eta_seconds"] >= round(0.2 * (job["tiles_total"] - 8) / 2 - 0.2, 1)


def test_what_is_left_is_counted_in_pixels(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tiles, of levels of a few pixels, take less than those that are left."""
    monkeypatch.setattr(pace, "KNOWN_SECONDS", 0.3)
    job = order(gateway).json()
    for _ in range(4):
        assert gateway.http.get(job["links"]["self"]).json()["eta_seconds"] is None  # no worker tells its speed
        settle(gateway, job["id"], 1)
        time.sleep(0.15)
    estimate = gateway.http.get(job["links"]["self"]).json()["eta_seconds"]
    export, resolution = order_of(gateway, job["id"]), gateway.checkpoints["pattern"].config.resolution
    first, stored, total = (export.work(tiles, resolution) for tiles in (1, 4, job["tiles_total"]))
    assert estimate > 0.3 * (total - stored) / (stored - first) > 2 * 0.15 * job["tiles_total"]
