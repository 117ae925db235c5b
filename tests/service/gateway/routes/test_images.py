"""Images over HTTP: a request reaches the queue as one resolved spec, and its image comes back with headers."""

import io
import json
from typing import Any

import pytest
from PIL import Image

from model.config import GeneratorConfig
from model.geometry.wrap import Wrap
from model.latents.latent import MAX_SEED
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway


def test_get_and_post_of_the_same_image_are_one_spec(gateway: RunningGateway) -> None:
    got = gateway.image(
        "kinds/7.webp",
        width=300,
        height=200,
        psi=0.5,
        cutoff=4,
        region="0.25,-.5,1,1.5e0",
        crop="10,20,30,40",
        grid="corners",
        quality=70,
        **{"class": 2},
    )
    posted = gateway.post(
        model=gateway.checkpoints["kinds"].digest,
        seed=7,
        format="webp",
        width=300,
        height=200,
        truncation_psi=0.5,
        truncation_cutoff=4,
        class_index=2,
        region=[0.25, -0.5, 1, 1.5],
        crop=[10, 20, 30, 40],
        grid="corners",
        quality=70,
    )
    assert got.status_code == posted.status_code == 200
    first, second = gateway.queue.asked
    assert first == second
    assert got.headers["ETag"] == posted.headers["ETag"]
    assert (first.latent.seed, first.latent.psi, first.latent.cutoff, first.latent.class_index) == (7, 0.5, 4, 2)
    assert first.viewport.region == (0.25, -0.5, 1.0, 1.5)
    assert first.viewport.crop == (10, 20, 30, 40)
    assert (first.encoding.format, first.encoding.quality) == ("webp", 70)
    assert first.model == gateway.checkpoints["kinds"].digest
    assert got.content == posted.content
    assert Image.open(io.BytesIO(got.content)).size == (30, 40)


def test_transforms_in_bodies_and_addresses(gateway: RunningGateway) -> None:
    transform = [{"rotate": 30}, {"lens": {"k1": 0.1}}]
    posted = gateway.post(model="plain", seed=7, width=48, transform=transform, outside="mirror")
    got = gateway.image("plain/7.png", width=48, transform=json.dumps(transform), outside="mirror")
    plain = gateway.image("plain/7.png", width=48)
    assert posted.status_code == got.status_code == 200
    first, second, _ = gateway.queue.asked
    assert first == second
    assert [each.to_json() for each in first.viewport.transform] == [{"rotate": 30}, {"lens": {"k1": 0.1, "k2": 0}}]
    assert first.viewport.outside == "mirror"
    assert got.headers["ETag"] == posted.headers["ETag"] != plain.headers["ETag"]


def test_seamless_images(gateway: RunningGateway) -> None:
    posted = gateway.post(model="plain", seed=7, width=48, wrap="xy", wrap_blend=0.5)
    got = gateway.image("plain/7.png", width=48, wrap="xy", wrap_blend=0.5)
    assert posted.headers["ETag"] == got.headers["ETag"]
    assert gateway.queue.asked[0].viewport.wrap == Wrap("xy", blend=0.5)
    tile = gateway.http.get("/iiif/3/plain:7:wrap=x/0,0,512,512/64,/0/default.png")
    assert tile.status_code == 200
    assert gateway.queue.asked[-1].viewport.wrap == Wrap("x")
    assert gateway.http.get("/iiif/3/plain:7:wrap=z/info.json").status_code == 404


def test_a_transform_that_only_scales_is_a_region(gateway: RunningGateway) -> None:
    scaled = gateway.post(model="plain", seed=7, width=48, transform=[{"scale": 2}])
    region = gateway.post(model="plain", seed=7, width=48, region=[0.25, 0.25, 0.75, 0.75])
    assert scaled.headers["ETag"] == region.headers["ETag"]


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_headers_of_an_image(gateway: RunningGateway, image_format: str) -> None:
    response = gateway.image(f"plain/5.{image_format}", width=48)
    assert response.headers["Content-Type"] == f"image/{image_format}"
    assert response.headers["Content-Length"] == str(len(response.content))
    assert response.headers["Content-Disposition"] == f'inline; filename="plain-5-48x48.{image_format}"'
    assert response.headers["X-Creps-Seed"] == "5"
    assert response.headers["X-Creps-Digest"] == gateway.checkpoints["plain"].digest
    assert response.headers["Server-Timing"] == "queue;dur=1.00, render;dur=12.50, encode;dur=2.00"
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.size) == (image_format.upper(), (48, 48))


