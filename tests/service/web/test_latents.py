"""The panel of latents: directions, another seed, latents of one's own, and links that hold them."""

import re
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


def searching(latent: str) -> dict[str, Any]:
    """A projection in the middle of its search."""
    progress = {"state": "running", "steps": 200, "steps_done": 40}
    return {"id": "7", **progress, "latent": latent, "psnr": None, "error": None}


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
    assert service.latents[-1] == {"id": final, "truncation_psi": 1, "edits": []}


def test_a_picture_of_the_service_shows_its_seed(panel: Page, service: StandIn, tmp_path: Path) -> None:
    """Unless its latent was changed: then it is looked for."""
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG")
    latent: dict[str, Any] = {"seed": 7, "psi": 0.5}
    service.description = {"model_name": "demo", "spec": {"latent": latent}}
    panel.get_by_label("Open a picture or latent").set_input_files(file)
    expect(panel.get_by_text("picture.png is of seed 7.")).to_be_visible()
    eventually(lambda: (link(panel)["seed"], link(panel)["psi"]) == ("7", "0.5"), panel)
    assert service.uploads == []
    latent["edits"] = [{"direction": "sefa:0", "amount": 2}]
    service.projection = [searching(f"lat_{'1' * 32}")]
    panel.get_by_label("Open a picture or latent").set_input_files(file)
    expect(panel.get_by_text("Looking for the picture: step 40 of 200")).to_be_visible()
    expect(panel.get_by_role("spinbutton", name="Seed", exact=True)).to_have_class("replaced")


def test_sharing_tells_that_a_changed_latent_is_kept_for_some_days(panel: Page, service: StandIn) -> None:
    panel.get_by_role("button", name="Share").click()
    expect(panel.get_by_text("keeps a changed latent for some days")).to_be_hidden()
    panel.get_by_role("button", name="Close").click()
    panel.get_by_role("slider", name="sefa:1").fill("2")
    wait_for_latent(panel, service)
    panel.get_by_role("button", name="Share").click()
    expect(panel.get_by_text("keeps a changed latent for some days")).to_be_visible()


def test_groups_of_styles_are_mixed_in_and_kept_in_the_link(panel: Page, service: StandIn) -> None:
    groups = panel.get_by_role("group", name="What is mixed in").get_by_role("button")
    expect(groups).to_have_text(["Layout", "Form", "Detail", "Tone"])
    panel.get_by_role("slider", name="Mix in").fill("0.5")
    for name in ("Form", "Detail"):
        panel.get_by_role("button", name=name, exact=True).click()
    wait_for_latent(panel, service)
    mix = [{"latent": {"seed": 0}, "weight": 0.5}, {"latent": {"seed": 1}, "weight": 0.5}]
    styles = [{"layers": "0,10", "latent": {"mix": mix}}]
    assert service.latents[-1] == {"seed": 0, "styles": styles, "truncation_psi": 0.7, "edits": []}
    eventually(lambda: link(panel).get("mix") == "1,0.5,0,10", panel)
    panel.reload()
    panel.get_by_role("tab", name="Latent").click()
    pressed = panel.locator("#mix-groups [aria-pressed=true]")
    expect(pressed).to_have_text(["Layout", "Tone"])


def test_a_walk_to_the_other_seed_is_played_and_stays_where_it_is_paused(panel: Page, service: StandIn) -> None:
    panel.get_by_role("spinbutton", name="Seed to mix in").fill("3")
    play = panel.get_by_role("button", name="Play the way there and back")
    play.click()
    expect(play).to_have_attribute("aria-pressed", "true")
    expect(panel.locator("#film")).to_be_visible()
    expect(panel.locator("#mix-value")).to_have_text(re.compile(r"\d+ %"))
    play.click()
    expect(panel.locator("#film")).to_be_hidden()
    wait_for_latent(panel, service)
    first, second = service.latents[-1]["mix"]
    assert 0 < second["weight"] <= 1
    assert first["weight"] == pytest.approx(1 - second["weight"])
    weights = sorted(body["latent"]["mix"][1]["weight"] for body in service.drawn[:2])  # asked for at once
    assert weights == pytest.approx([0, 1 / 24])
    assert max(service.drawn[0]["width"], service.drawn[0]["height"]) == 320


def test_a_dropped_picture_is_looked_for_until_that_is_stopped(page: Page, service: StandIn) -> None:
    found = f"lat_{'1' * 32}"
    service.projection = [searching(found)]
    script = """() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(["\\x89PNG"], "picture.png", { type: "image/png" }));
        for (const type of ["dragover", "drop"]) dispatchEvent(new DragEvent(type, { dataTransfer, cancelable: true }));
    }"""
    page.evaluate(script)
    expect(page.get_by_text("Looking for the picture: step 40 of 200")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()
    wait_for_latent(page, service)
    assert service.latents[-1] == {"id": found, "truncation_psi": 1, "edits": []}
    page.get_by_role("button", name="Next seed").click()  # the search goes on without the page
    eventually(lambda: "latent" not in link(page), page)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped: this is how near it came.")).to_be_visible()
    assert service.projection[0]["state"] == "cancelled"
    page.get_by_role("button", name="Show it").click()
    eventually(lambda: link(page).get("latent") == found, page)
    expect(page.get_by_role("button", name="Show it")).to_be_hidden()


def test_a_seed_is_chosen_from_a_sheet(page: Page, service: StandIn) -> None:
    page.get_by_role("button", name="Choose among seeds").click()
    sheet = page.get_by_role("list", name="Seeds")
    expect(sheet.get_by_role("button")).to_have_count(12)
    expect(sheet.locator("canvas.empty")).to_have_count(0)
    expect(sheet.locator("[aria-current]")).to_have_text("0")
    page.get_by_role("button", name="Later seeds").click()
    sheet.get_by_role("button", name="Seed 17", exact=True).click()
    eventually(lambda: link(page).get("seed") == "17", page)
    expect(sheet.locator("[aria-current]")).to_have_text("17")


def test_large_seeds_of_a_sheet_are_told_apart(page: Page, service: StandIn) -> None:
    page.goto(f"{service.url}?seed=791614212")
    page.get_by_role("button", name="Choose among seeds").click()
    sheet = page.get_by_role("list", name="Seeds")
    expect(sheet.locator("[aria-current]")).to_have_text("…4212")
    assert len(set(sheet.get_by_role("button").all_inner_texts())) == 12


def test_classes_are_chosen_by_name(page: Page, service: StandIn) -> None:
    service.models[1] = {**service.models[1], "class_names": ["cat", "dog"]}
    page.goto(f"{service.url}?model=animals&class=1")
    field = page.get_by_label("Class", exact=True)
    expect(field.locator("option:checked")).to_have_text("dog")
    field.select_option("class 7")
    eventually(lambda: link(page).get("class") == "7", page)


def test_a_model_without_directions(page: Page, service: StandIn) -> None:
    page.get_by_role("tab", name="Latent").click()
    expect(page.get_by_text("This model has no directions of its own.")).to_be_visible()


def test_a_file_that_is_refused(panel: Page, service: StandIn, tmp_path: Path) -> None:
    service.problems.append((422, {}, {"title": "Unprocessable Content", "detail": "latent: is not readable"}))
    file = tmp_path / "w.npy"
    file.write_bytes(b"nothing")
    panel.get_by_label("Open a picture or latent").set_input_files(file)
    expect(panel.get_by_text("w.npy: is not readable.")).to_be_visible()
