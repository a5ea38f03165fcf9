"""A batch of labelled images: a multipart form, lines of JSON, or a zip file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from starlette.requests import ClientDisconnect, Request

from app.api.body.blocks import Blocks
from app.api.body.budget import Room
from app.api.body.json_lines import Lines, parse_lines
from app.api.body.multipart import Part, read_parts
from app.api.body.uploads import capped
from app.api.body.zip_body import ZipArchive, ZippedFile
from app.api.idempotency import Fingerprint
from app.errors import (
    EmptyImageError,
    InvalidRequestError,
    OneshotError,
    PayloadTooLargeError,
    TooManyPartsError,
    UnsupportedMediaTypeError,
)
from app.inference.images import Upload
from app.names import clean_label
from app.recognition.batch import Item

NDJSON = "application/x-ndjson"
ZIP = "application/zip"

#: Bytes that are parsed, unpacked or passed on at once, unless a single image has more.
_PART_BYTES = 2**20


@dataclass(frozen=True)
class BatchLimits:
    """Limits: bytes of the body and of its unpacked content, bytes of one image, number of images."""

    body: int
    image: int
    images: int


class RequestBatch:
    """The `app.recognition.batch.Batch` of a request. The bytes of all its images in memory count in the upload budget.

    `passed_over` is the number of files that are not images.
    """

    def __init__(
        self, request: Request, source: AsyncIterator[list[Item]], *, keep_all: bool = False, passed_over: int = 0
    ) -> None:
        self.items: list[Item] = []
        self.labels: list[str | None] = []
        self.keep_all, self.passed_over = keep_all, passed_over
        self._request, self._source = request, source
        self._held = _Held(request)

    async def parts(self, most: int) -> AsyncGenerator[list[tuple[int, Upload]], None]:
        """See `Batch`.

        Raises OverloadedError when there is no room for more, RequestError when the rest of the body is invalid,
        ClientDisconnect as soon as the client is gone.
        """
        for part in _split(self._good(0), most):
            yield part
        async for items in self._source:
            if await self._request.is_disconnected():
                raise ClientDisconnect
            first = len(self.items)
            self.items += items
            self.labels += [None if isinstance(item, OneshotError) else item[0] for item in items]
            for part in _split(self._good(first), most):
                yield part

    def refuse(self, place: int, error: OneshotError) -> None:
        """See `Batch`."""
        error.__traceback__ = error.__cause__ = error.__context__ = None  # their frames would keep the image alive
        item = self.items[place]
        self.items[place] = error
        if not isinstance(item, OneshotError):
            self._held.give(len(item[1].data))

    def _good(self, first: int) -> list[tuple[int, Upload]]:
        items = enumerate(self.items[first:], first)
        return [(place, item[1]) for place, item in items if not isinstance(item, OneshotError)]


class _Held:
    """The share of a request in the upload budget."""

    def __init__(self, request: Request) -> None:
        room: Room = request.app.state.room
        self.take, self.give = partial(room.take, request.scope), partial(room.give, request.scope)


async def read_batch(request: Request, limits: BatchLimits, fingerprint: Fingerprint | None = None) -> RequestBatch:
    """Read the batch, once its body is complete, and add it to the fingerprint if one is given.

    Raises RequestError when the body as a whole is invalid.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    body = capped(request, limits.body)
    if kind == "multipart/form-data":
        parts = await read_parts(content_type, body, 2 * limits.images)
        if fingerprint is not None:  # not the raw body: the boundary between its parts differs each time
            for part in parts:
                await fingerprint.add(part.name, part.filename or "", part.data)
        return RequestBatch(request, _from_parts(parts, limits))
    body = body if fingerprint is None else fingerprint.passing(body)
    if kind in {NDJSON, "application/jsonl", "application/ndjson"}:
        return RequestBatch(request, _at_once(await _from_lines(body, _Held(request), limits)))
    if kind in {ZIP, "application/x-zip-compressed"}:
        content = Blocks()
        async for chunk in body:
            content.append(chunk)
        archive = await asyncio.to_thread(ZipArchive, content, limits.body, limits.images)
        source = _from_zip(archive, _Held(request), limits)
        return RequestBatch(request, source, keep_all=True, passed_over=archive.passed_over)
    raise UnsupportedMediaTypeError(
        f"Send multipart/form-data with files 'image', {NDJSON} or {ZIP}; got {kind or 'no content type'}."
    )