@pytest.mark.parametrize(
    ("asked", "size"),
    [({}, (32, 32)), ({"width": 50}, (50, 50)), ({"height": 60}, (60, 60)), ({"width": 50, "height": 60}, (50, 60))],
)
def test_size_defaults(gateway: RunningGateway, asked: dict[str, int], size: tuple[int, int]) -> None:
    assert gateway.post(model="plain", **asked).status_code == 200
    viewport = gateway.queue.asked[0].viewport
    assert (viewport.width, viewport.height) == size


def test_a_seed_is_drawn_and_told(gateway: RunningGateway) -> None:
    told = {gateway.post(model="plain").headers["X-Creps-Seed"] for _ in range(3)}
    assert told == {str(spec.latent.seed) for spec in gateway.queue.asked}
    assert len(told) == 3
    assert all(0 <= int(seed) <= MAX_SEED for seed in told)


def test_quality_does_not_tell_png_images_apart(gateway: RunningGateway) -> None:
    tags = {gateway.image("plain/1.png", quality=quality).headers["ETag"] for quality in (10, 90)}
    assert len(tags) == 1
    tags = {gateway.image("plain/1.jpeg", quality=quality).headers["ETag"] for quality in (10, 90)}
    assert len(tags) == 2


class TestDefaultModel:
    def test_the_only_one(self, gateway: RunningGateway) -> None:
        (gateway.models / "kinds.safetensors").unlink()
        assert gateway.post().headers["X-Creps-Digest"] == gateway.checkpoints["plain"].digest

    def test_demo(self, gateway: RunningGateway) -> None:
        demo = save_hollow_checkpoint(gateway.models, "demo", GeneratorConfig(16))
        assert gateway.post().headers["X-Creps-Digest"] == demo.digest

    def test_several_without_demo(self, gateway: RunningGateway) -> None:
        problem = gateway.post()
        assert problem.status_code == 422
        assert problem.json()["field"] == "model"
        assert "kinds, plain" in problem.json()["detail"]

    def test_none(self, gateway: RunningGateway) -> None:
        for file in gateway.models.iterdir():
            file.unlink()
        response = gateway.post()
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"transform": {"rotate": 30}}, "transform"),
    ({"transform": [{"rotate": "30"}]}, "transform"),
    ({"transform": [{"matrix": [1, 2, 0, 2, 4, 0]}]}, "transform"),
    ({"transform": [{"scale": 1024}] * 8}, "transform"),
    ({"outside": "repeat"}, "outside"),
    ({"wrap": "z"}, "wrap"),
    ({"wrap": "x", "wrap_blend": 0}, "wrap_blend"),
    ({"wrap": "x", "wrap_mode": "fade"}, "wrap_mode"),
    ({"width": 0}, "width"),
    ({"width": -5}, "width"),
    ({"width": 262145}, "width"),
    ({"width": "12"}, "width"),
    ({"width": 12.5}, "width"),
    ({"width": True}, "width"),
    ({"height": [1]}, "height"),
    ({"seed": -1}, "seed"),
    ({"seed": MAX_SEED + 1}, "seed"),
    ({"seed": 10**400}, "seed"),
    ({"seed": "1"}, "seed"),
    ({"truncation_psi": 2.5}, "truncation_psi"),
    ({"truncation_psi": "0.5"}, "truncation_psi"),
    ({"truncation_psi": False}, "truncation_psi"),
    ({"truncation_psi": 10**400}, "truncation_psi"),
    ({"truncation_cutoff": 12}, "truncation_cutoff"),
    ({"truncation_cutoff": -1}, "truncation_cutoff"),
    ({"cutoff": 12}, "cutoff"),
    ({"class_index": 0}, "class_index"),
    ({"class_index": "dog"}, "class_index"),
    ({"class_index": -1}, "class_index"),
    ({"class_index": 100_000}, "class_index"),
    ({"class_index": 1.5}, "class_index"),
    ({"class_index": True}, "class_index"),
    ({"class_index": ""}, "class_index"),
    ({"class_index": "\ud800"}, "class_index"),
    ({"class_index": "a" * 101}, "class_index"),
    ({"region": [0, 0, 1]}, "region[3]"),
    ({"region": [0, 0, 0, 1]}, "region"),
    ({"region": [0, 0, 1, 2.5]}, "region[3]"),
    ({"region": "0,0,1,1"}, "region"),
    ({"region": [0, 0, 1, "1"]}, "region[3]"),
    ({"crop": [0, 0, 0, 1]}, "crop[2]"),
    ({"crop": [0, 0, 33, 1]}, "crop"),
    ({"crop": [-1, 0, 1, 1]}, "crop[0]"),
    ({"crop": [0, 0, 1.5, 1]}, "crop[2]"),
    ({"grid": "edges"}, "grid"),
    ({"format": "gif"}, "format"),
    ({"quality": 0}, "quality"),
    ({"quality": 101}, "quality"),
    ({"model": "\ud800"}, "model"),
    ({"model": 1}, "model"),
    ({"sede": 1}, "sede"),
    ({"psi": 2.5}, "psi"),
    ({"psi": 0.5, "truncation_psi": 0.5}, "psi"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
def test_bad_bodies_name_the_field(gateway: RunningGateway, body: dict[str, Any], field: str) -> None:
    response = gateway.post(**{"model": "plain", **body})
    problem = response.json()
    assert response.status_code == problem["status"] == 422, problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["field"] == field
    assert problem["detail"].startswith(f"{field}: ")
    assert problem["errors"][0]["field"] == field
    assert not gateway.queue.asked


def test_classes_are_chosen_by_name_or_number(gateway: RunningGateway) -> None:
    for choice in (2, "2", "dog"):
        assert gateway.post(model="kinds", class_index=choice).status_code == 200
        assert gateway.http.get(f"/v1/images/kinds/1.png?class={choice}").status_code == 200
        assert gateway.http.get(f"/iiif/3/kinds:1:class={choice}/info.json").status_code == 200
    assert {spec.latent.class_index for spec in gateway.queue.asked} == {2}
    assert gateway.post(model="kinds").json()["detail"] == "class_index: this model needs a class ape, cat, dog"
    detail = gateway.http.get("/v1/images/kinds/1.png?class=cow").json()["detail"]
    assert detail == "class: this model needs a class ape, cat, dog, not cow"
    models = gateway.http.get("/v1/models").json()["models"]
    assert [(model["classes"], model["class_names"]) for model in models] == [(3, ["ape", "cat", "dog"]), (0, [])]


def test_short_and_long_names_are_the_same(gateway: RunningGateway) -> None:
    short: dict[str, str | float] = {"psi": 0.5, "cutoff": 3, "class": "dog"}
    long: dict[str, str | float] = {"truncation_psi": 0.5, "truncation_cutoff": 3, "class_index": "dog"}
    for names in (short, long):
        assert gateway.post(model="kinds", seed=1, **names).status_code == 200
        assert gateway.http.get("/v1/images/kinds/1.png", params=names).status_code == 200
    assert len({spec.latent for spec in gateway.queue.asked}) == 1
    assert gateway.queue.asked[0].latent.psi == 0.5


@pytest.mark.parametrize(
    ("name", "meant"), [("truncaton_psi", "truncation_psi"), ("Psi", "psi"), ("colour", None), ("classs", "class")]
)
def test_an_unknown_name_is_answered_by_the_one_that_is_meant(
    gateway: RunningGateway, name: str, meant: str | None
) -> None:
    expected = f"{name}: is unknown" + (f"; did you mean {meant}?" if meant else "")
    assert gateway.post(model="plain", **{name: 1}).json()["detail"] == expected
    assert gateway.http.get("/v1/images/plain/1.png", params={name: 1}).json()["detail"] == expected


@pytest.mark.parametrize("path", ["/v1/images", "/v1/jobs"])
@pytest.mark.parametrize("model", ["absent", "../plain"])
def test_unknown_model_in_a_body(gateway: RunningGateway, path: str, model: str) -> None:
    response = gateway.http.post(
        path, content=json.dumps({"model": model, "width": 64}), headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["field"]) == (404, "model")
    assert "kinds, plain" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/images", "/v1/jobs"])
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_bodies_of_another_type(gateway: RunningGateway, path: str, media_type: str) -> None:
    response = gateway.http.post(path, content=b"{}", headers={"Content-Type": media_type})
    assert (response.status_code, response.headers["Accept"]) == (415, "application/json")
    assert media_type in response.json()["detail"]
    accepted = gateway.http.post("/v1/images", content=b"{}", headers={"Content-Type": "application/json; charset=x"})
    assert accepted.status_code == 422  # two models are served, and none is named


def test_a_field_name_that_is_no_text(gateway: RunningGateway) -> None:
    response = gateway.post(**{"\udfff": 1})
    assert response.status_code == 422
    assert not gateway.queue.asked


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(gateway: RunningGateway, number: str) -> None:
    response = gateway.http.post(
        "/v1/images", content=f'{{"truncation_psi": {number}}}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert response.json()["field"] == "truncation_psi"


def test_every_mistake_is_listed(gateway: RunningGateway) -> None:
    errors = gateway.post(width=0, seed=-1, colour="red").json()["errors"]
    assert {error["field"] for error in errors} == {"width", "seed", "colour"}


BAD_ADDRESSES: list[tuple[str, str]] = [
    ("plain/1.gif", "format"),
    ("plain/-1.png", "seed"),
    ("plain/1.5.png", "seed"),
    ("plain/4294967296.png", "seed"),
    ("plain/1.png?width=0", "width"),
    ("plain/1.png?width=", "width"),
    ("plain/1.png?width=ten", "width"),
    ("plain/1.png?psi=nan", "psi"),
    ("plain/lat_abc.png", "seed"),
    ("plain/1.png?psi=inf", "psi"),
    ("plain/1.png?psi=3", "psi"),
    ("plain/1.png?cutoff=12", "cutoff"),
    ("plain/1.png?truncation_cutoff=12", "truncation_cutoff"),
    ("plain/1.png?class=0", "class"),
    ("kinds/1.png", "class"),
    ("kinds/1.png?class=3", "class"),
    ("kinds/1.png?class=cow", "class"),
    ("plain/1.png?region=0,0,1", "region"),
    ("plain/1.png?region=0,0,1,nan", "region"),
    ("plain/1.png?region=0,0,1,5", "region"),
    ("plain/1.png?region=1,0,0,1", "region"),
    ("plain/1.png?crop=0,0,1", "crop"),
    ("plain/1.png?crop=0,0,40,40", "crop"),
    ("plain/1.png?crop=0,0,1,9999999", "crop"),
    ("plain/1.png?grid=edges", "grid"),
    ("plain/1.jpeg?quality=101", "quality"),
    ("plain/1.png?truncation_psi=3", "truncation_psi"),
    ("plain/1.png?truncation_psi=1&psi=1", "truncation_psi"),
    ("plain/1.png?sede=1", "sede"),
]


@pytest.mark.parametrize(("path", "field"), BAD_ADDRESSES)
def test_bad_addresses_name_the_parameter(gateway: RunningGateway, path: str, field: str) -> None:
    response = gateway.http.get(f"/v1/images/{path}")
    problem = response.json()
    assert response.status_code == 422, problem
    assert problem["field"] == field
    assert problem["detail"].startswith(f"{field}: ")
    assert not gateway.queue.asked


@pytest.mark.parametrize("model", ["absent", "..%2Fplain", "a" * 100, "%00", "0" * 64])
def test_unknown_model_in_an_address(gateway: RunningGateway, model: str) -> None:
    response = gateway.http.get(f"/v1/images/{model}/1.png")
    assert response.status_code == 404
    if "%2F" not in model:  # which is an address of one more part, where there is nothing
        assert response.json()["field"] == "model"
        assert "kinds, plain" in response.json()["detail"]


class TestLimits:
    def test_pixels(self, gateway: RunningGateway) -> None:
        assert gateway.post(model="plain", width=1000, height=1000).status_code == 200
        response = gateway.post(model="plain", width=1001, height=1000)
        assert response.status_code == 413
        assert "1000000" in response.json()["detail"]
        assert "POST /v1/jobs" in response.json()["detail"]

    def test_pixels_of_the_crop_count(self, gateway: RunningGateway) -> None:
        assert gateway.post(model="plain", width=262_144, crop=[5, 5, 1000, 1000]).status_code == 200
        assert gateway.post(model="plain", width=262_144, crop=[5, 5, 1000, 1001]).status_code == 413

    def test_pixels_rendered_for_averaging_count(self, gateway: RunningGateway) -> None:
        save_hollow_checkpoint(gateway.models, "large", GeneratorConfig(1024))
        assert gateway.post(model="large", width=512, region=[0.25, 0.25, 0.75, 0.75]).status_code == 200
        response = gateway.post(model="large", width=512)  # 2 × 2 samples to a pixel
        assert response.status_code == 413
        assert "1024×1024" in response.json()["detail"]

    def test_samples_of_transformed_images_count(self, gateway: RunningGateway) -> None:
        transform: list[dict[str, Any]] = [{"rotate": 30}]
        assert gateway.post(model="plain", width=1000, height=1000, transform=transform).status_code == 200
        response = gateway.post(model="plain", width=200, transform=[*transform, {"scale": 0.002}])  # 8 × 8 to a pixel
        assert response.status_code == 413
        assert response.json()["field"] == "transform"
        assert "2560000 samples" in response.json()["detail"]

    @pytest.mark.parametrize(("image_format", "largest"), [("jpeg", 65_500), ("webp", 16_382)])
    def test_sides_of_a_format(self, gateway: RunningGateway, image_format: str, largest: int) -> None:
        for field, crop in (("width", [0, 0, largest + 1, 1]), ("height", [0, 0, 1, largest + 1])):
            response = gateway.post(model="plain", width=100_000, crop=crop, format=image_format)
            assert response.status_code == 422
            assert response.json()["field"] == field
            assert str(largest) in response.json()["detail"]

    def test_rows_and_columns_together_count(self, gateway: RunningGateway) -> None:
        assert gateway.post(model="plain", width=100_000, crop=[0, 0, 32_767, 1]).status_code == 200
        response = gateway.post(model="plain", width=100_000, crop=[0, 0, 32_768, 1])
        assert response.status_code == 413
        assert "32768" in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"model": "é"}'.encode("latin-1"), "the body is not JSON: it must be UTF-8, which byte 12 is not"),
        (b"[" * 30_000 + b"]" * 30_000, "the body is not JSON: it is nested too deeply"),
        (b'{"a":' * 10_000, "the body is not JSON: it is nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "the body is not JSON: a number must have at most 4300 digits"),
        (b'{"seed": 1', "the body is not JSON: Expecting ',' delimiter"),
    ],
    ids=["latin-1", "arrays", "objects", "number", "syntax"],
)
def test_bodies_that_are_no_json(gateway: RunningGateway, content: bytes, problem: str) -> None:
    response = gateway.http.post("/v1/images", content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["detail"]) == (400, problem)


