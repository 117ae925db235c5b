"""Which picture is shown: its settings, its address, and the steps back."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import eventually, link, shown, shows, wait_for_full, wheel
from tests.service.web.stand_in import StandIn, new_job
from tests.service.web.test_jobs import ORDER
from tests.service.web.test_view import middle


def seed_field(page: Page) -> str:
    return page.get_by_role("spinbutton", name="Seed").input_value()


class TestImage:
    def test_seed(self, page: Page, service: StandIn) -> None:
        page.get_by_role("spinbutton", name="Seed").fill("7")
        assert wait_for_full(page, service).seed == 7
        expect(page).to_have_title("landscapes · seed 7 · ψ 0.70 – CREPS Explorer")
        page.get_by_role("button", name="Next seed").click()
        assert wait_for_full(page, service).seed == 8
        for _ in range(9):
            page.get_by_role("button", name="Previous seed").click()
        assert wait_for_full(page, service).seed == 2**32 - 1
        page.locator("#canvas").focus()
        page.keyboard.press("r")
        assert wait_for_full(page, service).seed not in (0, 2**32 - 1)

    @pytest.mark.slow
    def test_a_seed_that_is_none_is_never_asked_for(self, page: Page, service: StandIn) -> None:
        field = page.get_by_role("spinbutton", name="Seed")
        for nonsense in ("-3", "4294967296", "1.5", ""):
            field.fill(nonsense)
        field.press("Tab")
        expect(field).to_have_value("0")
        expect(page.locator("#notice")).to_be_hidden()  # an empty field asks for nothing
        for nonsense, told in (("5000000000", ", not “5000000000”."), ("1.5", ", not “1.5”.")):
            field.fill(nonsense)
            field.press("Tab")
            expect(page.locator("#notice-text")).to_contain_text(f"whole number from 0 to 4,294,967,295{told}")
        assert {asked.seed for asked in service.asked} == {0}

    def test_truncation(self, page: Page, service: StandIn) -> None:
        slider, number = page.get_by_role("slider", name="Variety"), page.get_by_role("spinbutton", name="Variety")
        slider.fill("-0.25")
        assert wait_for_full(page, service).psi == -0.25
        expect(number).to_have_value("-0.25")
        number.fill("1.9")  # more than the slider has
        assert wait_for_full(page, service).psi == 1.9
        number.press("Control+a")
        page.keyboard.type("-0.50")  # what is typed stays as it is while it is typed
        assert wait_for_full(page, service).psi == -0.5
        expect(number).to_have_value("-0.50")
        number.press("Control+a")
        page.keyboard.type("3")
        expect(number).to_have_attribute("aria-invalid", "true")
        number.press("Tab")
        expect(number).to_have_value("-0.5")
        expect(number).to_have_attribute("aria-invalid", "false")
        expect(page.locator("#notice-text")).to_have_text("The variety ψ must be from −2 to 2, not “3”.")
        page.get_by_role("button", name="OK").click()
        expect(number).to_be_focused()
        service.open.clear()
        page.get_by_role("button", name="Next seed").click()
        number.fill("3")
        number.press("Tab")
        service.open.set()
        assert wait_for_full(page, service).seed == 1
        expect(page.locator("#notice-text")).to_contain_text("not “3”")  # although a picture has arrived
        page.get_by_role("button", name="Previous seed").click()
        slider.dblclick()
        expect(number).to_have_value("0.7")
        slider.focus()
        page.keyboard.press("n")  # the slider keeps only its own keys
        assert wait_for_full(page, service).seed == 1
        number.focus()
        page.keyboard.press("n")  # and a number only those that write it
        assert wait_for_full(page, service).seed == 2
        page.keyboard.press("Control+z")
        eventually(lambda: shown(page).seed == 1, page)

    @pytest.mark.slow
    def test_model_and_class(self, page: Page, service: StandIn) -> None:
        expect(page.get_by_label("Class", exact=True)).to_be_hidden()
        page.get_by_label("Model").select_option("animals")
        found = wait_for_full(page, service)
        assert (found.model, found.class_index) == ("animals", 0)
        page.get_by_label("Class", exact=True).fill("9")
        assert wait_for_full(page, service).class_index == 9
        page.get_by_label("Class", exact=True).fill("10")
        page.get_by_label("Class", exact=True).press("Tab")
        expect(page.get_by_label("Class", exact=True)).to_have_value("9")
        page.get_by_label("Model").select_option("landscapes")
        assert wait_for_full(page, service).class_index is None
        assert {asked.class_index for asked in service.asked if asked.model == "animals"} == {0, 9}

    @pytest.mark.slow
    def test_keys_of_a_field_do_not_move_the_view(self, page: Page, service: StandIn) -> None:
        page.get_by_role("spinbutton", name="Seed").click()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("0")
        found = wait_for_full(page, service)
        assert found.seed != 0
        assert "extent" not in link(page)


class TestSteps:
    def test_back_and_undo_take_each_seed_model_and_settled_view_back(self, page: Page, service: StandIn) -> None:
        whole = shown(page)
        page.get_by_role("button", name="Next seed").click()
        wait_for_full(page, service)
        wheel(page, *middle(page), -400)
        closer = wait_for_full(page, service)
        page.get_by_label("Model").select_option("animals")
        wait_for_full(page, service)
        page.go_back()
        eventually(lambda: shown(page) == closer and shows(page, closer), page)
        expect(page.get_by_label("Model")).to_have_value("landscapes")
        page.locator("#canvas").focus()
        page.keyboard.press("Control+z")
        eventually(lambda: shown(page).seed == 1 and shown(page).region == whole.region, page)
        page.keyboard.press("Control+z")
        eventually(lambda: shown(page) == whole and shows(page, whole), page)
        assert seed_field(page) == "0"
        page.keyboard.press("Control+z")  # there is nothing before
        page.keyboard.press("Control+Shift+Z")
        eventually(lambda: shown(page).seed == 1 and seed_field(page) == "1", page)


class TestLink:
    def test_the_page_begins_with_the_demo_where_it_is_served(
        self, new_page: Callable[..., Page], service: StandIn
    ) -> None:
        service.models = [*service.models, {**service.models[0], "name": "demo", "digest": "d" * 64}]
        page = new_page()
        page.goto(service.url)
        assert wait_for_full(page, service).model == "demo"

    def test_reopens_the_same_view(self, page: Page, new_page: Callable[..., Page], service: StandIn) -> None:
        page.get_by_label("Model").select_option("animals")
        page.get_by_label("Class", exact=True).fill("3")
        page.get_by_role("spinbutton", name="Seed").fill("123456")
        page.get_by_role("slider", name="Variety").fill("0.9")
        for _ in range(5):
            wheel(page, *middle(page), -600)
        first = wait_for_full(page, service)
        assert first.extents[1] < 0.1
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Share").click()
        page.get_by_role("button", name="Copy: Link").click()
        expect(page.get_by_role("button", name="Copy: Link")).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.url

        again = new_page()
        again.goto(copied)
        second = wait_for_full(again, service)
        assert (second.model, second.seed, second.psi, second.class_index) == ("animals", 123456, 0.9, 3)
        pixel_side = first.extents[1] / first.height
        assert second.region == pytest.approx(first.region, rel=0, abs=0.01 * pixel_side)

    @pytest.mark.slow
    def test_links_of_earlier_versions_are_followed(self, page: Page, service: StandIn) -> None:
        page.goto(f"{service.url}#seed=5&x=0.25&y=0.25&extent=0.1")
        found = wait_for_full(page, service)
        assert found.seed == 5
        assert found.extents[1] == pytest.approx(0.1, rel=0.05)
        expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("5")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "query",
        ["%%%&&==?", "seed=&psi=&x=&y=&extent=", "x=Infinity&y=abc&extent=-1e999"],
    )
    def test_what_a_link_leaves_out_has_defaults(
        self, new_page: Callable[..., Page], service: StandIn, query: str
    ) -> None:
        page = new_page()
        page.goto(f"{service.url}?{query}")
        found = wait_for_full(page, service)
        assert (found.model, found.seed, found.psi, found.class_index) == ("landscapes", 0, 0.7, None)

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ("model=unicorns&seed=4", "the model “unicorns” is not served here"),
            pytest.param("seed=4&psi=7", "the variety ψ must be from −2 to 2, not “7”", marks=pytest.mark.slow),
            pytest.param(
                "model=animals&class=99&seed=4",
                "the class must be a whole number from 0 to 9, not “99”",
                marks=pytest.mark.slow,
            ),
            pytest.param("seed=abc", "from 0 to 4,294,967,295, not “abc”.", marks=pytest.mark.slow),
            pytest.param(f"seed=4&job={2:032x}", "its stored picture has been removed", marks=pytest.mark.slow),
        ],
    )
    def test_a_dead_link_says_so_and_shows_another_picture_only_if_asked(
        self, new_page: Callable[..., Page], service: StandIn, query: str, told: str
    ) -> None:
        service.jobs = [new_job(1, ORDER)]
        page = new_page()
        page.goto(f"{service.url}?{query}")
        expect(page.locator("#notice-text")).to_contain_text(told)
        page.wait_for_timeout(300)
        assert service.asked == []
        for name in ("Save", "Share"):  # there is nothing yet
            expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
        page.locator("#notice-action").click()
        found = wait_for_full(page, service)
        assert found.seed == (0 if "abc" in query else 4)
        assert -2 <= found.psi <= 2
        expect(page.locator("#notice")).to_be_hidden()
        for name in ("Save", "Share"):
            expect(page.get_by_role("button", name=name, exact=True)).to_be_enabled()
