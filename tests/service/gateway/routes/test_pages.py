"""The explorer page as other sites see it."""

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

from tests.service.gateway.stand_in import RunningGateway


def preview(gateway: RunningGateway, query: str) -> dict[str, str]:
    page = gateway.http.get(f"/?{query}").text
    return {name: unescape(text) for name, text in re.findall(r'<meta property="(og:\w+)" content="([^"]*)">', page)}


def test_a_shared_link_has_a_title_and_the_picture_itself(gateway: RunningGateway) -> None:
    tags = preview(gateway, "model=plain&seed=5&psi=-0.5&class=3&x=0.1")
    assert tags["og:title"] == "plain, seed 5 – CREPS Explorer"
    image = urlsplit(tags["og:image"])
    assert f"{image.scheme}://{image.netloc}" == gateway.address
    assert image.path == "/v1/images/plain/5.jpeg"
    assert parse_qs(image.query) == {"width": ["1200"], "height": ["630"], "psi": ["-0.5"], "class": ["3"]}


def test_nothing_of_a_link_becomes_part_of_the_page(gateway: RunningGateway) -> None:
    attack = '"><script>alert(1)</script>'
    for query in (f"model={attack}", f"seed={attack}", f"psi={attack}", f"class={attack}"):
        page = gateway.http.get("/", params=dict([query.split("=", 1)])).text
        assert "<script>alert" not in page
    assert preview(gateway, "seed=x")["og:image"].split("?")[0].endswith("/v1/images/demo/0.jpeg")


def test_the_page_is_revalidated(gateway: RunningGateway) -> None:
    first = gateway.http.get("/?seed=1")
    assert gateway.http.get("/?seed=1", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert gateway.http.get("/?seed=2", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_images_that_need_a_key_are_no_preview(bare_gateway: RunningGateway) -> None:
    assert "og:image" not in preview(bare_gateway, "seed=1")