@pytest.mark.parametrize("path", ["/v1/images", "/v1/jobs"])
@pytest.mark.parametrize(
    ("content", "key"),
    [
        ('{"seed": 1, "width": 64, "seed": 2}', "seed"),
        ('{"latent": {"seed": 1, "seed": 1}}', "seed"),
        ('{"seed": 1, "\\u0073eed": 2}', "seed"),
        ('{"\\n": 1, "\\n": 2}', "'\\n'"),
    ],
)
def test_repeated_keys_of_a_body_are_refused(gateway: RunningGateway, path: str, content: str, key: str) -> None:
    response = gateway.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["field"]) == (422, key)
    assert response.json()["detail"] == f"{key}: must be given once"


@pytest.mark.parametrize("path", ["/v1/images", "/v1/jobs"])
@pytest.mark.parametrize(("coding", "accepted"), [("gzip", False), ("BR", False), ("x, y", False), ("Identity", True)])
def test_content_encodings(gateway: RunningGateway, path: str, coding: str, accepted: bool) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    response = gateway.http.post(path, content=b'{"width": 0}', headers=headers)
    if accepted:
        assert response.status_code == 422
    else:
        assert (response.status_code, response.headers["Accept-Encoding"]) == (415, "identity")
        assert repr(coding) in response.json()["detail"]


