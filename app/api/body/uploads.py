"""Parses a request's body into named images and texts, or an error that names the field and the reason.

The byte limit is enforced while the body arrives, whatever Content-Length says. Content types and file names are not
trusted: the decoder decides whether bytes are an image.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.api.body.budget import Room
from app.api.body.multipart import Part, read_parts
from app.api.problems import invalid_fields
from app.errors import (
    EmptyImageError,
    InvalidRequestError,
    MalformedBodyError,
    PayloadTooLargeError,
    TooManyPartsError,
    UnsupportedMediaTypeError,
    UploadTimeoutError,
)
from app.inference.images import Upload
from oneshot_client.wire import whole_number

M = TypeVar("M", bound=BaseModel)

#: Period over which the lowest rate of a body is measured.
RATE_SECONDS = 5.0

#: The longest label, with every character escaped, takes 3 kB.
_MAX_JSON_BYTES = 16_384


@dataclass(frozen=True)
class FormSpec:
    """The fields that a form may have: the number of files per name, and the texts (each once)."""

    images: Mapping[str, int]
    texts: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """All allowed names."""
        return [*self.images, *sorted(self.texts)]


class Form:
    """A form whose parts match a `FormSpec`."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts

    def __contains__(self, name: str) -> bool:
        return any(part.name == name for part in self._parts)

    def text(self, name: str) -> str | None:
        """The text of a field, None if it wasn't sent. Raises InvalidRequestError if it is not UTF-8."""
        part = next((part for part in self._parts if part.name == name), None)
        if part is None:
            return None
        try:
            return part.data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequestError.at("body", name, message="is not UTF-8 text", kind="encoding") from None

    def images(self, name: str) -> list[Upload]:
        """The files of a field, at least one. Raises InvalidRequestError for none, EmptyImageError for 0 bytes."""
        parts = [part for part in self._parts if part.name == name]
        if not parts:
            raise missing(name)
        fields = [name] if len(parts) == 1 else [f"{name}[{index}]" for index in range(len(parts))]
        return [_upload(bytes(part.data), field) for part, field in zip(parts, fields, strict=True)]

    def image(self, name: str) -> Upload:
        """The one file of a field."""
        return self.images(name)[0]


def missing(name: str) -> InvalidRequestError:
    """The error for a field that wasn't sent."""
    return InvalidRequestError.at("body", name, message="is missing", kind="missing")


async def read_form(request: Request, max_bytes: int, spec: FormSpec) -> Form:
    """Read the request's multipart form. Raises RequestError in one of its forms when it doesn't match `spec`."""
    content_type = request.headers.get("content-type", "")
    if _kind(content_type) != "multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"Send multipart/form-data with fields {', '.join(spec.names)}; got {content_type or 'no content type'}."
        )
    # one part more than allowed in all, so that a repeated field is reported by name and not by a count
    max_parts = sum(spec.images.values()) + len(spec.texts) + 1
    parts = await read_parts(content_type, capped(request, max_bytes), max_parts)
    for part in parts:
        _check(part, spec)
    for name, limit in {**spec.images, **dict.fromkeys(spec.texts, 1)}.items():
        count = sum(part.name == name for part in parts)
        if count > limit > 1:
            raise TooManyPartsError(f"{name}: is given {count} times, at most {limit}")
        if count > limit:
            raise InvalidRequestError.at(
                "body", name, message=f"is given {count} times, at most {limit}", kind="repeated"
            )
    return Form(parts)


async def read_image(request: Request, max_bytes: int) -> Upload:
    """Read the one image of a request: the field ``image`` of a form, or a body with an image's content type."""
    kind = _kind(request.headers.get("content-type", ""))
    if kind == "multipart/form-data":
        return (await read_form(request, max_bytes, FormSpec(images={"image": 1}))).image("image")
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise UnsupportedMediaTypeError(
            "Send the image as field 'image' of multipart/form-data, or as the body with an image/* content type; "
            f"got {kind or 'no content type'}."
        )
    return _upload(b"".join([chunk async for chunk in capped(request, max_bytes)]), "image")


async def read_json(request: Request, model: type[M]) -> M:
    """Parse the request's small JSON body as `model`. Raises RequestError in one of its forms when it is invalid."""
    kind = _kind(request.headers.get("content-type", ""))
    if kind != "application/json":
        raise UnsupportedMediaTypeError(f"Send application/json; got {kind or 'no content type'}.")
    data = b"".join([chunk async for chunk in capped(request, _MAX_JSON_BYTES)])
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        if any(each["type"] == "json_invalid" for each in found):
            raise MalformedBodyError(f"The body is no JSON: {found[0]['msg']}.") from None
        raise invalid_fields([{**each, "loc": ("body", *each["loc"])} for each in found]) from None


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _upload(data: bytes, field: str) -> Upload:
    if not data:
        raise EmptyImageError("the file is empty (0 bytes)", field)
    return Upload(data, field)


def _check(part: Part, spec: FormSpec) -> None:
    if part.name in spec.images:
        if not part.is_file:
            raise InvalidRequestError.at("body", part.name, message="is a text part; expected a file", kind="file_type")
    elif part.name not in spec.texts:
        allowed = ", ".join(spec.names)
        raise InvalidRequestError.at("body", part.name, message=f"is no field here; allowed: {allowed}", kind="unknown")
    elif part.filename is not None:
        raise InvalidRequestError.at("body", part.name, message="is a file; expected text", kind="text_type")


async def capped(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises PayloadTooLargeError as soon as its size is known to be too large."""
    error = PayloadTooLargeError(f"The request's body is larger than {max_bytes} bytes.")
    declared = request.headers.get("content-length", "")
    if declared and (length := whole_number(declared)) is not None and length > max_bytes:
        raise error
    received = 0
    room: Room = request.app.state.room
    async for chunk in _timely(request):
        room.take(request.scope, len(chunk))
        received += len(chunk)
        if received > max_bytes:
            raise error
        yield chunk


async def _timely(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises UploadTimeoutError if it is too slow, in total or over RATE_SECONDS."""
    seconds: float = request.app.state.upload_timeout
    rate: int = request.app.state.upload_rate
    clock = asyncio.get_running_loop().time
    end, more = clock() + seconds, True
    waited, came = 0.0, 0  # only waiting counts: processing a chunk is not the client's time
    while more:
        began, message = clock(), None
        with suppress(TimeoutError):
            # around each wait: a generator must not hold a timeout while it yields
            async with asyncio.timeout_at(min(end, began + RATE_SECONDS - waited)):
                message = await request.receive()
        chunk = b""
        if message is not None:
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more, chunk = message.get("more_body", False), message.get("body", b"")
        elif clock() >= end:
            raise UploadTimeoutError(f"The body took longer than {seconds:g} seconds to come in.")
        waited, came = waited + clock() - began, came + len(chunk)
        if waited >= RATE_SECONDS and more:
            if came < rate * RATE_SECONDS:
                raise UploadTimeoutError(f"The body came in with less than {rate} bytes a second.")
            waited, came = 0.0, 0
        if chunk:
            yield chunk
