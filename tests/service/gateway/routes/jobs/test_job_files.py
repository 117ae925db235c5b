"""The files of jobs over HTTP."""

import hashlib
import hmac
import zipfile
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import obstore
import pytest
from PIL import Image

from service.imaging.object_store import Store, open_store
from tests.service.gateway.routes.jobs.ordering import drawing, finished, order, order_of, read_events
from tests.service.gateway.stand_in import RunningGateway
from tests.service.gateway.test_http_cache import check_preconditions
from tests.service.jobs.stand_in import expected_tiles, pattern


def test_deep_zoom_can_be_fetched_tile_by_tile(gateway: RunningGateway) -> None:
    job = finished(gateway)
    descriptor = gateway.http.get(job["links"]["output"])  # without a redirect: viewers make the tiles' addresses of it
    assert descriptor.headers["content-type"] == "application/xml"
    redirected = gateway.http.get(f"/v1/jobs/{job['id']}/output", follow_redirects=True)
    assert (redirected.url, redirected.content) == (descriptor.url, descriptor.content)
    base = str(descriptor.url).removesuffix("picture.dzi")
    wanted = expected_tiles(order_of(gateway, job["id"]))
    for name, content in wanted.items():
        answer = gateway.http.get(base + name)
        assert answer.content == content
        assert answer.headers["content-type"] == "image/png"
        assert "immutable" in answer.headers["cache-control"]
    assert job["links"]["iiif"] == f"{gateway.address}/iiif/3/job:{job['id']}/info.json"


def test_deep_zoom_can_be_fetched_as_one_archive(gateway: RunningGateway) -> None:
    job = finished(gateway)
    address = f"/v1/jobs/{job['id']}/output.zip"
    answer = gateway.http.get(address)
    assert answer.headers["content-disposition"].endswith('-seed7-300x200.zip"')
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files.pop("picture.dzi") == gateway.http.get(job["links"]["output"]).content
    assert files == expected_tiles(order_of(gateway, job["id"]))
    assert gateway.http.get(address).content == answer.content
    assert gateway.http.head(address).headers["content-type"] == "application/zip"
    for other in (finished(gateway, output="png"), order(gateway).json()):
        assert gateway.http.get(f"/v1/jobs/{other['id']}/output.zip").status_code == 404


