"""The API's requests as data, not yet sent: shared by the two clients."""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from oneshot_client.answers import (
    BatchPublic,
    CalibrationPublic,
    ClassifyPublic,
    ClassPage,
    ClassPublic,
    EmbedPublic,
    EnrollPublic,
    GalleryList,
    ModelPublic,
    VerifyPublic,
)
from oneshot_client.errors import UnexpectedAnswerError
from oneshot_client.sources import ImageSource, read_source
from oneshot_client.wire import DEFAULT_GALLERY, IDEMPOTENCY_KEY, class_path

DEFAULT_URL = "http://127.0.0.1:8000"

OnConflict: TypeAlias = Literal["replace", "add", "fail"]
Params: TypeAlias = Mapping[str, Any]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and the type of its answer: a model, `bytes` for the raw body, or None for no body."""

    answer: type[T]
    method: str
    path: str
    params: Params = field(default_factory=dict)
    data: Mapping[str, str | list[str]] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] = ()
    json: Mapping[str, Any] | None = None
    content: tuple[str, bytes] | None = None  # a media type, and a body of that type
    viewed: bool = False  # answered from a server's view, which may be behind another server's writes
    key: str | None = None  # the request's Idempotency-Key: it is done once, however often it is sent

    def arguments(self) -> dict[str, Any]:
        """The arguments of httpx's `request`. Parameters that are None are not sent."""
        params = {name: value for name, value in self.params.items() if value is not None}
        body: dict[str, Any] = {"data": dict(self.data), "files": list(self.files)} if self.files else {}
        if self.json is not None:
            body["json"] = dict(self.json)
        if self.content is not None:
            kind, body["content"] = self.content
            body["headers"] = {"Content-Type": kind}
        if self.key is not None:
            body["headers"] = {**body.get("headers", {}), IDEMPOTENCY_KEY: self.key}
        return {"method": self.method, "url": self.path, "params": params, **body}

    def read(self, response: httpx.Response) -> T:
        """The typed answer. Raises UnexpectedAnswerError if it isn't an answer of this service."""
        if self.answer is bytes:
            return response.content  # type: ignore[return-value]  # T is bytes
        if self.answer is type(None):
            return None
        try:
            return _validate(self.answer, response.content)
        except ValidationError:
            where = f"{self.method} {response.request.url}"
            raise UnexpectedAnswerError(f"{where}: the answer is not that of a oneshot service") from None


def _validate(answer: type[T], content: bytes) -> T:
    assert issubclass(answer, BaseModel)  # noqa: S101 - the calls below name nothing else
    return answer.model_validate_json(content)


def _gallery_path(gallery: str, rest: str = "") -> str:
    return f"/galleries/{quote(gallery, safe='')}{rest}"


def _new_key() -> str:
    return secrets.token_hex(16)


def enroll(
    label: str, image: ImageSource, gallery: str, on_conflict: OnConflict, key: str | None = None
) -> Call[EnrollPublic]:
    """Enrol one image. Each call is a new request, unless it is given the key of an earlier one."""
    data = {"label": label, "gallery": gallery, "on_conflict": on_conflict}
    files = [("image", read_source(image))]
    return Call(EnrollPublic, "POST", "/enroll", data=data, files=files, key=key or _new_key())


def enroll_batch(
    items: Sequence[tuple[str, ImageSource]], gallery: str, on_conflict: OnConflict, key: str | None = None
) -> Call[BatchPublic]:
    """Enrol many images with one request, as lines of JSON, which cost the service less than a form."""
    params = {"gallery": gallery, "on_conflict": on_conflict}
    lines = [json.dumps({"label": label, "image": b64encode(read_source(image)[1]).decode()}) for label, image in items]
    content = ("application/x-ndjson", "\n".join(lines).encode())
    return Call(BatchPublic, "POST", "/enroll/batch", params, content=content, key=key or _new_key())


def enroll_zip(
    archive: bytes | str | PathLike[str], gallery: str, on_conflict: OnConflict, key: str | None = None
) -> Call[BatchPublic]:
    """Enrol the images in a zip file with one request."""
    params = {"gallery": gallery, "on_conflict": on_conflict}
    data = archive if isinstance(archive, bytes) else Path(archive).read_bytes()
    content = ("application/zip", data)
    return Call(BatchPublic, "POST", "/enroll/batch", params, content=content, key=key or _new_key())


def classify(image: ImageSource, params: Params) -> Call[ClassifyPublic]:
    """Name the class of an image."""
    return Call(ClassifyPublic, "POST", "/classify", params, files=[("image", read_source(image))], viewed=True)


def verify(image1: ImageSource, image2: ImageSource | None, label: str | None, params: Params) -> Call[VerifyPublic]:
    """Compare two images, or an image and a class. Raises ValueError unless exactly one of the two is given."""
    if (image2 is None) == (label is None):
        raise ValueError("give either image2 or label")
    files = [("image1", read_source(image1))]
    if image2 is not None:
        files.append(("image2", read_source(image2)))
    data = {} if label is None else {"label": label}
    return Call(VerifyPublic, "POST", "/verify", params, data, files, viewed=True)


def embed(images: Sequence[ImageSource]) -> Call[EmbedPublic]:
    """Turn images into vectors."""
    return Call(EmbedPublic, "POST", "/embed", files=[("image", read_source(image)) for image in images])


def list_classes(gallery: str, limit: int, after: str | None, search: str | None) -> Call[ClassPage]:
    """One page of a gallery's classes."""
    params = {"gallery": gallery, "limit": limit, "after": after, "search": search}
    return Call(ClassPage, "GET", "/classes", params)


def get_class(label: str, gallery: str) -> Call[ClassPublic]:
    """One class."""
    return Call(ClassPublic, "GET", class_path(label), {"gallery": gallery})


def class_image(label: str, gallery: str, shot: int) -> Call[bytes]:
    """An enrolled image as it was uploaded."""
    return Call(bytes, "GET", f"{class_path(label)}/image", {"gallery": gallery, "shot": shot})


def rename_class(label: str, new: str, gallery: str) -> Call[ClassPublic]:
    """Give a class another label."""
    return Call(ClassPublic, "PATCH", class_path(label), {"gallery": gallery}, json={"label": new})


def delete_class(label: str, gallery: str) -> Call[None]:
    """Delete a class."""
    return Call(type(None), "DELETE", class_path(label), {"gallery": gallery})


def galleries() -> Call[GalleryList]:
    """All galleries."""
    return Call(GalleryList, "GET", "/galleries")


def delete_gallery(gallery: str) -> Call[None]:
    """Delete a gallery."""
    return Call(type(None), "DELETE", _gallery_path(gallery))


def calibration(gallery: str = DEFAULT_GALLERY) -> Call[CalibrationPublic]:
    """What a gallery's similarities mean."""
    return Call(CalibrationPublic, "GET", _gallery_path(gallery, "/calibration"))


def calibrate(gallery: str, prior: float | None) -> Call[CalibrationPublic]:
    """Fit a gallery's similarities to its own images."""
    return Call(CalibrationPublic, "POST", _gallery_path(gallery, "/calibrate"), {"prior": prior})


def forget_calibration(gallery: str) -> Call[None]:
    """Go back to the model's calibration."""
    return Call(type(None), "DELETE", _gallery_path(gallery, "/calibration"))


def model() -> Call[ModelPublic]:
    """What is running."""
    return Call(ModelPublic, "GET", "/model")
