"""The console: one page at `/` and its few files, served from `app/web`."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParameter
from fastapi import Request, Response

import app
from app.api.door import router as make_router
from app.api.policy import open_to_all
from app.errors import NotFoundError

router = make_router(include_in_schema=False)

_FOLDER = Path(app.__file__).parent / "web"
# Listed here, because the operating system's table may be incomplete or wrong.
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

#: No foreign resources, nothing inline, and text never becomes markup: a label can't turn into a script.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # revalidated each time and answered with 304: a new version shows at once
}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and ETag by name. Read once; no other names are served."""
    files = [path for path in _FOLDER.iterdir() if path.suffix in _MEDIA_TYPES]
    return {path.name: (data := path.read_bytes(), f'"{sha256(data).hexdigest()[:32]}"') for path in files}


@router.get("/")
@open_to_all()
async def console(request: Request) -> Response:
    """The page."""
    return _answer(request, "index.html")


@router.get("/web/{name}")
@open_to_all()
async def console_file(request: Request, name: Annotated[str, PathParameter()]) -> Response:
    """A file of the page."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    if name not in _files():
        raise NotFoundError("The console has no such file.")
    content, tag = _files()[name]
    headers = {**_HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_MEDIA_TYPES[Path(name).suffix], headers=headers)
