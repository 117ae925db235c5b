"""What a gateway believes of proxies."""

import asyncio
import re
from typing import Any

from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.gateway.proxies import Proxies

NAMES = st.sampled_from(["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"])
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

    asyncio.run(Proxies(app, "127.0.0.1, 10.0.0.0/8", "")(scope, app, app))  # type: ignore[arg-type]
    if client == "8.8.8.8":
        assert scope == given_scope
        return
    host = next(value for name, value in scope["headers"] if name == b"host")
    assert scope["scheme"] in ("http", "https")
    assert re.fullmatch(rb"[A-Za-z0-9._\[\]:-]+", host)
    assert re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", scope["root_path"])
    assert re.fullmatch(r"[0-9A-Fa-f:.]+", scope["client"][0])
