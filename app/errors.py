"""Every error that the service answers with, in one tree.

    OneshotError                          500  internal-error
    ├── RequestError                      400  bad-request
    │   ├── MalformedBodyError            400  malformed-body
    │   ├── UploadTimeoutError            408  upload-timeout
    │   ├── PayloadTooLargeError          413  payload-too-large
    │   ├── TooManyPartsError             413  too-many-parts
    │   ├── UnsupportedMediaTypeError     415  unsupported-media-type
    │   ├── HeadTooLargeError             431  head-too-large
    │   ├── InvalidRequestError           422  invalid-request
    │   └── TooLittleDataError            422  too-little-data
    ├── AccessError                       403  access-denied
    │   ├── UnauthorizedError             401  unauthorized
    │   ├── ForbiddenError                403  forbidden
    │   └── RateLimitedError              429  rate-limited         (+ Retry-After)
    ├── BadImageError                     422  bad-image
    │   ├── EmptyImageError               422  empty-image
    │   ├── UnsupportedImageError         415  unsupported-image
    │   ├── UndecodableImageError         422  undecodable-image
    │   └── TooManyPixelsError            422  too-many-pixels
    ├── NotFoundError                     404  not-found
    │   ├── GalleryNotFoundError          404  gallery-not-found
    │   ├── ClassNotFoundError            404  class-not-found
    │   ├── ModelNotFoundError            404  model-not-found
    │   └── ImageNotFoundError            404  image-not-found
    ├── MethodNotAllowedError             405  method-not-allowed
    ├── ConflictError                     409  conflict
    │   ├── ImagesNotKeptError            409  images-not-kept
    │   ├── ClassExistsError              409  class-exists
    │   └── ModelMismatchError            409  model-mismatch
    ├── UnavailableError                  503  unavailable          (+ Retry-After)
    │   ├── NotReadyError                 503  not-ready
    │   ├── OverloadedError               503  overloaded
    │   ├── StoreUnavailableError         503  store-unavailable
    │   └── BehindError                   503  behind
    ├── DeadlineExceededError             504  deadline-exceeded
    ├── WriteInDoubtError                 504  write-in-doubt
    ├── InferenceError                    500  inference-failed
    ├── StoreCorruptError                 500  store-corrupt
    └── StartupError                      500  startup-failed       (stops the start, never sent)
        └── SchemaTooNewError             500  schema-too-new

Status, slug and title live on the class; the text of an instance is what the client may read as ``detail``. The layers
below HTTP raise these and know nothing of answers; `app.problems` turns them into RFC 9457 problem details.
"""

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
    #: Whether `detail` goes to the client; a 500's text may name files or statements, so it stays in the log.
    public: ClassVar[bool] = True
    #: Seconds after which the same request may succeed; None where it won't.
    retry_after: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:  # as it is, without `__init__`: on its way between processes
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    @property
    def headers(self) -> Mapping[str, str]:
        """Extra headers of the answer: `Retry-After`, in whole seconds, where a retry may succeed."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def field_errors(self) -> Sequence[FieldError]:
        """The single wrong inputs, if the error is about inputs."""
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
        """The single wrong inputs."""
        return self._errors


class TooLittleDataError(RequestError):
    """A gallery holds too few images, or images too alike, to fit a calibration; `detail` says how much is needed."""

    status, slug, title = 422, "too-little-data", "Too little data"


class HeadTooLargeError(RequestError):
    """The request line and headers are larger than any client needs."""

    status, slug, title = 431, "head-too-large", "Request header fields too large"


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


class RateLimitedError(AccessError):
    """The key has asked too often, or too much at once; a retry after `retry_after` seconds may succeed."""

    status, slug, title = 429, "rate-limited", "Rate limited"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class BadImageError(OneshotError):
    """An image that can't be used; `field` is the part that held it (``image``, ``image1``, ``image[3]``)."""

    status, slug, title = 422, "bad-image", "Bad image"

    def __init__(self, detail: str, field: str = "image") -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field

    @property
    def field_errors(self) -> Sequence[FieldError]:
        """The part that held the image."""
        return (FieldError(("body", self.field), self.detail.removeprefix(f"{self.field}: "), self.slug),)


class EmptyImageError(BadImageError):
    """A file of zero bytes."""

    status, slug, title = 422, "empty-image", "Empty image"


class UnsupportedImageError(BadImageError):
    """The bytes are of no format on the allow-list, whatever the file name or content type says."""

    status, slug, title = 415, "unsupported-image", "Unsupported image format"


class UndecodableImageError(BadImageError):
    """The bytes start like an allowed format, but don't decode (truncated, corrupt)."""

    status, slug, title = 422, "undecodable-image", "Undecodable image"


class TooManyPixelsError(BadImageError):
    """More pixels than `ONESHOT_MAX_PIXELS`; refused before decoding."""

    status, slug, title = 422, "too-many-pixels", "Too many pixels"


class NotFoundError(OneshotError):
    """There is nothing at this address."""

    status, slug, title = 404, "not-found", "Not found"


