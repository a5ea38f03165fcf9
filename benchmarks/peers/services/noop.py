"""The ceiling: reads the body and returns an empty object."""

from __future__ import annotations

import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks.peers.services.core import PORT, WORKERS


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application without a framework."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


if __name__ == "__main__":
    uvicorn.run("benchmarks.peers.services.noop:app", port=PORT, workers=WORKERS, access_log=False, lifespan="off")
