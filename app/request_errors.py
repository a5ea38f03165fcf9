"""The root of the error tree, and its branches for requests and access. Import them from `app.errors`."""

from __future__ import annotations

import copyreg
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One wrong input: where it was (`("query", "k")`), what is wrong, and a machine-readable kind."""

    loc: tuple[str | int, ...]
    message: str
    kind: str = "value_error"


class OneshotError(Exception):
    """Root of all errors of the service. `detail` is safe to show to a client."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    #: Whether `detail` goes to the client. A 500's text may name files or statements, so it stays in the log.
    public: ClassVar[bool] = True
    #: Seconds after which the same request may succeed; None where it won't.
    retry_after: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:  # pickled between processes; `__init__` has other arguments
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    @property
    def headers(self) -> Mapping[str, str]:
        """Extra headers of the answer: `Retry-After`, in whole seconds, where a retry may succeed."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def field_errors(self) -> Sequence[FieldError]:
        """The invalid inputs, if the error is about inputs."""
        return ()


class RequestError(OneshotError):
    """The request can't be understood."""

    status, slug, title = 400, "bad-request", "Bad request"


class MalformedBodyError(RequestError):
    """The body is not what its content type says (a broken multipart envelope)."""

    status, slug, title = 400, "malformed-body", "Malformed body"


class PayloadTooLargeError(RequestError):
    """More bytes than one upload may have."""

    status, slug, title = 413, "payload-too-large", "Payload too large"


class TooManyPartsError(RequestError):
    """More multipart parts, or more images, than one request may have."""

    status, slug, title = 413, "too-many-parts", "Too many parts"


class UnsupportedMediaTypeError(RequestError):
    """The body's content type is neither multipart/form-data nor one that can be an image."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class InvalidRequestError(RequestError):
    """A field, a query parameter or a part of the path is missing or not allowed; `field_errors` names each."""

    status, slug, title = 422, "invalid-request", "Invalid request"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self._errors = tuple(errors)

    @classmethod
    def at(cls, *loc: str | int, message: str, kind: str = "value_error") -> InvalidRequestError:
        """An error about the one input at `loc`, for example ``at("body", "label", message="is missing")``."""
        return cls(f"{loc[-1]}: {message}", [FieldError(tuple(loc), message, kind)])

    @property
    def field_errors(self) -> Sequence[FieldError]:
        """The invalid inputs."""
        return self._errors


class KeyReusedError(RequestError):
    """The Idempotency-Key was sent before, with another request."""

    status, slug, title = 422, "idempotency-key-reused", "Idempotency-Key reused"


class TooLittleDataError(RequestError):
    """A gallery holds too few images, or images too alike, to fit a calibration; `detail` says how much is needed."""

    status, slug, title = 422, "too-little-data", "Too little data"


class HeadTooLargeError(RequestError):
    """The request line and headers are larger than any client needs."""

    status, slug, title = 431, "head-too-large", "Request header fields too large"


class MisdirectedRequestError(RequestError):
    """The request's Host is no name of this service, so the page that sent it may have been given its address."""

    status, slug, title = 421, "misdirected-request", "Misdirected request"


class UploadTimeoutError(RequestError):
    """The head or the body came too slowly."""

    status, slug, title = 408, "upload-timeout", "Upload timeout"


class AccessError(OneshotError):
    """The key does not open this."""

    status, slug, title = 403, "access-denied", "Access denied"


class UnauthorizedError(AccessError):
    """No key, or none that is valid now."""

    status, slug, title = 401, "unauthorized", "Unauthorized"

    @property
    def headers(self) -> Mapping[str, str]:
        """How to send a key."""
        return {"WWW-Authenticate": 'Bearer realm="oneshot"'}


class ForbiddenError(AccessError):
    """The key is valid, but lacks the scope or the gallery."""

    status, slug, title = 403, "forbidden", "Forbidden"


class ForeignOriginError(AccessError):
    """A page of another site asks for a change, and `ONESHOT_CORS_ORIGINS` does not name that site."""

    status, slug, title = 403, "foreign-origin", "Foreign origin"


class RateLimitedError(AccessError):
    """The key, or an address with wrong keys, has asked too often or too much at once; retry after `retry_after` s."""

    status, slug, title = 429, "rate-limited", "Rate limited"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