@pytest.mark.parametrize(
    ("address", "size"),
    [
        ("plain/1.png?width=64.0", (64, 64)),
        ("plain/1.png?width=+64&height=%2032%20", (64, 32)),
        ("plain/1.png?width=%2B64&psi=%2B.5&quality=90.0", (64, 64)),
        ("plain/+1.png?width=64&region=0,%200,%201,%201.0", (64, 64)),
        ("plain/1.jpg?width=64&crop=0,%200,%208.0,+8", (8, 8)),
        ("plain/1.JPEG", (32, 32)),
    ],
)
def test_what_an_address_means_beyond_doubt_is_accepted(
    gateway: RunningGateway, address: str, size: tuple[int, int]
) -> None:
    response = gateway.image(address)
    assert response.status_code == 200
    assert Image.open(io.BytesIO(response.content)).size == size


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/images/plain/1.png?width=6_4", "width"),
        ("/v1/images/plain/1.png?psi=0_.5", "psi"),
        ("/v1/images/plain/1_0.png", "seed"),
        ("/v1/images/plain/1.png?width=64&width=32", "width"),
        ("/v1/images/plain/1.png?width=0x40", "width"),
        ("/v1/images/plain/1.png?crop=0,0,8.5,8", "crop"),
        ("/v1/jobs?limit=1_0", "limit"),
        ("/v1/jobs?limit=5&limit=5", "limit"),
    ],
)
def test_what_an_address_leaves_in_doubt_is_refused(gateway: RunningGateway, path: str, field: str) -> None:
    response = gateway.http.get(path)
    assert (response.status_code, response.json()["field"]) == (422, field)


