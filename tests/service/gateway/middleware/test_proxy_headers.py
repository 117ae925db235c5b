"""What a gateway believes of proxies."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.gateway.middleware.proxy_headers import ProxyHeadersMiddleware
from tests.service.gateway.stand_in import RunningGateway
from tests.service.waiting import eventually

NAMES = st.sampled_from(["forwarded", *(f"x-forwarded-{name}" for name in ("for", "host", "port", "proto", "prefix"))])
VALUES = st.text(st.characters(max_codepoint=255), max_size=40) | st.sampled_from(
    [
        "10.0.0.1",
        "::1",
        "1.2.3.4, 10.0.0.1",
        "::1%1",
        "https",
        "a.example:80",
        "/a/b",
        "/../x",
        "8443",
        'for="[::1]:80";host=a.example;proto=https',
        'for=1.2.3.4, for="',
        "//evil",
        "a\r\nb: c",
        "javascript",
    ]
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.sampled_from(["127.0.0.1", "8.8.8.8"]))
@example([("x-forwarded-for", '::1%" 200 \x1b[31mforged')], "127.0.0.1")
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_whatever_proxies_tell(headers: list[tuple[str, str]], client: str) -> None:
    """What is believed makes sense, and from strangers nothing is."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope: dict[str, Any] = {
        "type": "http",
        "client": (client, 1),
        "headers": [(b"host", b"own.example"), *raw],
        "scheme": "http",
        "path": "/livez",
        "raw_path": b"/livez",
        "root_path": "",
    }
    given_scope = dict(scope)

    async def app(scope: object, receive: object, send: object) -> None:
        pass

    asyncio.run(ProxyHeadersMiddleware(app, "127.0.0.1, 10.0.0.0/8", "")(scope, app, app))  # type: ignore[arg-type]
    if client == "8.8.8.8":
        assert scope == given_scope
        return
    host = next(value for name, value in scope["headers"] if name == b"host")
    assert scope["scheme"] in ("http", "https")
    assert re.fullmatch(rb"[A-Za-z0-9._\[\]:-]+", host)
    assert re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", scope["root_path"])
    assert re.fullmatch(r"[0-9A-Fa-f:.]+", scope["client"][0])


@pytest.mark.parametrize(
    ("headers", "address", "client"),
    [
        ({"X-Forwarded-For": "9.9.9.9:4711"}, None, "9.9.9.9"),
        ({"X-Forwarded-For": "[2001:DB8::9]:4711, 127.0.0.1:1"}, None, "2001:db8::9"),
        ({"X-Forwarded-For": "2001:db8::9"}, None, "2001:db8::9"),
        ({"X-Forwarded-For": "::ffff:9.9.9.9, ::ffff:127.0.0.1"}, None, "9.9.9.9"),
        ({"Host": "a.example", "X-Forwarded-Port": "8443"}, "http://a.example:8443", "127.0.0.1"),
        ({"X-Forwarded-Host": "[::9]", "X-Forwarded-Port": "8443"}, "http://[::9]:8443", "127.0.0.1"),
        ({"Host": "a.example:81", "X-Forwarded-Port": "8443"}, "http://a.example:81", "127.0.0.1"),
        (
            {"Host": "a.example", "X-Forwarded-Port": "80", "X-Forwarded-Proto": "https"},
            "https://a.example",
            "127.0.0.1",
        ),
        (
            {"Forwarded": 'For="[2001:db8::9]:4711";Proto=https;Host="a.example:8443"'},
            "https://a.example:8443",
            "2001:db8::9",
        ),
        ({"Forwarded": "for=6.6.6.6;host=b.example, for=9.9.9.9;host=a.example"}, "http://a.example", "9.9.9.9"),
        ({"Forwarded": "for=9.9.9.9, for=127.0.0.1"}, None, "9.9.9.9"),
        ({"Forwarded": "for=9.9.9.9, for=unknown"}, None, "127.0.0.1"),
        ({"Forwarded": 'for="6.6.6.6, for=9.9.9.9'}, None, "127.0.0.1"),
        ({"Forwarded": ""}, None, "127.0.0.1"),
        ({"Forwarded": "for=6.6.6.6;host=b.example", "X-Forwarded-For": "9.9.9.9"}, None, "9.9.9.9"),
    ],
)
def test_what_links_and_the_log_show(
    gateway: RunningGateway,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    address: str | None,
    client: str,
) -> None:
    with caplog.at_level("INFO", "service.gateway.middleware.access_log"):
        document = gateway.http.get("/iiif/3/plain:7/info.json", headers=headers).json()
        asyncio.run(eventually(lambda: caplog.messages))  # a request is logged once it has been answered
    assert document["id"] == f"{address or gateway.address}/iiif/3/plain:7"
    assert caplog.messages[-1].startswith(f'{client} "GET ')
