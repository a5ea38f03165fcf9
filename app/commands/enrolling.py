"""``oneshot enroll``: many images with each request, so that a folder costs few commits."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.client import AsyncClient, OnConflict, ProblemError, RejectedError
from app.client.bulk import run_many_async
from app.commands.folders import Enrolled, Labelled, in_two_rounds, labelled_of
from app.commands.output import Gallery, Json, count, print_json, print_line, problem, progress
from app.commands.target import PROBLEM, YES, Target, fail, run, verb
from app.errors import OneshotError
from app.names import DEFAULT_GALLERY
from app.settings import SettingsError, load_settings
from model.extras import without_ray

#: Images and bytes of one request, well below what a service takes by default.
_MOST_IMAGES = 100
_MOST_BYTES = 8 * 2**20
#: Where in its request an image stood says nothing to a person who gave a folder.
_PLACE = re.compile(r"^image(\[\d+\])?: ")
_TOO_LARGE = frozenset({"payload-too-large", "too-many-parts"})


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
    """Enrol images. Several images of one class are all kept. Exit code 2 when one could not be enrolled."""
    if engine == "ray":
        return _tell(_on_ray(target, paths, label, gallery, on_conflict), gallery, as_json)

    async def work(client: AsyncClient) -> list[Enrolled]:
        first, others = in_two_rounds(labelled_of([Path(path) for path in paths], label))
        with progress("enrolling", len(first) + len(others)) as tick:
            done = await _round(_Sender(client, gallery, on_conflict), first, concurrency, tick)
            failed = {each.label for each in done if each.problem}  # its other images have no class to join
            rest = [item for item in others if item.label not in failed]
            return done + await _round(_Sender(client, gallery, "add"), rest, concurrency, tick)

    return _tell(run(target, work), gallery, as_json)


@dataclass(frozen=True)
class _Sender:
    """Sends chunks of images."""

    client: AsyncClient
    gallery: str
    on_conflict: OnConflict

    async def send(self, chunk: Sequence[Labelled]) -> list[Enrolled]:
        """Enrol a chunk; in halves, where the service finds it too large."""
        read = [(item, _read(item)) for item in chunk]
        good = [(item, data) for item, data in read if isinstance(data, bytes)]
        bad = [_outcome(item, 0, **problem(error)) for item, error in read if isinstance(error, OSError)]
        if not good:
            return bad
        try:
            answer = await self.client.enroll_batch(
                [(item.label, data) for item, data in good], gallery=self.gallery, on_conflict=self.on_conflict
            )
        except RejectedError as error:
            if error.slug in _TOO_LARGE and len(good) > 1:
                half = len(good) // 2
                parts = ([item for item, _ in good[:half]], [item for item, _ in good[half:]])
                return [each for part in parts for each in await self.send(part)] + bad
            return [_outcome(item, error.status, error.slug, error.detail) for item, _ in good] + bad
        told = [
            _outcome(item, each.status, each.problem, each.detail and _PLACE.sub("", each.detail))
            for (item, _), each in zip(good, answer.items, strict=True)
        ]
        return told + bad


def _outcome(item: Labelled, status: int, problem: str | None = None, detail: str | None = None) -> Enrolled:
    return Enrolled(str(item.file), item.label, status, problem, detail)


def _on_ray(
    target: Target, paths: Sequence[str], label: str | None, gallery: str, on_conflict: OnConflict
) -> Sequence[Enrolled]:
    if why := without_ray("--engine ray"):
        fail(why)
    from app.on_ray.enrolling import enroll_on_ray  # noqa: PLC0415 - an extra
    from app.on_ray.sources import sources_of  # noqa: PLC0415

    try:
        sources = sources_of(paths, label)
        with progress("enrolling", sum(len(source.files) for source in sources)) as tick:
            settings = load_settings(home=target.home)
            return enroll_on_ray(settings, sources, gallery, on_conflict, tick)
    except (OneshotError, SettingsError, OSError, ValueError) as error:
        fail(str(error))


def _read(item: Labelled) -> bytes | OSError:
    try:
        return item.file.read_bytes()
    except OSError as error:
        return error


async def _round(
    sender: _Sender, items: Sequence[Labelled], concurrency: int, tick: Callable[[], None]
) -> list[Enrolled]:
    """Enrol items of which no two have one label (or which are all added), in their order."""
    done: list[Enrolled] = []
    async for outcome in run_many_async(sender.send, _chunks(items), concurrency):
        if isinstance(outcome.error, ProblemError):
            error = outcome.error
            done += [_outcome(item, error.status, error.slug, error.detail) for item in outcome.item]
        else:
            done += outcome.get()
        for _ in outcome.item:
            tick()
    return done


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
    for each in done:
        if as_json:
            why = {"problem": each.problem, "detail": each.detail} if each.problem else {}
            there = {"skipped": True} if each.skipped else {}
            print_json({"file": each.file, "label": each.label, "status": each.status, **there, **why})
        if each.problem:
            sys.stderr.write(f"oneshot: {each.file}: {each.detail}\n")
    good = [each for each in done if not each.problem]
    if good and not as_json:
        labels = {each.label for each in good}
        new = sum(each.status == 201 for each in good)
        classes = f"{count(len(labels), 'class', 'classes')} ({new} new)"
        known = sum(each.skipped for each in good)
        before = f"; {count(known, 'image')} of them there already" if known else ""
        print_line(f"{count(len(good), 'image')} of {classes} enrolled in gallery {gallery}{before}")
    return YES if len(good) == len(done) else PROBLEM