def test_a_body_may_write_integers_as_fractions(gateway: RunningGateway) -> None:
    assert gateway.post(model="plain", seed=7.0, width=64.0, crop=[0, 0.0, 8.0, 9], format="JPG").status_code == 200
    (spec,) = gateway.queue.asked
    assert (spec.latent.seed, spec.viewport.crop, spec.encoding.format) == (7, (0, 0, 8, 9), "jpeg")


@pytest.mark.parametrize(
    ("image_format", "bits", "media_type"),
    [
        ("avif", 10, "image/avif"),
        ("jxl", 16, "image/jxl"),
        ("tiff", 32, "image/tiff"),
        ("npy", 32, "application/x-npy"),
    ],
)
def test_deep_images(gateway: RunningGateway, image_format: str, bits: int, media_type: str) -> None:
    gateway.queue.content = b"file"
    posted = gateway.post(model="plain", seed=1, format=image_format, bits=bits)
    got = gateway.image(f"plain/1.{image_format}", bits=bits)
    for answer in (posted, got):
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type), answer.text
        encoding = gateway.queue.asked[-1].encoding
        assert (encoding.format, encoding.bits) == (image_format, bits)
    assert got.headers["ETag"] == posted.headers["ETag"]


def test_more_bits_are_another_image(gateway: RunningGateway) -> None:
    gateway.queue.content = b"file"
    plain, same, deep = (gateway.image("plain/1.png", **query) for query in ({}, {"bits": 8}, {"bits": 16}))
    assert plain.headers["ETag"] == same.headers["ETag"] != deep.headers["ETag"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"format": "jpeg", "bits": 16}, 422, "bits"),
        ({"format": "png", "bits": 9}, 422, "bits"),
        ({"format": "heic"}, 422, "format"),
        ({"format": "npy", "width": 600, "height": 600}, 413, "width"),  # a pixel counts as four
    ],
)
def test_deep_images_that_cannot_be(gateway: RunningGateway, body: dict[str, Any], status: int, field: str) -> None:
    answer = gateway.post(model="plain", seed=1, **body)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_bits_of_jobs(gateway: RunningGateway) -> None:
    """Deep Zoom has 8, TIFF and PNG may have more."""
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"format": "jxl"}, "format"),
        ({"bits": 16}, "bits"),
        ({"output": "tiff", "bits": 32}, "bits"),
        ({"output": "png", "format": "tiff"}, "format"),
    )
    for values, field in refused:
        answer = gateway.http.post("/v1/jobs", json={"model": "plain", "seed": 1, **values})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
