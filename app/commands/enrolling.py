"""``oneshot enroll``: sends many images per request, so that a folder takes few commits."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.commands.output import (
    Gallery,
    Json,
    count,
    print_json,
    print_line,
    problem,
    progress,
    tell_passed_over,
    tell_problems,
)
from app.commands.target import PROBLEM, YES, Target, fail, one_line_problems, run, verb
from app.errors import OneshotError
from app.image_folders import Enrolled, Found, Labelled, find_images
from app.names import DEFAULT_GALLERY
from app.settings import SettingsError, load_settings
from model.extras import without_ray
from oneshot_client import AsyncClient, OnConflict, ProblemError, RejectedError
from oneshot_client.bulk import run_many_async

#: Images and bytes of one request, well below the service's default limits.
_MOST_IMAGES = 100
_MOST_BYTES = 8 * 2**20
#: The image's place in its request, removed from messages: it means nothing to a user who gave a folder.
_PLACE = re.compile(r"^image(\[\d+\])?: ")
_TOO_LARGE = frozenset({"payload-too-large", "too-many-parts"})
#: Problems shared by all images of a class, and problems of a single image.
_OF_THE_CLASS = frozenset({"class-exists", "invalid-request"})
_OF_THE_IMAGE = _OF_THE_CLASS | {
    "bad-image",
    "client",
    "empty-image",
    "payload-too-large",
    "blank-image",
    "too-many-pixels",
    "undecodable-image",
    "unsupported-image",
}


@verb
def enroll(
    target: Target,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, or folders with a sub-folder for each class; with --engine ray also s3://, gs://."
        ),
    ],
    *,
    label: Annotated[
        str | None,
        typer.Option("--label", "-l", help="Name of the class; else the sub-folder's, or the file's without suffix."),
    ] = None,
    gallery: Gallery = DEFAULT_GALLERY,
    on_conflict: Annotated[
        OnConflict, typer.Option("--on-conflict", help="What to do with a class that exists.")
    ] = "replace",
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=16, help="Requests in flight at once, of up to 100 images each.")
    ] = 2,
    engine: Annotated[
        Literal["service", "ray"],
        typer.Option(help="ray: embed in a Ray cluster, straight into the store of the data folder."),
    ] = "service",
    as_json: Json = False,
) -> int:
    """Enrol images. Several images of one class are all kept. Exit code 2 when one could not be enrolled.

    In a folder, what doesn't end like an image is passed over, and named.
    """
    if engine == "ray":
        done, passed_over = _on_ray(target, paths, label, gallery, on_conflict)
    else:
        found = _find(paths, label)
        done = run(target, lambda client: _enroll(client, found.items, gallery, on_conflict, concurrency))
        passed_over = [str(file) for file in found.passed_over]
    code = _tell(done, gallery, as_json)
    tell_passed_over(passed_over, as_json)
    return code


def _find(paths: Sequence[str], label: str | None) -> Found:
    with one_line_problems():
        return find_images([Path(path) for path in paths], label)


async def _enroll(
    client: AsyncClient, items: Sequence[Labelled], gallery: str, on_conflict: OnConflict, concurrency: int
) -> list[Enrolled]:
    """Enrol all images: first one good image of each class, by `on_conflict`; then the others are added to it."""
    done: dict[int, Enrolled] = {}
    waiting: dict[str, list[Labelled]] = {}
    for item in items:
        waiting.setdefault(item.label, []).append(item)
    with progress("enrolling", len(items)) as tick:

        async def send(chosen: list[Labelled], rule: OnConflict) -> None:
            async for item, result in _sent(_Sender(client, gallery, rule), chosen, concurrency):
                done[id(item)] = result
                tick()

        opened: list[str] = []
        while heads := [waiting[label].pop(0) for label in list(waiting) if label not in opened]:
            await send(heads, on_conflict)
            for head in heads:
                result, rest = done[id(head)], waiting[head.label]
                if not result.problem:
                    opened.append(head.label)
                elif result.problem in _OF_THE_CLASS:  # the other images of the class would have it too
                    done |= {id(item): replace(result, file=str(item.file)) for item in rest}
                    rest.clear()
                if not rest:
                    del waiting[head.label]
        await send([item for rest in waiting.values() for item in rest], "add")
    return [done[id(item)] for item in items]


@dataclass(frozen=True)
class _Sender:
    """Sends chunks of images."""

    client: AsyncClient
    gallery: str
    on_conflict: OnConflict

    async def send(self, chunk: Sequence[Labelled]) -> list[Enrolled]:
        """Enrol a chunk, in order. If the service finds it too large, it is sent in halves."""
        read = [_read(item) for item in chunk]
        good = [(item, data) for item, data in zip(chunk, read, strict=True) if isinstance(data, bytes)]
        sent = iter(await self._send(good) if good else ())
        return [
            next(sent) if isinstance(data, bytes) else _outcome(item, 0, **problem(data))
            for item, data in zip(chunk, read, strict=True)
        ]

    async def _send(self, images: Sequence[tuple[Labelled, bytes]]) -> list[Enrolled]:
        try:
            answer = await self.client.enroll_batch(
                [(item.label, data) for item, data in images], gallery=self.gallery, on_conflict=self.on_conflict
            )
        except RejectedError as error:
            if error.slug in _TOO_LARGE and len(images) > 1:
                half = len(images) // 2
                return [*await self._send(images[:half]), *await self._send(images[half:])]
            return [_outcome(item, error.status, error.slug, error.detail) for item, _ in images]
        return [
            _outcome(item, each.status, each.problem, each.detail and _PLACE.sub("", each.detail))
            for (item, _), each in zip(images, answer.items, strict=True)
        ]


def _outcome(item: Labelled, status: int, problem: str | None = None, detail: str | None = None) -> Enrolled:
    return Enrolled(str(item.file), item.label, status, problem, detail)


def _on_ray(
    target: Target, paths: Sequence[str], label: str | None, gallery: str, on_conflict: OnConflict
) -> tuple[Sequence[Enrolled], Sequence[str]]:
    if why := without_ray("--engine ray"):
        fail(why)
    from app.on_ray.enrolling import enroll_on_ray  # noqa: PLC0415 - an extra
    from app.on_ray.sources import find_sources  # noqa: PLC0415

    try:
        sources, passed_over = find_sources(paths, label)
        with progress("enrolling", sum(len(source.files) for source in sources)) as tick:
            settings = load_settings(home=target.home)
            return enroll_on_ray(settings, sources, gallery, on_conflict, tick), passed_over
    except (OneshotError, SettingsError, OSError, ValueError) as error:
        fail(str(error))


def _read(item: Labelled) -> bytes | OSError:
    try:
        return item.file.read_bytes()
    except OSError as error:
        return error


async def _sent(
    sender: _Sender, items: Sequence[Labelled], concurrency: int
) -> AsyncIterator[tuple[Labelled, Enrolled]]:
    """Enrol items in their order. No two may have the same label, unless all are added.

    An unreachable service is raised as an error until an image has been enrolled. After that it is reported per image.
    """
    answered = False
    async for outcome in run_many_async(sender.send, _chunks(items), concurrency):
        error = outcome.error
        if error is None or isinstance(error, ProblemError) or answered:
            answered = True
        else:
            raise error
        status = error.status if isinstance(error, ProblemError) else 0
        results = (
            outcome.get() if error is None else [_outcome(item, status, **problem(error)) for item in outcome.item]
        )
        for item, result in zip(outcome.item, results, strict=True):
            yield item, result


def _chunks(items: Sequence[Labelled]) -> Iterator[list[Labelled]]:
    chunk: list[Labelled] = []
    size = 0
    for item in items:
        bytes_ = item.file.stat().st_size if item.file.is_file() else 0
        if chunk and (len(chunk) == _MOST_IMAGES or size + bytes_ > _MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += bytes_
    if chunk:
        yield chunk


def _tell(done: Sequence[Enrolled], gallery: str, as_json: bool) -> int:
    for each in done if as_json else ():
        why = {"problem": each.problem, "detail": each.detail} if each.problem else {}
        there = {"skipped": True} if each.skipped else {}
        print_json({"file": each.file, "label": each.label, "status": each.status, **there, **why})
    failed = [each for each in done if each.problem]
    tell_problems([(each.file, each.detail or "", each.problem not in _OF_THE_IMAGE) for each in failed])
    good = [each for each in done if not each.problem]
    if not as_json:
        labels = {each.label for each in good}
        new = len({each.label for each in good if each.status == 201})
        classes = f"{count(len(labels), 'class', 'classes')} ({new} new)"
        known = sum(each.skipped for each in good)
        before = f"; {count(known, 'image')} of them there already" if known else ""
        lost = f"; {count(len(failed), 'image')} could not be enrolled" if failed else ""
        print_line(f"{count(len(good), 'image')} of {classes} enrolled in gallery {gallery}{before}{lost}")
    return PROBLEM if failed else YES