class GalleryNotFoundError(NotFoundError):
    """There is no gallery of this name."""

    status, slug, title = 404, "gallery-not-found", "Gallery not found"

    def __init__(self, gallery: str) -> None:
        super().__init__(f"There is no gallery {gallery!r}.")
        self.gallery = gallery


class ClassNotFoundError(NotFoundError):
    """The gallery has no class of this label."""

    status, slug, title = 404, "class-not-found", "Class not found"

    def __init__(self, gallery: str, label: str) -> None:
        super().__init__(f"Gallery {gallery!r} has no class {label!r}.")
        self.gallery = gallery
        self.label = label


class ImageNotFoundError(NotFoundError):
    """The class has no such shot, or the shot was enrolled without its image."""

    status, slug, title = 404, "image-not-found", "Image not found"

    def __init__(self, gallery: str, label: str, shot: int) -> None:
        super().__init__(f"Class {label!r} of gallery {gallery!r} has no image for shot {shot}.")
        self.gallery = gallery
        self.label = label
        self.shot = shot


class ModelNotFoundError(NotFoundError):
    """The data folder has no (whole) artefact of this model."""

    status, slug, title = 404, "model-not-found", "Model not found"

    def __init__(self, digest: str, why: str = "install it with `oneshot model switch`") -> None:
        super().__init__(f"The data folder has no model {digest[:12]}: {why}.")
        self.digest = digest


class MethodNotAllowedError(OneshotError):
    """The address exists, but not with this method."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class ConflictError(OneshotError):
    """The request contradicts what is stored."""

    status, slug, title = 409, "conflict", "Conflict"


class ClassExistsError(ConflictError):
    """These labels are enrolled already: with `on_conflict=fail`, or in renaming. Nothing was written."""

    status, slug, title = 409, "class-exists", "Class exists"

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(f"Already enrolled: {', '.join(map(repr, labels))}. Nothing was changed.")
        self.labels = tuple(labels)


class ModelMismatchError(ConflictError):
    """The gallery's vectors were made by another model, so that no distance to them means anything."""

    status, slug, title = 409, "model-mismatch", "Model mismatch"

    def __init__(self, gallery: str, pinned: str, offered: str) -> None:
        super().__init__(
            f"Gallery {gallery!r} was made with model {pinned[:12]}, the service runs {offered[:12]}. "
            "Use another gallery, or start the service with the gallery's model."
        )
        self.gallery = gallery
        self.pinned = pinned
        self.offered = offered


class ImagesNotKeptError(ConflictError):
    """Images that were not kept (`ONESHOT_KEEP_IMAGES=false`) can't be embedded anew by another model."""

    status, slug, title = 409, "images-not-kept", "Images not kept"

    def __init__(self, gallery: str, shots: int) -> None:
        super().__init__(
            f"Gallery {gallery!r} has {shots} images that were not kept (ONESHOT_KEEP_IMAGES=false), so another model "
            "can't embed them. It stays with its model; to change, delete the gallery and enrol its images again."
        )


class UnavailableError(OneshotError):
    """The service can't answer now; a retry after `retry_after` seconds may succeed."""

    status, slug, title = 503, "unavailable", "Unavailable"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class NotReadyError(UnavailableError):
    """Waiting for the store's database, warming up, shutting down, or the worker thread is dead."""

    status, slug, title = 503, "not-ready", "Not ready"


class OverloadedError(UnavailableError):
    """The queue is full."""

    status, slug, title = 503, "overloaded", "Overloaded"


class StoreUnavailableError(UnavailableError):
    """The store can't be read or written now (locked too long, disk full, file gone, server away)."""

    status, slug, title = 503, "store-unavailable", "Store unavailable"


class BehindError(UnavailableError):
    """This process does not see the version yet that the request wants to see at least."""

    status, slug, title = 503, "behind", "Behind"


class DeadlineExceededError(OneshotError):
    """The request took longer than `ONESHOT_REQUEST_TIMEOUT`."""

    status, slug, title = 504, "deadline-exceeded", "Deadline exceeded"


class WriteInDoubtError(OneshotError):
    """The connection to the store broke during a commit: nobody knows yet whether the change was made."""

    status, slug, title = 504, "write-in-doubt", "Write in doubt"


class InferenceError(OneshotError):
    """The network's forward pass failed."""

    status, slug, title, public = 500, "inference-failed", "Inference failed", False


class StoreCorruptError(OneshotError):
    """The store's file is damaged or holds what can't be (a vector of another length)."""

    status, slug, title, public = 500, "store-corrupt", "Store corrupt", False


class StartupError(OneshotError):
    """The service can't start; `oneshot serve` prints the one line and exits with 2."""

    status, slug, title, public = 500, "startup-failed", "Startup failed", False


class SchemaTooNewError(StartupError):
    """The store was written by a newer version of the service, which this one must not touch."""

    status, slug, title, public = 500, "schema-too-new", "Store schema too new", False
