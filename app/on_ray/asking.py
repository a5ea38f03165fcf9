"""Calls to the application's processes on Ray, repeated when a process has died.

None of these calls changes anything, so they may be repeated. Ray replaces a process that died. A caller waits for the
new one for a limited time; then the client is asked to retry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from app.errors import OneshotError, UnavailableError
from app.gallery.sharding import Question, Told

#: How long a request waits for a process that died or is silent.
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
#: No time limit: these write the files of a large gallery.
_SLOW = {"prepare"}

_GONE = (RayError, RayServeException)

#: Sends a question through a handle, and returns its `DeploymentResponse`.
Call: TypeAlias = Callable[[], Any]


def ask(call: Call, whom: str, seconds: float | None = _PATIENCE_SECONDS) -> Any:
    """Call from a thread, and wait for the answer. Raises UnavailableError."""
    return _await(call, call(), whom, None if seconds is None else time.monotonic() + seconds)


async def ask_soon(call: Call, whom: str) -> Any:
    """Call from a coroutine, and await the answer. Raises UnavailableError."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await asyncio.wait_for(call(), max(0.1, give_up - time.monotonic()))
        except _GONE as error:
            if time.monotonic() >= give_up:
                raise _unavailable(whom) from error
        except TimeoutError as error:
            raise _unavailable(whom) from error
        await asyncio.sleep(_PAUSE_SECONDS)


def _await(call: Call, response: Any, whom: str, give_up: float | None) -> Any:
    while True:
        try:
            return response.result(timeout_s=None if give_up is None else max(0.1, give_up - time.monotonic()))
        except _GONE as error:
            if give_up is not None and time.monotonic() >= give_up:
                raise _unavailable(whom) from error
        except TimeoutError as error:
            raise _unavailable(whom) from error
        time.sleep(_PAUSE_SECONDS)
        response = call()


def _unavailable(whom: str) -> OneshotError:
    return UnavailableError(f"{whom} does not answer; it is being replaced.")


class Shards:
    """A `Scatter` over the processes that hold the parts."""

    def __init__(self, handles: Sequence[DeploymentHandle[Any]]) -> None:
        self._handles = handles

    def __call__(self, question: Question, parts: Sequence[int] | None = None) -> list[Told]:
        """Ask all parts at once, then wait for all answers. Raises UnavailableError."""
        chosen = range(len(self._handles)) if parts is None else parts
        give_up = None if question.method in _SLOW else time.monotonic() + _PATIENCE_SECONDS
        calls = [partial(self._handles[part].answer.remote, question) for part in chosen]
        begun = [call() for call in calls]
        return [
            _await(call, response, f"Part {part + 1} of {len(self._handles)} of the galleries", give_up)
            for part, call, response in zip(chosen, calls, begun, strict=True)
        ]
