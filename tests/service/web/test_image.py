"""Which picture is shown, the links to it, and its downloads."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.service.web.canvas import wait_for_full, wheel
from tests.service.web.stand_in import StandIn, colour


class TestPicture:
    def test_seed(self, page: Page, service: StandIn) -> None:
        page.get_by_label("Seed", exact=True).fill("7")
        assert wait_for_full(page, service).seed == 7
        page.get_by_role("button", name="Next seed").click()
        assert wait_for_full(page, service).seed == 8
        for _ in range(9):
            page.get_by_role("button", name="Previous seed").click()
        assert wait_for_full(page, service).seed == 2**32 - 1
        page.locator("canvas").focus()
        page.keyboard.press("r")
        assert wait_for_full(page, service).seed not in (0, 2**32 - 1)

    def test_a_seed_that_is_none_is_never_asked_for(self, page: Page, service: StandIn) -> None:
        for nonsense in ("-3", "4294967296", "1.5", ""):
            page.get_by_label("Seed", exact=True).fill(nonsense)
        page.get_by_label("Seed", exact=True).press("Tab")
        expect(page.get_by_label("Seed", exact=True)).to_have_value("0")
        assert {asked.seed for asked in service.asked} == {0}

    def test_truncation(self, page: Page, service: StandIn) -> None:
        page.get_by_label("Truncation").fill("-0.25")
        assert wait_for_full(page, service).psi == -0.25
        expect(page.locator("#psi-value")).to_have_text("−0.25")

    def test_model_and_class(self, page: Page, service: StandIn) -> None:
        expect(page.get_by_label("Class")).to_be_hidden()
        page.get_by_label("Model").select_option("animals")
        asked = wait_for_full(page, service)
        assert (asked.model, asked.class_index) == ("animals", 0)
        page.get_by_label("Class").fill("9")
        assert wait_for_full(page, service).class_index == 9
        page.get_by_label("Class").fill("10")
        page.get_by_label("Class").press("Tab")
        expect(page.get_by_label("Class")).to_have_value("9")
        page.get_by_label("Model").select_option("landscapes")
        assert wait_for_full(page, service).class_index is None
        assert {asked.class_index for asked in service.asked if asked.model == "animals"} == {0, 9}

    def test_keys_of_a_field_do_not_move_the_view(self, page: Page, service: StandIn) -> None:
        page.get_by_label("Seed", exact=True).click()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("0")
        asked = wait_for_full(page, service)
        assert asked.seed != 0
        assert asked.region == service.asked[0].region


class TestLink:
    def test_reopens_the_same_view(self, page: Page, new_page: Callable[..., Page], service: StandIn) -> None:
        page.get_by_label("Model").select_option("animals")
        page.get_by_label("Class").fill("3")
        page.get_by_label("Seed", exact=True).fill("123456")
        page.get_by_label("Truncation").fill("0.9")
        for _ in range(25):
            wheel(page, 500, 200, -600)
        first = wait_for_full(page, service)
        assert first.extents[1] < 1e-6
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.url

        again = new_page()
        again.goto(copied)
        second = wait_for_full(again, service)
        assert (second.model, second.seed, second.psi, second.class_index) == ("animals", 123456, 0.9, 3)
        pixel_side = first.extents[1] / first.height
        assert second.region == pytest.approx(first.region, rel=0, abs=0.01 * pixel_side)

    def test_a_link_pasted_into_the_open_page_is_followed(self, page: Page, service: StandIn) -> None:
        page.goto(f"{service.url}#seed=5&x=0.25&y=0.25&extent=0.1")
        asked = wait_for_full(page, service)
        assert asked.seed == 5
        assert asked.extents[1] == pytest.approx(0.1)
        expect(page.get_by_label("Seed", exact=True)).to_have_value("5")

    @pytest.mark.parametrize(
        "fragment",
        [
            "%%%&&==#?",
            "seed=abc&psi=NaN&x=Infinity&y=&extent=-1e999&class=x&model=%3Cb%3E",
            "model=../../etc/passwd&class=4",
            "seed=&psi=&x=&y=&extent=",
        ],
    )
    def test_nonsense_falls_back_to_the_defaults(
        self, new_page: Callable[..., Page], service: StandIn, fragment: str
    ) -> None:
        page = new_page()
        page.goto(f"{service.url}#{fragment}")
        asked = wait_for_full(page, service)
        assert (asked.model, asked.seed, asked.psi, asked.class_index) == ("landscapes", 0, 0.7, None)
        assert asked.region == pytest.approx((-1 / 6, 0, 7 / 6, 1), abs=1e-12)

    def test_values_out_of_range_are_brought_into_it(self, new_page: Callable[..., Page], service: StandIn) -> None:
        page = new_page()
        page.goto(f"{service.url}#model=animals&class=99&seed=1e12&psi=7&x=50&y=-50&extent=1e-30")
        asked = wait_for_full(page, service)
        assert (asked.class_index, asked.seed, asked.psi) == (9, 2**32 - 1, 1.5)
        assert min(asked.extents) >= 1e-9
        assert (asked.region[2], asked.region[1]) == pytest.approx((2, -1), abs=1e-12)
        assert all(-1 <= value <= 2 for value in asked.region)


class TestDownload:
    @pytest.mark.parametrize(("choice", "size"), [("0", (800, 600)), ("2048", (2048, 1536)), ("4096", (4096, 3072))])
    def test_saves_the_shown_view_as_png(
        self, page: Page, service: StandIn, tmp_path: Path, choice: str, size: tuple[int, int]
    ) -> None:
        wheel(page, 500, 200, -500)
        shown = wait_for_full(page, service)
        page.get_by_label("Picture of this view").select_option(choice)
        with page.expect_download() as started:
            page.get_by_role("button", name="Download").click()
        assert re.fullmatch(r"landscapes-seed0-x[\d.]+\.png", started.value.suggested_filename)
        started.value.save_as(tmp_path / "view.png")
        with Image.open(tmp_path / "view.png") as image:
            assert (image.format, image.size) == ("PNG", size)
            corner = image.getpixel((0, 0))
        assert corner == pytest.approx(colour(shown.region[0], shown.region[1], 0), abs=1)
        asked = service.asked[-1]
        assert (asked.format, asked.region) == ("png", shown.region)

    def test_a_refusal_is_told_and_a_second_click_cancels(self, page: Page, service: StandIn) -> None:
        detail = "At most 1000000 pixels; larger pictures are made by POST /v1/jobs"
        service.problems = [(413, {}, {"title": "Too large", "detail": detail})]
        page.get_by_role("button", name="Download").click()
        expect(page.locator("#download-told")).to_have_text(f"{detail}.")
        service.open.clear()
        page.get_by_role("button", name="Download").click()
        with page.expect_event("requestfailed"):
            page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("button", name="Download")).to_be_visible()
        expect(page.locator("#download-told")).to_be_empty()
