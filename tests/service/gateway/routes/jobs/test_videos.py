"""Ordering videos over HTTP, and downloading them."""

from typing import Any

import httpx
import pytest

from model.motion.timeline import Timeline
from service.imaging.video_spec import VideoSpec
from service.queue.messages import WorkerInfo
from tests.service.gateway.routes.jobs.ordering import call, drawing, job_of, read_events
from tests.service.gateway.stand_in import RunningGateway

ORDER: dict[str, Any] = {
    "seed": 7,
    "width": 64,
    "height": 48,
    "output": "mp4",
    "keyframes": [{"time": 0}, {"time": 1, "region": [0.2, 0.2, 0.6, 0.5], "transform": [{"rotate": 30}]}],
}


def order(gateway: RunningGateway, **values: Any) -> httpx.Response:
    return gateway.http.post("/v1/jobs", json=ORDER | values)


def timeline_of(gateway: RunningGateway, job: str) -> Timeline:
    video = job_of(gateway, job).export
    assert isinstance(video, VideoSpec)
    return video.timeline


@pytest.mark.parametrize(
    ("output", "media_type"),
    [("mp4", "video/mp4"), ("webm", "video/webm"), ("apng", "image/apng"), ("ffv1", "video/matroska")],
)
def test_a_video_is_made_and_served(gateway: RunningGateway, output: str, media_type: str) -> None:
    pytest.importorskip("av")
    job = order(gateway, output=output, labels={"a": "b"}).json()
    assert (job["width"], job["height"], job["frames"], job["fps"]) == (64, 48, 31, 30)
    assert (job["tile"], job["format"], job["tiles_total"], job["labels"]) == (None, None, 2, {"a": "b"})
    with drawing(gateway):
        events = read_events(gateway, job["id"])
    assert (events[-1][1]["state"], events[-1][1]["progress"]) == ("succeeded", 1)
    assert events[-1][1]["tiles_done"] == 2
    described = gateway.http.get(job["links"]["self"]).json()
    assert (described["state"], described["eta_seconds"]) == ("succeeded", None)
    whole = gateway.http.get(described["links"]["output"])
    assert (whole.status_code, whole.headers["Content-Type"]) == (200, media_type)
    assert whole.headers["Content-Disposition"].startswith('inline; filename="pattern-seed7-64x48.')
    part = gateway.http.get(f"/v1/jobs/{job['id']}/output", headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    for path in ("output/tiles/0", "output/video.avi", "output.zip"):
        assert gateway.http.get(f"/v1/jobs/{job['id']}/{path}").status_code == 404
    assert gateway.http.get(f"/iiif/3/job:{job['id']}/info.json").status_code == 404


def test_keyframes_change_what_they_name(gateway: RunningGateway) -> None:
    keyframes = [
        {"time": 0, "seed": 3, "psi": 0.5},
        {"time": 1, "latent": {"mix": [{"latent": {"seed": 1}}, {"latent": {"seed": 2}}]}},
        {"time": 2, "easing": "linear"},
    ]
    job = order(gateway, keyframes=keyframes, truncation_psi=0.8, transform=[{"rotate": 10}], wrap="x").json()
    assert (job["transform"], job["wrap"], job["truncation_psi"]) == ([{"rotate": 10.0}], "x", 0.5)
    timeline = timeline_of(gateway, job["id"])
    latents = [keyframe.latents[0] for keyframe in timeline.keyframes]
    assert [(latent.seed, latent.psi) for latent in latents] == [(3, 0.5), (None, 0.8), (7, 0.8)]
    assert len(latents[1].mix) == 2
    assert [keyframe.easing for keyframe in timeline.keyframes] == ["ease-in-out", "ease-in-out", "linear"]


def test_a_grid_of_latents(gateway: RunningGateway) -> None:
    cells = [[{"seed": 4 * k + cell} for cell in range(4)] for k in range(2)]
    keyframes = [{"time": 0, "latents": cells[0]}, {"time": 1, "latents": cells[1]}, {"time": 2, "latents": cells[0]}]
    job = order(gateway, keyframes=keyframes, cells="2x2", loop=True).json()
    assert (job["width"], job["height"], job["frames"]) == (128, 96, 60)


def test_a_random_seed_is_that_of_all_keyframes(gateway: RunningGateway) -> None:
    job = order(gateway, seed=None).json()
    timeline = timeline_of(gateway, job["id"])
    assert len({keyframe.latents for keyframe in timeline.keyframes}) == 1
    assert job["seed"] is not None


@pytest.mark.parametrize(
    ("values", "status", "field"),
    [
        ({"output": "avi"}, 422, "output"),
        ({"output": "dzi"}, 422, "keyframes"),
        ({"keyframes": None}, 422, "keyframes"),
        ({"keyframes": [{"time": 0}]}, 422, "keyframes"),
        ({"keyframes": [{"time": 1}, {"time": 2}]}, 422, "keyframes[0].time"),
        ({"keyframes": [{"time": 0}, {"time": 2}, {"time": 1}]}, 422, "keyframes[2].time"),
        ({"keyframes": [{"time": 0}, {"time": 1, "spin": 3}]}, 422, "keyframes[1].spin"),
        ({"keyframes": [{"time": 0}, {"time": 1, "easing": "bounce"}]}, 422, "keyframes[1].easing"),
        ({"keyframes": [{"time": 0}, {"time": 1, "seed": 1, "latent": {"seed": 2}}]}, 422, "keyframes[1].latent"),
        ({"keyframes": [{"time": 0}, {"time": 1, "psi": 9}]}, 422, "keyframes[1].psi"),
        ({"keyframes": [{"time": 0}, {"time": 1, "class": 1}]}, 422, "keyframes[1].class"),
        ({"keyframes": [{"time": 0}, {"time": 1, "region": [0, 0, 0, 1]}]}, 422, "keyframes[1].region"),
        ({"keyframes": [{"time": 0}, {"time": 1, "transform": [{"polar": {}}]}]}, 422, "keyframes[1].transform"),
        ({"keyframes": [{"time": 0}, {"time": 1, "latents": [{"seed": 1}] * 2}]}, 422, "keyframes[1].latents"),
        ({"cells": "2x1"}, 422, "keyframes[0].latents"),
        ({"cells": "0x1"}, 422, "cells"),
        ({"fps": 0.5}, 422, "fps"),
        ({"keyframes": [{"time": 0}, {"time": 2000}]}, 422, "keyframes"),
        ({"loop": True, "keyframes": [{"time": 0}, {"time": 1, "seed": 1}]}, 422, "loop"),
        ({"width": 63}, 422, "width"),
        ({"height": 47, "output": "webm"}, 422, "height"),
        ({"width": 8194}, 422, "width"),
        ({"tile": 256}, 422, "tile"),
        ({"crop": [0, 0, 8, 8]}, 422, "crop"),
        ({"format": "jpeg"}, 422, "format"),
        ({"width": 300, "height": 300}, 413, "keyframes"),
        ({"width": 2, "height": 2, "keyframes": [{"time": 0}, {"time": 299}]}, 413, "keyframes"),  # as rendered
    ],
)
def test_orders_that_cannot_be(gateway: RunningGateway, values: dict[str, Any], status: int, field: str) -> None:
    answer = order(gateway, **values)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert gateway.http.get("/v1/jobs").json()["total"] == 0


def test_images_have_no_keyframes(gateway: RunningGateway) -> None:
    answer = gateway.http.post("/v1/jobs", json={"seed": 1, "width": 64, "fps": 24})
    assert (answer.status_code, answer.json()["field"]) == (422, "fps")


def test_frames_between_keyframes_are_checked(gateway: RunningGateway) -> None:
    matrices = ([1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, 1, 0])
    keyframes = [{"time": k, "transform": [{"matrix": m}], "easing": "linear"} for k, m in enumerate(matrices)]
    answer = order(gateway, keyframes=keyframes)
    assert (answer.status_code, answer.json()["field"]) == (422, "transform")


def test_a_worker_must_be_able_to_encode_it(gateway: RunningGateway) -> None:
    gateway.queue.alive = [WorkerInfo("one", "cpu", "idle", ())]
    call(gateway, gateway.app_state.workers.refresh())
    answer = order(gateway)
    assert (answer.status_code, answer.json()["field"]) == (422, "output")
    assert "creps-serve[video]" in answer.json()["detail"]
    assert order(gateway, output="apng").status_code == 202
    gateway.queue.alive = [WorkerInfo("one", "cpu", "idle", ()), WorkerInfo("two", "cpu", "idle", (), video=True)]
    call(gateway, gateway.app_state.workers.refresh())
    assert order(gateway).status_code == 202
