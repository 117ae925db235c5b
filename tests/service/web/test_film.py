"""The film: keys that are set from views, put in order and played."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from model.motion.spline import Spline
from tests.service.web.canvas import eventually, shown, wait_for_full, wheel
from tests.service.web.stand_in import StandIn
from tests.service.web.test_view import middle


@pytest.fixture
def film(page: Page, service: StandIn) -> Page:
    """A page with a film of two keys: all of seed 0, and a part of seed 1."""
    page.get_by_role("tab", name="Film").click()
    expect(page.get_by_role("button", name="Play")).to_be_disabled()
    page.get_by_role("button", name="Add this view").click()
    wheel(page, *middle(page), -400)
    page.get_by_role("button", name="Next seed").click()
    wait_for_full(page, service)
    page.get_by_role("button", name="Add this view").click()
    expect(page.get_by_text("2 keys, 2 s")).to_be_visible()
    return page


def thumbnails(page: Page) -> list[str]:
    names = page.locator("#keys .thumbnail").evaluate_all("keys => keys.map((key) => key.title)")
    return [name.split(" · ")[1] for name in names]


def test_keys_are_kept_in_the_link_and_changed(film: Page, service: StandIn) -> None:
    part = shown(film)
    film.get_by_label("Seconds from key 1 to the next").fill("3.5")
    film.get_by_label("How the time from key 1 to the next passes").select_option("linear")
    eventually(lambda: "seconds%3D3.5%26easing%3Dlinear" in film.url, film)
    film.reload()
    wait_for_full(film, service)
    film.get_by_role("tab", name="Film").click()
    expect(film.get_by_text("2 keys, 3.5 s")).to_be_visible()
    expect(film.locator("#keys canvas.empty")).to_have_count(0)
    assert thumbnails(film) == ["seed 0", "seed 1"]
    film.get_by_role("button", name="Move key 2 up").click()
    assert thumbnails(film) == ["seed 1", "seed 0"]
    expect(film.locator("#keys li").first.locator("button:focus")).to_have_count(1)
    film.get_by_role("button", name="Show key 2").click()
    assert wait_for_full(film, service).extents[1] > 1
    film.get_by_role("button", name="Show key 1").click()
    assert wait_for_full(film, service).region == pytest.approx(part.region, abs=1e-5)
    film.get_by_role("button", name="Remove key 1").click()
    assert thumbnails(film) == ["seed 0"]
    film.get_by_role("button", name="Undo").click()
    expect(film.locator("#keys li")).to_have_count(2)


def test_it_is_played_in_small_pictures(film: Page, service: StandIn) -> None:
    film.get_by_role("button", name="Play").click()
    expect(film.locator("#film")).to_be_visible()
    film.locator("#keys li[aria-current]").wait_for()
    eventually(lambda: len(service.drawn) > 12, film)
    film.get_by_role("button", name="Stop").click()
    expect(film.locator("#film")).to_be_hidden()
    played = [body for body in service.drawn if max(body["width"], body["height"]) == 320]
    assert {latent["seed"] for latent in service.latents} == {0, 1}
    ids = {part["latent"]["id"] for body in played for part in body["latent"]["mix"]}
    assert ids == set(service.ids)
    sides = [body["region"][3] - body["region"][1] for body in played]
    assert max(sides) > min(sides) + 0.01  # it zooms
    for body in played:
        assert sum(part["weight"] for part in body["latent"]["mix"]) == pytest.approx(1)


def test_the_video_is_ordered_and_watched(film: Page, service: StandIn) -> None:
    film.locator("#canvas").focus()
    film.keyboard.press(".")
    film.get_by_role("button", name="Add this view").click()
    film.get_by_label("Video", exact=True).select_option("webm")
    film.get_by_label("Longer side", exact=True).select_option("640")
    film.get_by_role("button", name="Order the video").click()
    card = film.locator("#job-list li").first
    expect(card).to_contain_text("WebM, 4 s")
    order = service.orders[0]
    assert (order["output"], order["fps"], max(order["width"], order["height"])) == ("webm", 30, 640)
    assert order["height"] % 2 == order["width"] % 2 == 0
    assert [key["time"] for key in order["keyframes"]] == [0, 2, 4]
    assert [key["transform"] for key in order["keyframes"]] == [[{"rotate": 0}], [{"rotate": 0}], [{"rotate": 15}]]
    assert {key["latent"]["id"] for key in order["keyframes"]} == set(service.ids)
    service.jobs[0].update(state="succeeded", progress=1.0)
    service.tell.set()
    card.get_by_role("button", name="Watch").click()
    dialog = film.get_by_role("dialog", name=re.compile("film, .* WebM, 4 s"))
    expect(dialog.locator("video")).to_have_attribute("src", f"v1/jobs/{service.jobs[0]['id']}/output")
    expect(dialog).to_contain_text("Download it instead.")  # for the stand-in has no video
    film.keyboard.press("Escape")
    expect(film.locator("video")).to_have_count(0)


def test_a_film_is_of_one_model(film: Page, service: StandIn) -> None:
    film.get_by_role("tab", name="Picture").click()
    film.get_by_label("Model").select_option("animals")
    wait_for_full(film, service)
    film.get_by_role("tab", name="Film").click()
    film.get_by_role("button", name="Add this view").click()
    expect(film.get_by_text("All keys of a film are of one model and class.")).to_be_visible()
    expect(film.locator("#keys li")).to_have_count(2)


def test_its_latents_follow_the_curve_of_the_service(page: Page) -> None:
    times = [0.0, 0.5, 2.0, 5.0, 6.0]
    moments = np.linspace(0, 6, 25).tolist()
    script = """async ([times, moments]) => {
        const { splineWeights } = await import("/web/film/spline.js");
        return moments.map((moment) => splineWeights(times, moment));
    }"""
    spline = Spline(np.array(times), np.eye(5))
    expected = np.array([spline(moment) for moment in moments])
    assert np.array(page.evaluate(script, [times, moments])) == pytest.approx(expected, abs=1e-12)