@pytest.mark.parametrize("output", ["png", "tiff"])
def test_one_file_can_be_fetched_in_parts(gateway: RunningGateway, output: str) -> None:
    job = finished(gateway, output=output)
    address = job["links"]["output"]
    whole = gateway.http.get(address)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == f'attachment; filename="pattern-seed7-300x200.{output}"'
    with Image.open(BytesIO(whole.content)) as image:
        assert image.size == (300, 200)
        assert image.tobytes() == pattern(order_of(gateway, job["id"]).spec).tobytes()
    size = len(whole.content)
    for asked, start, stop in (
        ("0-99", 0, 100),
        ("100-", 100, size),
        ("-7", size - 7, size),
        (f"5-{2 * size}", 5, size),
        ("5-" + "9" * 999, 5, size),
        ("-" + "9" * 999, 0, size),
        (" 5-9", 5, 10),
    ):
        part = gateway.http.get(address, headers={"Range": f"Bytes={asked}"})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.content == whole.content[start:stop]
    beyond = gateway.http.get(address, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for current in (whole.headers["ETag"], whole.headers["Last-Modified"]):
        assert gateway.http.get(address, headers={"Range": "bytes=0-9", "If-Range": current}).status_code == 206
    for other in ('"other"', f"W/{whole.headers['ETag']}", "Thu, 01 Jan 1970 00:00:00 GMT"):
        changed = gateway.http.get(address, headers={"Range": "bytes=0-9", "If-Range": other})
        assert (changed.status_code, changed.content) == (200, whole.content)
    for nonsense in ("bytes=9-2", "lines=0-1", "bytes=0-1,4-5", "bytes=-", "bytes=1_0-20", "bytes=" + "9" * 5000 + "-"):
        ignored = gateway.http.get(address, headers={"Range": nonsense})
        assert (ignored.status_code, ignored.content) == (200, whole.content)
    head = gateway.http.head(address, headers={"Range": "bytes=0-9"})  # ranges are for GET alone
    assert (head.status_code, int(head.headers["content-length"]), head.content) == (200, size, b"")


@pytest.mark.parametrize("output", ["dzi", "png"])
def test_preconditions_of_files(gateway: RunningGateway, output: str) -> None:
    address = finished(gateway, output=output)["links"]["output"]
    check_preconditions(gateway.http, address, dated=True)


def test_a_tile_that_is_not_there_is_not_unmodified(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    tile = f"/v1/jobs/{job['id']}/output/picture_files/8/0_0.png"
    for name, value in (("If-None-Match", f'"{job["id"]}-picture_files/8/0_0.png"'), ("If-None-Match", "*")):
        assert gateway.http.get(tile, headers={name: value}).status_code == 404
    assert gateway.http.get(tile, headers={"If-Match": '"other"'}).status_code == 404


def test_nothing_but_the_jobs_own_files_can_be_fetched(gateway: RunningGateway) -> None:
    job = order(gateway).json()
    base = f"/v1/jobs/{job['id']}/output/"
    for path in ("picture.dzi", "picture_files/8/0_0.png"):
        assert gateway.http.get(base + path).status_code == 404  # not yet
    with drawing(gateway):
        read_events(gateway, job["id"])
    assert gateway.http.get(base + "picture.dzi").status_code == 200
    for path in (
        "job.json",
        "..%2fjob.json",
        "%2e%2e/job.json",
        "picture_files/8/0_0.jpg",
        "picture_files/8/00_0.png",
        "picture_files/9/5_0.png",
        "picture_files/10/0_0.png",
        "picture.tiff",
        "",
    ):
        assert gateway.http.get(base + path).status_code == 404, path
    assert gateway.http.get(f"/v1/jobs/{'0' * 32}").status_code == 404
    assert gateway.http.get("/v1/jobs/..%2f..%2fetc").status_code in (404, 422)


def test_a_file_that_is_removed_while_it_is_asked_for(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    job = finished(gateway)
    base = f"/v1/jobs/{job['id']}/output/"
    head = obstore.head_async

    async def head_and_remove(store: Store, path: str) -> Any:
        found = await head(store, path)
        await obstore.delete_async(store, path)
        return found

    monkeypatch.setattr(obstore, "head_async", head_and_remove)
    for name in ("picture.dzi", "picture_files/8/0_0.png"):
        answer = gateway.http.get(base + name)
        assert answer.status_code == 404
        assert answer.json()["field"] == "path"


def test_pages_of_all_sites_may_read_files(gateway: RunningGateway) -> None:
    """Errors and redirects too, and nothing else of a job."""
    job = finished(gateway)
    base, stranger = f"/v1/jobs/{job['id']}", {"Origin": "https://viewer.example"}
    for path, status in (
        ("output", 307),
        ("output/picture.dzi", 200),
        ("output/picture_files/8/0_0.png", 200),
        ("output/none.png", 404),
    ):
        answer = gateway.http.get(f"{base}/{path}", headers=stranger)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, "*")
    for other in (base, f"{base}/outputs"):
        assert "Access-Control-Allow-Origin" not in gateway.http.get(other, headers=stranger).headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_links_into_a_bucket_are_signed_for_their_method(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    job = finished(gateway, output="png")
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    memory = gateway.app_state.outputs
    object.__setattr__(gateway.app_state, "outputs", open_store("s3://pictures/prefix"))
    try:
        answer = gateway.http.request(method, job["links"]["output"], follow_redirects=False)
    finally:
        object.__setattr__(gateway.app_state, "outputs", memory)
    assert answer.status_code == 307
    link = answer.headers["Location"]
    query = dict(parse_qsl(urlsplit(link).query))
    assert query.pop("X-Amz-Signature") == sigv4(method, link, query, "secret")


def sigv4(method: str, link: str, query: dict[str, str], secret: str) -> str:
    """The signature that S3 expects in a link (AWS Signature Version 4, query parameters)."""
    parts = urlsplit(link)
    canonical = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    request = "\n".join((method, parts.path, canonical, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"))
    scope = query["X-Amz-Credential"].split("/", 1)[1]
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), "\n".join(("AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, digest))):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
