"""What addresses ask: the examples of the specification, and properties that hold for all."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.errors import InputError
from service.iiif.identifier import DEFAULT_SIDE, LiveIdentifier, StoredIdentifier, parse_identifier
from service.iiif.info import info_json
from service.iiif.request import (
    BadSyntaxError,
    IIIFRequest,
    Limits,
    Region,
    ResolvedRequest,
    Rotation,
    Size,
    UnknownIdentifierError,
    UnsupportedError,
    canonical_size,
)

LIMITS = Limits(3000, 2000, 4_000_000)
SIDES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("text", "box"),
    [  # a picture of 300×200, as in section 4.1
        ("full", (0, 0, 300, 200)),
        ("square", (50, 0, 200, 200)),
        ("125,15,120,140", (125, 15, 120, 140)),
        ("pct:41.6,7.5,40,70", (125, 15, 120, 140)),
        ("125,15,200,200", (125, 15, 175, 185)),
        ("pct:41.6,7.5,66.6,100", (125, 15, 175, 185)),
        ("0,0,999999999,1", (0, 0, 300, 1)),
        ("pct:0,0,0.001,0.001", (0, 0, 1, 1)),
        ("pct:99.9,0,0.1,100", (299, 0, 1, 200)),
        ("pct:0,99.9,100,1", (0, 199, 300, 1)),
    ],
)
def test_regions(text: str, box: tuple[int, int, int, int]) -> None:
    assert Region.parse(text).resolve(300, 200) == box


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all",
        "FULL",
        "1,2,3",
        "1,2,3,4,5",
        "-1,0,5,5",
        "+1,0,5,5",
        "1.5,0,5,5",
        "0,0,0,5",
        "0,0,5,0",
        "300,0,5,5",
        "0,200,5,5",
        "pct:1,2,3",
        "pct:1,2,0,4",
        "pct:nan,0,1,1",
        "pct:inf,0,1,1",
        "pct:1e1,0,1,1",
        "pct:100,0,5,5",
        "0, 0,5,5",
        "٣,0,5,5",
        "9" * 5000 + ",0,1,1",
        "pct:" + "9" * 5000 + ",0,1,1",
    ],
)
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(BadSyntaxError):
        Region.parse(text).resolve(300, 200)


@pytest.mark.parametrize(
    ("text", "sides"),
    [  # of a region of 300×200
        ("max", (300, 200)),
        ("^max", (2449, 1632)),  # the area is the limit
        ("150,", (150, 100)),
        (",150", (225, 150)),
        ("^360,", (360, 240)),
        ("^,240", (360, 240)),
        ("225,100", (225, 100)),
        ("^360,360", (360, 360)),
        ("pct:50", (150, 100)),
        ("^pct:120", (360, 240)),
        ("!225,100", (150, 100)),
        ("^!360,360", (360, 240)),
        ("^!9000,9000", (2449, 1632)),  # as large as the limits allow
        ("pct:0.001", (1, 1)),
        ("1,", (1, 1)),
    ],
)
def test_sizes(text: str, sides: tuple[int, int]) -> None:
    assert Size.parse(text).resolve((300, 200), LIMITS) == sides


@pytest.mark.parametrize(
    "text",
    [
        "",
        "full",
        "^",
        ",",
        "!150,",
        "!,150",
        "^!",
        "150",
        "1,2,3",
        "-1,",
        "1.5,",
        "pct:",
        "pct:-1",
        "pct:1e2",
        "pct:nan",
        "!!5,5",
        "0,",
        ",0",
        "0,5",
        "5,0",
        "!0,5",
        "pct:0",
        "^0,",
        "301,",
        ",201",
        "301,1",
        "1,201",
        "pct:101",
        "!400,400",
        "^3001,1",
        "^1,2001",
        "^2500,1700",
        "^pct:1000",
        "9" * 5000 + ",",
        "^^5,",
    ],
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BadSyntaxError):
        Size.parse(text).resolve((300, 200), LIMITS)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        *[("0", "0"), ("90.0", "90"), ("360", "0"), ("!180", "!180"), ("270.", "270")],
        *[("45.50", "45.5"), ("!0.0001", "!0.0001"), ("89.99999999", "89.99999999"), ("359.9999999999", "0")],
    ],
)
def test_rotations(text: str, canonical: str) -> None:
    assert str(Rotation.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "kind"),
    [(text, BadSyntaxError) for text in ("", "!", "-90", "361", "a", "9e1", "!!0", "nan")],
)
def test_rotations_that_are_none(text: str, kind: type[InputError]) -> None:
    with pytest.raises(kind):
        Rotation.parse(text)


def test_qualities_and_formats() -> None:
    with pytest.raises(BadSyntaxError, match="quality"):
        IIIFRequest.parse("full", "max", "0", "grey", "jpg")
    with pytest.raises(BadSyntaxError, match="format"):
        IIIFRequest.parse("full", "max", "0", "default", "jpeg")
    with pytest.raises(UnsupportedError, match="format"):
        IIIFRequest.parse("full", "max", "0", "default", "tif")


def requests() -> st.SearchStrategy[tuple[str, str, str, str, str]]:
    number = st.integers(0, 6000).map(str)
    percent = st.floats(0, 120).map(lambda value: f"{value:.3f}")
    four = st.tuples(number, number, number, number).map(",".join)
    parts = st.tuples(percent, percent, percent, percent).map(lambda values: "pct:" + ",".join(values))
    region = st.one_of(st.sampled_from(("full", "square")), four, parts)
    sides = st.one_of(st.tuples(number, number), st.tuples(number, st.just("")), st.tuples(st.just(""), number))
    size = st.one_of(
        st.just("max"),
        sides.map(",".join),
        percent.map("pct:{}".format),
        st.tuples(number, number).map(lambda s: "!" + ",".join(s)),
    )
    upscaled = st.tuples(st.sampled_from(("", "^")), size).map("".join)
    rotation = st.sampled_from(("0", "90", "180.0", "!0", "!270", "360", "22.5", "!0.001"))
    quality = st.sampled_from(("default", "color", "gray", "bitonal"))
    return st.tuples(region, upscaled, rotation, quality, st.sampled_from(("jpg", "png", "webp")))


@given(request=requests(), width=SIDES, height=SIDES)
def test_whatever_is_asked_lies_in_the_image_and_its_canonical_form_asks_the_same(
    request: tuple[str, str, str, str, str], width: int, height: int
) -> None:
    try:
        resolved = IIIFRequest.parse(*request).resolve(width, height, LIMITS)
    except BadSyntaxError:
        return
    x, y, w, h = resolved.box
    assert 0 <= x < x + w <= width
    assert 0 <= y < y + h <= height
    assert min(resolved.sides) >= 1
    assert LIMITS.allow(resolved.sides)
    if not request[1].startswith("^"):
        assert resolved.sides[0] <= w
        assert resolved.sides[1] <= h
    region, size, rotation, file = resolved.canonical.split("/")
    again: ResolvedRequest = IIIFRequest.parse(region, size, rotation, *file.split(".")).resolve(width, height, LIMITS)
    assert again == resolved


@given(width=SIDES, height=SIDES, w=st.integers(1, 3000), h=st.integers(1, 2000))
def test_a_confined_size_keeps_the_aspect_and_fills_its_box(width: int, height: int, w: int, h: int) -> None:
    limits = Limits(10**6, 10**6, 10**12)
    sides = Size("confined", upscale=True, values=(w, h)).resolve((width, height), limits)
    assert sides[0] <= w
    assert sides[1] <= h
    assert w - sides[0] < 1 or h - sides[1] < 1
    scale = min(w / width, h / height)
    assert all(
        math.isclose(side, max(1, whole * scale), abs_tol=0.5001)
        for side, whole in zip(sides, (width, height), strict=True)
    )


@given(
    width=st.integers(1, 50),
    height=st.integers(1, 300_000),
    lies=st.booleans(),
    limits=st.builds(Limits, st.integers(1, 70_000), st.integers(1, 70_000), st.integers(1, 1 << 26)),
    text=st.one_of(
        st.sampled_from(("max", "^max")), st.tuples(st.integers(1, 9999), st.integers(1, 9999)).map("^!%d,%d".__mod__)
    ),
)
@example(width=1, height=300_000, lies=False, limits=Limits(100, 70_000, 100), text="max")
@example(width=1, height=300_000, lies=True, limits=Limits(70_000, 100, 100), text="^!9999,9999")
def test_what_adapts_to_the_limits_never_exceeds_them(
    width: int, height: int, lies: bool, limits: Limits, text: str
) -> None:
    region = (height, width) if lies else (width, height)
    sides = Size.parse(text).resolve(region, limits)  # which raises for what the limits do not hold
    assert Size.parse(canonical_size(sides, region, limits)).resolve(region, limits) == sides


def test_identifiers() -> None:
    assert parse_identifier("demo:7") == LiveIdentifier("demo", 7)
    assert parse_identifier("demo:7:size=100:psi=-0.5:class=3:cutoff=2") == LiveIdentifier("demo", 7, -0.5, 2, "3", 100)
    assert parse_identifier(f"job:{'a1' * 16}") == StoredIdentifier("a1" * 16)
    assert parse_identifier("demo:4294967295").side == DEFAULT_SIDE  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "demo",
        "demo:",
        ":7",
        "demo:-1",
        "demo:4294967296",
        "demo:7:",
        "demo:7:psi",
        "demo:7:psi=",
        "demo:7:psi=nan",
        "demo:7:psi=1e0",
        "demo:7:size=0",
        "demo:7:size=262145",
        "demo:7:size=1:size=1",
        "demo:7:colour=1",
        "demo:" + "9" * 5000,
        "demo:٣",
    ],
)
def test_identifiers_that_name_nothing(text: str) -> None:
    with pytest.raises(UnknownIdentifierError):
        parse_identifier(text)


@given(width=SIDES, height=SIDES, tile=st.sampled_from((64, 256, 512)))
def test_what_info_promises_can_be_asked(width: int, height: int, tile: int) -> None:
    document = info_json("http://host/iiif/3/a", width, height, tile, LIMITS)
    for size in document["sizes"]:
        asked = IIIFRequest.parse("full", f"{size['width']},{size['height']}", "0", "default", "jpg")
        assert asked.resolve(width, height, LIMITS).sides == (size["width"], size["height"])
    largest = tile * document["tiles"][0]["scaleFactors"][-1]
    assert largest >= max(width, height)
    IIIFRequest.parse("full", "max", "0", "default", "jpg").resolve(width, height, LIMITS)
