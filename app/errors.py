"""Every error that the service answers with, in one tree.

    OneshotError                          500  internal-error
    ├── RequestError                      400  bad-request
    │   ├── MalformedBodyError            400  malformed-body
    │   ├── UploadTimeoutError            408  upload-timeout
    │   ├── PayloadTooLargeError          413  payload-too-large
    │   ├── TooManyPartsError             413  too-many-parts
    │   ├── UnsupportedMediaTypeError     415  unsupported-media-type
    │   ├── MisdirectedRequestError       421  misdirected-request
    │   ├── HeadTooLargeError             431  head-too-large
    │   ├── InvalidRequestError           422  invalid-request
    │   ├── KeyReusedError                422  idempotency-key-reused
    │   └── TooLittleDataError            422  too-little-data
    ├── AccessError                       403  access-denied
    │   ├── UnauthorizedError             401  unauthorized
    │   ├── ForbiddenError                403  forbidden
    │   ├── ForeignOriginError            403  foreign-origin
    │   └── RateLimitedError              429  rate-limited         (+ Retry-After)
    ├── BadImageError                     422  bad-image
    │   ├── EmptyImageError               422  empty-image
    │   ├── UnsupportedImageError         415  unsupported-image
    │   ├── UndecodableImageError         422  undecodable-image
    │   ├── TooManyPixelsError            422  too-many-pixels
    │   └── BlankImageError               422  blank-image
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

Status, slug and title are class attributes. The message of an instance becomes the answer's ``detail`` where the error
is `public`. Code below HTTP raises these errors; `app.api.problems` turns them into RFC 9457 problem details.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.request_errors import (
    AccessError,
    FieldError,
    ForbiddenError,
    ForeignOriginError,
    HeadTooLargeError,
    InvalidRequestError,
    KeyReusedError,
    MalformedBodyError,
    MisdirectedRequestError,
    OneshotError,
    PayloadTooLargeError,
    RateLimitedError,
    RequestError,
    TooLittleDataError,
    TooManyPartsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UploadTimeoutError,
)

__all__ = [
    "AccessError",
    "BadImageError",
    "BehindError",
    "BlankImageError",
    "ClassExistsError",
    "ClassNotFoundError",
    "ConflictError",
    "DeadlineExceededError",
    "EmptyImageError",
    "FieldError",
    "ForbiddenError",
    "ForeignOriginError",
    "GalleryNotFoundError",
    "HeadTooLargeError",
    "ImageNotFoundError",
    "ImagesNotKeptError",
    "InferenceError",
    "InvalidRequestError",
    "KeyReusedError",
    "MalformedBodyError",
    "MethodNotAllowedError",
    "MisdirectedRequestError",
    "ModelMismatchError",
    "ModelNotFoundError",
    "NotFoundError",
    "NotReadyError",
    "OneshotError",
    "OverloadedError",
    "PayloadTooLargeError",
    "RateLimitedError",
    "RequestError",
    "SchemaTooNewError",
    "StartupError",
    "StoreCorruptError",
    "StoreUnavailableError",
    "TooLittleDataError",
    "TooManyPartsError",
    "TooManyPixelsError",
    "UnauthorizedError",
    "UnavailableError",
    "UndecodableImageError",
    "UnsupportedImageError",
    "UnsupportedMediaTypeError",
    "UploadTimeoutError",
    "WriteInDoubtError",
]


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
    """The bytes are of no format, or no kind of it, on the allow-list, whatever the name or content type says."""

    status, slug, title = 415, "unsupported-image", "Unsupported image format"


class UndecodableImageError(BadImageError):
    """The bytes start like an allowed format, but don't decode (truncated, corrupt)."""

    status, slug, title = 422, "undecodable-image", "Undecodable image"


class TooManyPixelsError(BadImageError):
    """More pixels than `ONESHOT_MAX_PIXELS`, or more than 20,000 on a side; refused before decoding."""

    status, slug, title = 422, "too-many-pixels", "Too many pixels"


class BlankImageError(BadImageError):
    """There is nothing to see: one shade, or fully transparent. The network takes all such images for the same."""

    status, slug, title = 422, "blank-image", "Blank image"


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
    """The queue is full, or there is no memory for an image now."""

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
    """The answer could not wait for the end of a commit, or nobody told it: the change may be made or not."""

    status, slug, title = 504, "write-in-doubt", "Write in doubt"


class InferenceError(OneshotError):
    """The network's forward pass failed."""

    status, slug, title, public = 500, "inference-failed", "Inference failed", False


class StoreCorruptError(OneshotError):
    """The store is damaged, or holds what can't be: a vector of another length, an image of another checksum."""

    status, slug, title, public = 500, "store-corrupt", "Store corrupt", False


class StartupError(OneshotError):
    """The service can't start; `oneshot serve` prints the one line and exits with 2."""

    status, slug, title, public = 500, "startup-failed", "Startup failed", False


class SchemaTooNewError(StartupError):
    """The store was written by a newer version of the service, which this one must not touch."""

    status, slug, title, public = 500, "schema-too-new", "Store schema too new", False
