"""Saving what is shown, and sharing it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.service.web.canvas import canvas_size, eventually, shown, wait_for_full, wheel
from tests.service.web.stand_in import StandIn, colour
from tests.service.web.test_view import middle


def open_save(page: Page, what: str = "picture", image_format: str = "png", size: str | int = 2048) -> None:
    """A size that is not offered is typed."""
    page.get_by_role("button", name="Save").click()
    page.get_by_label("What", exact=True).select_option(what)
    page.get_by_label("Format").select_option(image_format)
    offered = page.locator("#save-size option").evaluate_all("options => options.map(({ value }) => value)")
    page.get_by_label("Pixels", exact=True).select_option(str(size) if str(size) in offered else "custom")
    if str(size) not in offered:
        page.get_by_label("Longer side in pixels").fill(str(size))


def press_save(page: Page) -> None:
    page.locator("#save-submit").click()


def test_what_is_seen_is_offered_first(page: Page, service: StandIn) -> None:
    for key, what in (("+", "view"), ("0", "picture")):
        page.keyboard.press(key)
        wait_for_full(page, service)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("What", exact=True)).to_have_value(what)
        page.get_by_role("button", name="Close").click()


class TestDownload:
    def test_just_the_picture(self, page: Page, service: StandIn, tmp_path: Path) -> None:
        wheel(page, *middle(page), -400)
        wait_for_full(page, service)
        open_save(page, size=1024)
        expect(page.locator("#save-told")).to_contain_text("1,024 × 1,024 pixels, drawn at once. About")
        expect(page.locator("#save-told")).to_contain_text("kB")
        with page.expect_download() as started:
            press_save(page)
        assert started.value.suggested_filename == "landscapes-seed0-1024x1024.png"
        started.value.save_as(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert (image.format, image.size) == ("PNG", (1024, 1024))
            assert image.getpixel((0, 0)) == pytest.approx(colour(0, 0, 0), abs=1)
        expect(page.locator("#save-dialog")).to_be_hidden()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("what", "image_format", "ratio"), [("view", "webp", None), ("16:9", "jpeg", 16 / 9), ("4:5", "png", 4 / 5)]
    )
    def test_what_is_seen_or_an_aspect(
        self, page: Page, service: StandIn, tmp_path: Path, what: str, image_format: str, ratio: float | None
    ) -> None:
        wheel(page, *middle(page), -400)
        view = wait_for_full(page, service)
        open_save(page, what, image_format, 700)
        with page.expect_download() as started:
            press_save(page)
        started.value.save_as(tmp_path / "a")
        with Image.open(tmp_path / "a") as image:
            assert image.format == image_format.upper()
            assert max(image.size) == 700
            width, height = canvas_size(page)
            assert image.size[0] / image.size[1] == pytest.approx(ratio or width / height, rel=0.01)
        asked = next(asked for asked in reversed(service.asked) if asked.width > 192)
        x0, y0, x1, y1 = asked.region
        assert view.region[0] - 1e-6 <= x0 < x1 <= view.region[2] + 1e-6
        assert view.region[1] - 1e-6 <= y0 < y1 <= view.region[3] + 1e-6
        assert (x1 - x0) / (y1 - y0) == pytest.approx(asked.width / asked.height, rel=0.01)

    def test_only_sizes_that_the_server_takes_are_offered(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.max_pixels, service.max_job_pixels = 2048 * 2048, 8192 * 8192
        page = new_page()
        page.goto(service.url)
        wait_for_full(page, service)
        sizes = page.locator("#save-size option")
        open_save(page, image_format="jpeg")
        assert max(map(int, sizes.evaluate_all("all => all.map(({ value }) => value).slice(0, -1)"))) == 2048
        page.get_by_label("Format").select_option("tiff")
        assert max(map(int, sizes.evaluate_all("all => all.map(({ value }) => value).slice(0, -1)"))) == 8192
        page.get_by_label("Pixels", exact=True).select_option("custom")
        page.get_by_label("Longer side in pixels").fill("8193")
        expect(page.locator("#save-submit")).to_be_disabled()
        expect(page.locator("#save-told")).to_have_text("From 1 to 8,192 pixels on the longer side.")

    @pytest.mark.slow
    def test_a_refusal_is_told_and_a_second_click_cancels(self, page: Page, service: StandIn) -> None:
        open_save(page)
        expect(page.locator("#save-told")).to_contain_text("kB")  # the estimate has come
        detail = "The picture was not drawn in 30 s"
        service.problems = [(504, {}, {"title": "Timed out", "detail": detail})]
        press_save(page)
        expect(page.locator("#save-refused")).to_have_text(f"{detail}.")
        service.open.clear()
        press_save(page)
        with page.expect_event("requestfailed"):
            page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#save-submit")).to_have_text("Download")
        expect(page.locator("#save-refused")).to_be_empty()

    @pytest.mark.slow
    def test_the_image_is_copied(self, page: Page, service: StandIn) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        open_save(page, size=512)
        page.get_by_role("button", name="Copy image").click()
        expect(page.locator("#save-told")).to_have_text("Copied.")
        types = page.evaluate("navigator.clipboard.read().then((items) => items.map(({ types }) => types))")
        assert types == [["image/png"]]


class TestEstimate:
    def test_time_and_bytes_come_before_the_order(self, new_page: Callable[..., Page], service: StandIn) -> None:
        """Also if all pictures that the page has shown were cached: then a piece of the picture is timed."""
        service.cache, service.render_milliseconds, service.request_timeout = "hit", 20.0, 5.0
        page = new_page()
        page.goto(service.url)
        wait_for_full(page, service)
        service.open.clear()
        page.get_by_role("button", name="Save").click()
        told, submit = page.locator("#save-told"), page.locator("#save-submit")
        page.get_by_label("Pixels", exact=True).select_option("1024")
        expect(told).to_have_text("1,024 × 1,024 pixels. Estimating the time …")
        expect(submit).to_be_disabled()
        service.cache = None
        service.open.set()
        expect(told).to_have_text(re.compile(r"1,024 × 1,024 pixels, drawn at once\. About 1 s and [0-9.]+ kB\."))
        expect(submit).to_be_enabled()
        service.render_milliseconds = 800.0  # of the timed piece no more: its time is known
        page.get_by_label("Pixels", exact=True).select_option("4096")
        expect(told).to_have_text(re.compile(r"4,096 × 4,096 pixels, drawn at once\. About 2 s and [0-9.]+ kB\."))

    def test_what_cannot_be_estimated_can_be_saved(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.cache = "hit"
        page = new_page()
        page.goto(service.url)
        wait_for_full(page, service)
        open_save(page, size=1024)
        expect(page.locator("#save-told")).to_contain_text("1,024 × 1,024 pixels, drawn at once. About")
        expect(page.locator("#save-submit")).to_be_enabled()


class TestOrder:
    def test_what_takes_longer_than_an_answer_may(self, new_page: Callable[..., Page], service: StandIn) -> None:
        service.request_timeout, service.render_milliseconds = 5.0, 2000.0
        page = new_page()
        page.goto(service.url)
        wait_for_full(page, service)
        told, submit = page.locator("#save-told"), page.locator("#save-submit")
        open_save(page, size=512)
        expect(told).to_contain_text("512 × 512 pixels, drawn at once.")
        expect(submit).to_have_text("Download")
        page.get_by_label("Pixels", exact=True).select_option("2048")
        expect(told).to_contain_text("drawn by a job")
        expect(submit).to_have_text("Order")
        page.get_by_label("Format").select_option("jpeg")
        expect(told).to_contain_text("2,048 × 2,048 pixels take longer than the 5 s that a download may.")
        expect(submit).to_be_disabled()
        page.get_by_label("Pixels", exact=True).select_option("512")
        expect(submit).to_be_enabled()

    def test_what_is_too_large_for_an_answer_is_ordered(self, page: Page, service: StandIn) -> None:
        page.keyboard.press("+")
        view = wait_for_full(page, service)
        open_save(page, "view", "dzi", 8192)
        expect(page.locator("#save-told")).to_contain_text("by a job")
        expect(page.locator("#save-submit")).to_have_text("Order")
        press_save(page)
        eventually(lambda: len(service.orders) == 1, page)
        (body,) = service.orders
        assert body.pop("region") == pytest.approx(view.region, abs=1e-6)
        canvas = canvas_size(page)
        width, height = (round(8192 * side / max(canvas)) for side in canvas)
        assert body == {
            "model": "landscapes",
            "seed": 0,
            "truncation_psi": 0.7,
            "width": width,
            "height": height,
            "tile": 512,
            "output": "dzi",
            "format": "jpeg",
            "quality": 90,
        }
        expect(page.locator("#save-dialog")).to_be_hidden()
        expect(page.locator("#job-list li")).to_contain_text(f"{width:,} × {height:,} Deep Zoom")

    @pytest.mark.slow
    def test_a_large_png_is_one_and_conditional_models_have_a_class(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        page = new_page()
        page.goto(f"{service.url}?model=animals&class=4")
        wait_for_full(page, service)
        open_save(page, "a-landscape", "png", 32_768)
        press_save(page)
        eventually(lambda: len(service.orders) == 1, page)
        expected = {"width": 32_768, "height": 23_170, "format": "png", "output": "png", "class_index": 4}
        assert service.orders[0].items() >= expected.items()

    @pytest.mark.slow
    def test_why_an_order_is_refused(self, page: Page, service: StandIn) -> None:
        open_save(page, image_format="tiff")
        expect(page.locator("#save-told")).to_contain_text("kB")
        service.problems = [
            (413, {}, {"title": "Too large", "detail": "2048×2048 is above the limit of 10 for one job"})
        ]
        press_save(page)
        refused = page.locator("#save-refused")
        expect(refused).to_have_text("2048×2048 is above the limit of 10 for one job.")
        page.get_by_label("Pixels", exact=True).select_option("1024")
        expect(page.locator("#save-told")).to_contain_text(re.compile("1,024 .* kB"))  # else the estimate is refused
        service.problems = [
            (429, {"Retry-After": "60"}, {"title": "Too many", "detail": "32 jobs are unfinished, which is the limit"})
        ]
        press_save(page)
        expect(refused).to_have_text("32 jobs are unfinished, which is the limit.")
        press_save(page)
        expect(page.locator("#job-list li")).to_have_count(1)
        first, second, third = service.order_keys
        assert first != second == third  # sent again it is the same order, which is never carried out twice


class TestShare:
    def test_ways_to_draw_the_same_picture_elsewhere(self, page: Page, service: StandIn) -> None:
        page.goto(f"{service.url}?model=animals&seed=5&psi=0.5&class=3&x=0.5&y=0.5&extent=0.1")
        wait_for_full(page, service)
        page.get_by_role("button", name="Share").click()
        dialog = page.get_by_role("dialog", name="Share")
        assert dialog.get_by_label("IIIF", exact=True).input_value() == (
            f"{service.url}iiif/3/animals:5:psi=0.5:class=3/info.json"
        )
        address = dialog.get_by_label("curl", exact=True).input_value().split("'")[1]
        assert page.request.get(address).headers["content-type"] == "image/png"
        asked = service.asked[-1]
        assert (asked.seed, asked.class_index, asked.psi) == (5, 3, 0.5)
        assert asked.region == pytest.approx(shown(page).region, abs=1e-6)
        assert address in dialog.get_by_label("Python", exact=True).input_value()
        script = dialog.get_by_label("JavaScript", exact=True).input_value()
        script += "\nconst { width, height } = await createImageBitmap(image);"
        script += "\nreturn [image.type, Math.max(width, height)];"
        assert page.evaluate(f"async () => {{ {script} }}") == ["image/png", 1024]
        assert address.replace("&", "&amp;") in dialog.get_by_label("HTML", exact=True).input_value()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
