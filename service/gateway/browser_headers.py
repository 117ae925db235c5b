"""What browsers are told to do with our answers, and not to do. Plain ASGI."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.proxies import route_path

ON_EVERY_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # For what is no page of ours. A browser that shows a picture alone makes a page around it, with a style.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
"""Where an answer has none of its own."""

EMBEDDED_ANYWHERE = ("/iiif/", "/v1/images/")
"""Pictures at addresses of their own, which the pages of any site may show. They cannot read them without CORS."""


class BrowserHeaders:
    """Adds ON_EVERY_ANSWER and Cross-Origin-Resource-Policy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in ON_EVERY_ANSWER.items():
                    headers.setdefault(name, value)
                anywhere = route_path(scope).startswith(EMBEDDED_ANYWHERE) or "access-control-allow-origin" in headers
                headers["Cross-Origin-Resource-Policy"] = "cross-origin" if anywhere else "same-origin"
            await send(message)

        return await self.app(scope, receive, send_with_headers)
