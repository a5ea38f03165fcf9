"""A client for the HTTP API, in two forms with the same methods: `Client` and, for asyncio, `AsyncClient`.

    from app.client import Client

    with Client("http://127.0.0.1:8000") as client:
        client.enroll("alpha", "alpha.png")
        print(client.classify("query.png").label)

Needs httpx and the schemas, not torch: a machine that only asks needs no network.
"""

from app.client.bulk import Outcome
from app.client.calls import DEFAULT_URL, OnConflict
from app.client.errors import (
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
from app.client.retry import Retry
from app.client.sources import ImageSource
from app.client.sync import Client

from app.client.asynchronous import AsyncClient  # isort: skip

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