def _from_parts(parts: list[Part], limits: BatchLimits) -> AsyncIterator[list[Item]]:
    """Files `image`. The label of each is the text `label` at the same place or, without labels, its file's name."""
    images = [part for part in parts if part.name == "image"]
    labels = [part for part in parts if part.name == "label"]
    if strange := next((part for part in parts if part.name not in {"image", "label"}), None):
        raise InvalidRequestError.at(
            "body", strange.name, message="is no field here; allowed: image, label", kind="unknown"
        )
    if not images:
        raise InvalidRequestError.at("body", "image", message="is missing", kind="missing")
    if len(images) > limits.images:
        raise _too_many(limits.images)
    if labels and len(labels) != len(images):
        message = f"is given {len(labels)} times for {len(images)} images; give one for each, or none at all"
        raise InvalidRequestError.at("body", "label", message=message, kind="count")
    texts = (
        [bytes(part.data).decode("utf-8", "surrogateescape") for part in labels]
        if labels
        else [PurePosixPath((part.filename or "").replace("\\", "/")).stem for part in images]
    )

    async def source() -> AsyncIterator[list[Item]]:
        for place, text in enumerate(texts):
            data = bytes(images[place].data)
            images[place].data = bytearray()  # don't hold it twice
            yield [_item(text, data, f"image[{place}]", f"label[{place}]", limits)]

    return source()


async def _from_zip(archive: ZipArchive, held: _Held, limits: BatchLimits) -> AsyncIterator[list[Item]]:
    """The archive's files, unpacked a few at a time. The part of the body before them is freed."""
    for files in _few(archive.files):
        held.give(archive.let_go(files[0]))
        items: list[Item] = [_too_large(file.name, limits) for file in files]
        wanted = [(place, file) for place, file in enumerate(files) if file.size <= limits.image]
        most = sum(file.size for _, file in wanted)
        held.take(most)
        found = await asyncio.to_thread(lambda: list(archive.read([file for _, file in wanted])))  # noqa: B023
        for (place, file), data in zip(wanted, found, strict=True):
            if isinstance(data, bytes):
                items[place] = _item(file.label, data, file.name, f"label of {file.name}", limits)
            else:
                items[place] = data
        held.give(most - sum(len(item[1].data) for item in items if not isinstance(item, OneshotError)))
        yield items


def _few(files: Sequence[ZippedFile]) -> Iterator[list[ZippedFile]]:
    part: list[ZippedFile] = []
    for file in files:
        if part and sum(each.size for each in part) + file.size > _PART_BYTES:
            yield part
            part = []
        part.append(file)
    yield part


async def _from_lines(body: AsyncIterator[bytes], held: _Held, limits: BatchLimits) -> list[Item]:
    """Lines `{"label": …, "image": base64}`, each parsed as soon as it is complete."""
    items: list[Item] = []
    lines, ended, received = Lines(limits.image), list[bytes | None](), 0

    async def parse() -> None:
        nonlocal received
        first = len(items)
        for place, found in enumerate(await asyncio.to_thread(parse_lines, ended, first, limits.image), first):
            if isinstance(found, OneshotError):
                items.append(found)
            else:
                items.append(_item(*found, f"image[{place}]", f"label[{place}]", limits))
        ended.clear()
        kept = sum(len(item[1].data) for item in items[first:] if not isinstance(item, OneshotError))
        held.give(received - kept - lines.held)
        received = lines.held

    async for chunk in body:
        received += len(chunk)
        ended += lines.feed(chunk)
        if lines.count > limits.images:
            raise _too_many(limits.images)
        if received - lines.held >= _PART_BYTES:
            await parse()
    ended += lines.finish()
    if lines.count > limits.images:
        raise _too_many(limits.images)
    await parse()
    if not items:
        raise InvalidRequestError.at("body", "image", message="is missing: the body is empty", kind="missing")
    return items


async def _at_once(items: list[Item]) -> AsyncIterator[list[Item]]:
    yield items


def _split(images: list[tuple[int, Upload]], most: int) -> Iterator[list[tuple[int, Upload]]]:
    for start in range(0, len(images), most):
        yield images[start : start + most]


def _item(label: str, data: bytes, field: str, label_field: str, limits: BatchLimits) -> Item:
    try:
        cleaned = clean_label(label)
    except ValueError as error:
        return InvalidRequestError.at("body", label_field, message=str(error))
    if len(data) > limits.image:
        return _too_large(field, limits)
    return (cleaned, Upload(data, field)) if data else EmptyImageError("the file is empty (0 bytes)", field)


def _too_large(field: str, limits: BatchLimits) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"{field}: the image has more than {limits.image} bytes (ONESHOT_MAX_UPLOAD_BYTES)")


def _too_many(max_images: int) -> TooManyPartsError:
    return TooManyPartsError(f"One batch may have {max_images} images (ONESHOT_MAX_ENROLL_IMAGES).")
