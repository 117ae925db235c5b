"""The page in windows of all kinds: nothing covers anything, and axe-core has nothing to say."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.service.web.canvas import box, eventually, is_settled, wait_for_full
from tests.service.web.npm import npm_file
from tests.service.web.stand_in import StandIn, new_job
from tests.service.web.test_jobs import ORDER
from tests.service.web.test_latents import DIRECTIONS, searching

AXE_VERSION = "4.14.1"
WINDOWS = [(1440, 900), (1000, 640), (844, 390), (390, 844), (320, 568)]
PANELS = ["Picture", "Latent", "Shape", "Film", "Jobs", "Gallery"]
PARTS = ["#bar", "#stage", "#tools", "#dock"]


@pytest.fixture(scope="module")
def axe(pytestconfig: pytest.Config) -> Path:
    return npm_file(pytestconfig, "axe-core", AXE_VERSION, "axe.min.js")


def findings(page: Page, axe: Path) -> list[str]:
    """What axe-core finds, of all its rules but the experimental ones."""
    page.evaluate(axe.read_text())
    script = """async () => {
        const { violations } = await axe.run();
        return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
            `${id}: ${target} ${failureSummary}`));
    }"""
    found: list[str] = page.evaluate(script)
    return found


def check_layout(page: Page, width: int, height: int) -> None:
    boxes = {part: box(page, part) for part in PARTS if page.locator(part).is_visible()}
    for name, each in boxes.items():
        assert each["x"] >= 0, name
        assert each["x"] + each["width"] <= width + 0.5, name
        assert each["y"] + each["height"] <= height + 0.5, name
    for (name, a), (other, b) in combinations(boxes.items(), 2):
        across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
        down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
        assert min(across, down) < 0.5, f"{name} covers {other}"
    for button in page.locator("#bar button:visible, #tools button:visible, [role=tab]:visible").all():
        place = button.bounding_box()
        assert place is not None
        assert min(place["width"], place["height"]) >= 24
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width + 0.5
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("width", "height"), [pytest.param(*size, marks=() if size[0] == 390 else pytest.mark.slow) for size in WINDOWS]
)
def test_nothing_covers_anything(new_page: Callable[..., Page], service: StandIn, width: int, height: int) -> None:
    service.directions = DIRECTIONS
    page = new_page(viewport={"width": width, "height": height}, has_touch=width < 900)
    page.goto(service.url)
    wait_for_full(page, service)
    check_layout(page, width, height)
    for name in PANELS:
        if not page.get_by_role("tab", name=name).is_visible():
            page.get_by_role("button", name="Panels").click()
        page.get_by_role("tab", name=name).click()
        if not page.get_by_role("tabpanel").is_visible():
            page.get_by_role("tab", name=name).click()
        expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        check_layout(page, width, height)
        assert box(page, "#stage")["height"] > 120
    page.locator("#canvas").focus()
    page.keyboard.press("h")
    expect(page.get_by_role("tabpanel")).to_be_hidden()
    eventually(lambda: is_settled(page), page)  # the canvas is larger now
    fail_pictures(service)
    page.get_by_role("button", name="Next seed").click()
    expect(page.locator("#notice")).to_be_visible()
    service.problems = []
    stage, notice = box(page, "#stage"), box(page, "#notice")
    assert stage["y"] <= notice["y"]
    assert notice["y"] + notice["height"] <= stage["y"] + stage["height"]
    for name in ("Save", "Share", "Help"):
        page.get_by_role("button", name=name, exact=True).click()
        place = page.get_by_role("dialog").bounding_box()
        assert place is not None
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width
        assert place["y"] + place["height"] <= height
        page.keyboard.press("Escape")


def fail_pictures(service: StandIn) -> None:
    """Enough problems for the next view: what is fetched ahead while the page is idle takes some, and tells nobody."""
    service.problems = [(504, {}, {"title": "Timed out", "detail": "The picture was not drawn in 60 s"})] * 9


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing(new_page: Callable[..., Page], service: StandIn, axe: Path, scheme: str) -> None:
    service.jobs = [
        new_job(1, ORDER),
        {**new_job(2, ORDER), "state": "succeeded"},
        {**new_job(3, ORDER), "state": "failed", "error": "no space left"},
    ]
    service.directions = DIRECTIONS
    page = new_page(color_scheme=scheme)
    page.goto(f"{service.url}?model=animals&class=2&x=0.5&y=0.5&extent=0.2")
    wait_for_full(page, service)
    page.get_by_label("Show the numbers").check()
    page.get_by_role("button", name="Favourite").click()
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Latent").click()
    expect(page.get_by_role("slider", name="sefa:0")).to_be_visible()
    page.get_by_role("slider", name="sefa:0").fill("1.5")
    expect(page.locator("output", has_text="1.50")).to_be_visible()
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.locator("#stored")).to_be_visible()
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Gallery").click()
    page.locator("#favourites").get_by_role("button", name="Compare").click()
    page.locator("#compare canvas[aria-busy=false]").wait_for()
    eventually(lambda: is_settled(page), page)
    fail_pictures(service)
    page.get_by_role("button", name="Next seed").click()
    expect(page.locator("#notice")).to_be_visible()
    service.problems = []
    assert findings(page, axe) == []
    for name in ("Save", "Share", "Help"):
        page.get_by_role("button", name=name, exact=True).click()
        assert findings(page, axe) == [], name
        page.keyboard.press("Escape")


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.slow)])
def test_axe_finds_nothing_in_what_changes_the_picture(
    new_page: Callable[..., Page], service: StandIn, axe: Path, scheme: str, tmp_path: Path
) -> None:
    service.projection = [searching(f"lat_{'1' * 32}")]
    order = {**ORDER, "output": "mp4", "keyframes": [{"time": 4}], "fps": 30}
    service.jobs = [{**new_job(1, order), "state": "succeeded"}]
    service.models[1] = {**service.models[1], "class_names": ["cat", "dog"]}
    page = new_page(color_scheme=scheme)
    page.goto(f"{service.url}?model=animals&rotate=30&bend=cylinder&wrap=x&film=seed%3D1~seed%3D2%26rotate%3D40")
    wait_for_full(page, service)
    page.get_by_role("button", name="Choose among seeds").click()
    expect(page.locator("#sheet canvas.empty")).to_have_count(0)
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Shape").click()
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Film").click()
    expect(page.locator("#keys canvas.empty")).to_have_count(0)
    page.get_by_role("button", name="Play").click()
    page.locator("#keys li[aria-current]").wait_for()
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Latent").click()
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG")
    page.get_by_label("Open a picture or latent").set_input_files(file)
    expect(page.get_by_text("step 40 of 200")).to_be_visible()
    assert findings(page, axe) == []
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_role("button", name="Watch").click()
    expect(page.get_by_role("dialog")).to_contain_text("Download it instead.")
    assert findings(page, axe) == []


@pytest.mark.slow
def test_axe_finds_nothing_on_a_phone_or_before_the_first_picture(
    new_page: Callable[..., Page], service: StandIn, axe: Path
) -> None:
    service.key, service.ready = "sesame", False
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(service.url)
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    assert findings(page, axe) == []
    page.fill("#key", "sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#notice-text")).to_have_text("Waiting for a worker …")
    assert findings(page, axe) == []
    service.ready = True
    wait_for_full(page, service)
    page.get_by_role("tab", name="Picture").tap()
    assert findings(page, axe) == []


def test_every_control_is_reached_by_the_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 700})
    page.locator("#share").focus()
    reached = list[str]()
    for _ in range(60):
        name = page.evaluate("document.activeElement.id || document.activeElement.tagName")
        if name in reached or name == "BODY":
            break
        reached.append(name)
        page.keyboard.press("Tab")
    wanted = ["share", "save", "help", "panels", "canvas", "zoom-out", "whole", "zoom-in", "previous", "seed", "next"]
    wanted += ["random", "favourite", "full-screen", "tab-picture", "psi", "psi-slider", "model", "dim", "show-numbers"]
    assert [name for name in reached if name in wanted] == wanted
    page.keyboard.press("?")
    expect(page.get_by_role("button", name="Close")).to_be_focused()
    expect(page.get_by_role("button", name="Close")).to_be_in_viewport()
    page.keyboard.press("Escape")
    page.locator("#tab-picture").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tabpanel", name="Latent")).to_be_visible()
    expect(page.get_by_text("This model has no directions of its own.")).to_be_visible()
    expect(page.locator("#tab-latents")).to_be_focused()
