"""Support for browsers: security headers, CORS, and the pages of the API's documentation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.policy import open_to_all
from oneshot_client.wire import IDEMPOTENCY_KEY, MIN_VERSION, VERSION

_ASSETS = "/docs/assets"
#: An answer is data: it runs no scripts and can't be framed.
_DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'; sandbox"
#: The documentation's pages start with an inline script.
_PAGE_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_DATA_TYPES = (b"application/json", b"application/problem", b"image/")


class SecurityHeaders:
    """Adds security headers that an answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = dict(message["headers"])  # starlette's names are lower-case
                is_data = present.get(b"content-type", b"").startswith(_DATA_TYPES)
                policy = (b"content-security-policy", _DATA_POLICY if is_data else _PAGE_POLICY)
                added = [header for header in (*_HEADERS, policy) if header[0] not in present]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)


def allow_origins(app: FastAPI, origins: str | None) -> None:
    """Allow pages of these sites (comma-separated, or *) to use the service. No credentials: keys are not cookies."""
    names = [origin.strip() for origin in (origins or "").split(",") if origin.strip()]
    if names:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=names,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "X-API-Key",
                "X-Request-ID",
                "Content-Type",
                MIN_VERSION,
                IDEMPOTENCY_KEY,
            ],
            expose_headers=["X-Request-ID", "Retry-After", "Location", VERSION, "Age"],
        )


def install_docs(app: FastAPI) -> None:
    """Serve ``/docs`` and ``/redoc`` with local assets, so that they work offline and send nothing to other sites."""

    @open_to_all()
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="oneshot",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon.png",
        )

    @open_to_all()
    async def redoc() -> HTMLResponse:
        return get_redoc_html(
            openapi_url="/openapi.json",
            title="oneshot",
            redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{_ASSETS}/favicon.png",
            with_google_fonts=False,
        )

    app.mount(_ASSETS, StaticFiles(directory=_assets()), name="docs-assets")
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/redoc", redoc, include_in_schema=False)


def _assets() -> Path:
    spec = find_spec("fastapi_offline")
    assert spec is not None  # noqa: S101 - a dependency
    assert spec.origin is not None  # noqa: S101
    return Path(spec.origin).with_name("static")
