"""The panel of latents: directions, another seed, latents of one's own, and links that hold them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import canvas_size, eventually, is_busy, link, pixel
from tests.service.web.stand_in import StandIn, blue_of

DIRECTIONS: list[dict[str, Any]] = [
    {"name": f"sefa:{i}", "layers": [i], "effect": 20.0 - i, "luma": 9.0, "chroma": -8.0} for i in range(10)
]


@pytest.fixture
def panel(page: Page, service: StandIn) -> Page:
    """The page with its panel of latents open."""
    service.directions = DIRECTIONS
    page.get_by_role("tab", name="Latent").click()
    expect(page.get_by_role("slider", name="sefa:0")).to_be_visible()
    return page


def wait_for_latent(page: Page, service: StandIn) -> None:
    """Waits until the picture of the latent that was stored last is shown."""

    def is_shown() -> bool:
        if not service.asked or not service.ids:
            return False
        asked = service.asked[-1]
        blue = blue_of(asked.seed, asked.class_index, asked.psi)
        return asked.latent == service.ids[-1] and not is_busy(page) and abs(middle_blue(page) - blue) <= 3

    eventually(is_shown, page)


def wait_for_seed(page: Page) -> None:
    """Waits until the unchanged picture of seed 0 is shown."""
    eventually(lambda: abs(middle_blue(page) - blue_of(0, None, 0.7)) <= 3, page)


def middle_blue(page: Page) -> int:
    width, height = canvas_size(page)
    return pixel(page, width // 2, height // 2)[2]


def test_sliders_change_the_image_and_its_link(panel: Page, service: StandIn) -> None:
    before = panel.url
    expect(panel.get_by_role("slider", name="sefa:")).to_have_count(8)
    panel.get_by_role("slider", name="sefa:0").fill("1.5")
    wait_for_latent(panel, service)
    assert service.latents[-1] == {
        "seed": 0,
        "truncation_psi": 0.7,
        "edits": [{"direction": "sefa:0", "amount": 1.5}],
    }
    expect(panel.locator("output", has_text="1.50")).to_be_visible()
    eventually(lambda: link(panel).get("edits") == "sefa:0,1.5", panel)
    expect(panel).to_have_title("landscapes · seed 0 · ψ 0.70 · edited – CREPS Explorer")
    panel.get_by_role("button", name="Undo all changes").click()
    wait_for_seed(panel)
    eventually(lambda: panel.url == before, panel)


def test_another_seed_is_mixed_in(panel: Page, service: StandIn) -> None:
    panel.get_by_role("spinbutton", name="Seed to mix in").fill("9")
    panel.get_by_role("slider", name="Mix in").fill("0.25")
    wait_for_latent(panel, service)
    mix = [{"latent": {"seed": 0}, "weight": 0.75}, {"latent": {"seed": 9}, "weight": 0.25}]
    assert service.latents[-1] == {"mix": mix, "truncation_psi": 0.7, "edits": []}
    panel.get_by_role("button", name="Next seed").click()
    wait_for_latent(panel, service)
    assert service.latents[-1]["mix"][0] == {"latent": {"seed": 1}, "weight": 0.75}


def test_a_link_opens_the_same_again(new_page: Callable[..., Page], service: StandIn) -> None:
    service.directions = DIRECTIONS
    page = new_page()
    base = f"lat_{'1' * 32}"
    page.goto(f"{service.url}?model=landscapes&psi=1&latent={base}&mix=9,0.5&edits=sefa:1,-2;sefa:3,0.5")
    wait_for_latent(page, service)
    assert service.latents == [
        {
            "mix": [{"latent": {"id": base}, "weight": 0.5}, {"latent": {"seed": 9}, "weight": 0.5}],
            "truncation_psi": 1,
            "edits": [{"direction": "sefa:1", "amount": -2}, {"direction": "sefa:3", "amount": 0.5}],
        }
    ]
    page.get_by_role("tab", name="Latent").click()
    expect(page.get_by_role("slider", name="sefa:1")).to_have_value("-2")
    page.get_by_role("button", name="Use the seed").click()
    wait_for_latent(page, service)
    assert service.latents[-1]["mix"][0]["latent"] == {"seed": 0}
    expect(page.get_by_role("button", name="Use the seed")).to_be_hidden()


def test_a_latent_of_ones_own(panel: Page, service: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "w.npz"
    file.write_bytes(b"PK\x03\x04")
    panel.get_by_label("Open a picture or latent").set_input_files(file)
    wait_for_latent(panel, service)
    assert service.uploads == [b"PK\x03\x04"]
    expect(panel.get_by_role("button", name="Use the seed")).to_be_visible()


def test_a_picture_is_looked_for(panel: Page, service: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG")
    final = f"lat_{'2' * 32}"
    states = [("queued", 0, None), ("running", 40, f"lat_{'1' * 32}"), ("succeeded", 200, final)]
    service.projection = [
        {"id": "7", "state": state, "steps": 200, "steps_done": done, "latent": latent, "psnr": 30.04, "error": None}
        for state, done, latent in states
    ]
    panel.get_by_label("Open a picture or latent").set_input_files(file)
    expect(panel.get_by_text("Found, within 30.0 dB.")).to_be_visible()
    assert service.uploads == [b"\x89PNG"]
    eventually(lambda: link(panel).get("latent") == final, panel)
    wait_for_latent(panel, service)
    assert {"id": final, "truncation_psi": 0.7, "edits": []} in service.latents


def test_a_model_without_directions(page: Page, service: StandIn) -> None:
    page.get_by_role("tab", name="Latent").click()
    expect(page.get_by_text("This model has no directions of its own.")).to_be_visible()


def test_a_file_that_is_refused(panel: Page, service: StandIn, tmp_path: Path) -> None:
    service.problems.append((422, {}, {"title": "Unprocessable Content", "detail": "latent: is not readable"}))
    file = tmp_path / "w.npy"
    file.write_bytes(b"nothing")
    panel.get_by_label("Open a picture or latent").set_input_files(file)
    expect(panel.get_by_text("Latent: is not readable.")).to_be_visible()
