"""What can go wrong for a caller, built from the service's problem details (docs/errors.md)::

ClientError
├── UnreachableError          no answer: refused, timed out, cut off
├── UnexpectedAnswerError     an answer that is not this service's
└── ProblemError              an answer that says what is wrong
    ├── UnauthorizedError     401, 403
    ├── MissingError          404
    ├── ConflictError         409
    ├── BusyError             429, 503, after all retries
    ├── RejectedError         any other 4xx: the request is wrong
    └── FaultError            any other 5xx
"""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from oneshot_client.answers import FieldProblem, Problem
from oneshot_client.wire import PROBLEM_PREFIX


class ClientError(Exception):
    """Root of all errors of the client; its text is one line for people."""


class UnreachableError(ClientError):
    """No answer came: nothing listens there, it took too long, or the connection broke."""


class UnexpectedAnswerError(ClientError):
    """The answer is not from this service, or from a version that this client does not understand."""


class ProblemError(ClientError):
    """The service said what is wrong. Branch on `slug`; show `detail` (also `str(error)`) to people."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem.detail)
        self.status = problem.status
        self.slug = problem.type.removeprefix(PROBLEM_PREFIX)
        self.title = problem.title
        self.detail = problem.detail
        self.request_id = problem.request_id
        #: The invalid inputs, if the problem is about inputs.
        self.errors: list[FieldProblem] = problem.errors or []
        #: Seconds that the service asked to wait.
        self.retry_after = retry_after


class UnauthorizedError(ProblemError):
    """A key is missing, wrong, or may not do this."""


class MissingError(ProblemError):
    """There is no such class, gallery, image or path."""


class ConflictError(ProblemError):
    """The request conflicts with stored data."""


class BusyError(ProblemError):
    """The service can't accept the request now. A later one may succeed."""


class RejectedError(ProblemError):
    """The request is wrong: a bad image, a value that is not allowed."""


class FaultError(ProblemError):
    """The service failed; its log has more under `request_id`."""


def error_of(response: httpx.Response, retry_after: float | None = None) -> ClientError:
    """The error for an answer with an error status."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        place = f"{response.request.method} {response.request.url}"
        return UnexpectedAnswerError(f"{place} answered {response.status_code} without saying why in a known form")
    return _class_of(response.status_code)(problem, retry_after)


def _class_of(status: int) -> type[ProblemError]:
    match status:
        case 401 | 403:
            return UnauthorizedError
        case 404:
            return MissingError
        case 409:
            return ConflictError
        case 429 | 503:
            return BusyError
        case _:
            return RejectedError if status < 500 else FaultError
