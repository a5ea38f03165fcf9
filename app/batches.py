"""A batch of labelled images: a multipart form, lines of JSON, or a zip file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from starlette.requests import Request

from app.errors import (
    EmptyImageError,
    InvalidRequestError,
    OneshotError,
    TooManyPartsError,
    UnsupportedMediaTypeError,
)
from app.multipart import Part, read_parts
from app.names import clean_label
from app.uploads import Upload, capped
from app.zipped import read_zip

NDJSON = "application/x-ndjson"
ZIP = "application/zip"
Item = tuple[str, Upload] | OneshotError


async def read_batch(request: Request, max_bytes: int, max_images: int) -> list[Item]:
    """The items in order; one that can't be used is its error. Raises RequestError when the body as a whole can't."""
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    body = capped(request, max_bytes)
    if kind == "multipart/form-data":
        return _from_parts(await read_parts(content_type, body, 2 * max_images), max_images)
    if kind in {NDJSON, "application/jsonl", "application/ndjson"}:
        return await _from_lines(body, max_images)
    if kind in {ZIP, "application/x-zip-compressed"}:
        content = b"".join([chunk async for chunk in body])
        return await asyncio.to_thread(_from_zip, content, max_bytes, max_images)
    raise UnsupportedMediaTypeError(
        f"Send multipart/form-data with files 'image', {NDJSON} or {ZIP}; got {kind or 'no content type'}."
    )


def _from_parts(parts: list[Part], max_images: int) -> list[Item]:
    """Files `image`; the label of each is the text `label` at the same place, or, without any, its file's name."""
    images = [part for part in parts if part.name == "image"]
    labels = [part for part in parts if part.name == "label"]
    if strange := next((part for part in parts if part.name not in {"image", "label"}), None):
        raise InvalidRequestError.at(
            "body", strange.name, message="is no field here; allowed: image, label", kind="unknown"
        )
    if not images:
        raise InvalidRequestError.at("body", "image", message="is missing", kind="missing")
    if len(images) > max_images:
        raise _too_many(max_images)
    if labels and len(labels) != len(images):
        message = f"is given {len(labels)} times for {len(images)} images; give one for each, or none at all"
        raise InvalidRequestError.at("body", "label", message=message, kind="count")
    texts = (
        [bytes(part.data).decode("utf-8", "surrogateescape") for part in labels]
        if labels
        else [PurePosixPath((part.filename or "").replace("\\", "/")).stem for part in images]
    )
    return [
        _item(text, bytes(part.data), place, f"image[{place}]")
        for place, (text, part) in enumerate(zip(texts, images, strict=True))
    ]


def _from_zip(content: bytes, max_bytes: int, max_images: int) -> list[Item]:
    """Its files; the label of each is the name of its folder, or, for one in no folder, its own without the ending."""
    items: list[Item] = []
    for place, (name, data) in enumerate(read_zip(content, max_bytes, max_images)):
        path = PurePosixPath(name)
        label = path.parent.name or path.stem
        items.append(data if isinstance(data, OneshotError) else _item(label, data, place, name))
    return items


async def _from_lines(body: AsyncIterator[bytes], max_images: int) -> list[Item]:
    """Lines `{"label": …, "image": base64}`."""
    items: list[Item] = []
    rest = bytearray()
    async for chunk in body:
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(rest) + lines[0]
            rest.clear()
        rest += last
        items += [_line(line, len(items) + number) for number, line in enumerate(filter(bytes.strip, lines))]
        if len(items) > max_images:
            raise _too_many(max_images)
    if rest.strip():
        items.append(_line(bytes(rest), len(items)))
    if not items:
        raise InvalidRequestError.at("body", "image", message="is missing: the body is empty", kind="missing")
    if len(items) > max_images:
        raise _too_many(max_images)
    return items


def _line(line: bytes, place: int) -> Item:
    try:
        content = json.loads(line)
        if not isinstance(content, dict) or set(content) != {"label", "image"}:
            raise ValueError("is not an object with the keys label and image")
        label, image = content["label"], content["image"]
        if not isinstance(label, str) or not isinstance(image, str):
            raise ValueError("label and image must be strings")
        data = base64.b64decode(image, validate=True)
    except (ValueError, binascii.Error, RecursionError) as error:
        return InvalidRequestError.at("body", f"line {place + 1}", message=str(error), kind="line")
    return _item(label, data, place, f"image[{place}]")


def _item(label: str, data: bytes, place: int, field: str) -> Item:
    try:
        cleaned = clean_label(label)
    except ValueError as error:
        return InvalidRequestError.at("body", f"label[{place}]", message=str(error))
    return (cleaned, Upload(data, field)) if data else EmptyImageError("the file is empty (0 bytes)", field)


def _too_many(max_images: int) -> TooManyPartsError:
    return TooManyPartsError(f"One batch may have {max_images} images (ONESHOT_MAX_ENROLL_IMAGES).")
