"""A client for the HTTP API, in two forms with the same methods: `Client` and, for asyncio, `AsyncClient`.

    from oneshot_client import Client

    with Client("http://127.0.0.1:8000") as client:
        client.enroll("alpha", "alpha.png")
        print(client.classify("query.png").label)

Needs httpx and pydantic, nothing else.
"""

from oneshot_client.asynchronous import AsyncClient
from oneshot_client.bulk import Outcome
from oneshot_client.calls import DEFAULT_URL, OnConflict
from oneshot_client.errors import (
    BusyError,
    ClientError,
    ConflictError,
    FaultError,
    MissingError,
    ProblemError,
    RejectedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from oneshot_client.retry import Retry
from oneshot_client.sources import ImageSource
from oneshot_client.sync import Client

__all__ = [
    "DEFAULT_URL",
    "AsyncClient",
    "BusyError",
    "Client",
    "ClientError",
    "ConflictError",
    "FaultError",
    "ImageSource",
    "MissingError",
    "OnConflict",
    "Outcome",
    "ProblemError",
    "RejectedError",
    "Retry",
    "UnauthorizedError",
    "UnexpectedAnswerError",
    "UnreachableError",
]
