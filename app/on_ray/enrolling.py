"""Bulk enrolment by Ray Data: processes read, embed and enrol classes, and write directly to the store.

A class's images go into the store in one or two commits. Images that a class already has, byte for byte, are skipped.
So a run that was killed can be repeated: it continues wherever each of its processes had stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext

from app.concurrency.thread_pool import WorkPool
from app.errors import ClassExistsError, InvalidRequestError, ModelMismatchError, OneshotError, StartupError
from app.home.model_shelf import ModelShelf
from app.image_folders import Enrolled
from app.inference.batcher import Batcher
from app.inference.images import EmbeddedImage, Upload
from app.inference.prepare import prepare
from app.names import clean_gallery, clean_label
from app.on_ray.nodes import absolute, form, network_device
from app.on_ray.sources import Source, read
from app.recognition.bulk_enrol import ManyImages, enroll_each
from app.recognition.receipts import Result
from app.service.choose_model import choose_model, held_home
from app.settings import Settings
from app.store import EnrollOutcome, NewSupport, OnConflict, SqlStore, open_store
from model.embedder import DeviceError, Embedder
from model.images import ImageLimits
from model.on_ray import NoClusterError, cluster

#: Classes in one batch of a process.
_CLASSES = 32
#: Images read and committed together, unless a single class has more.
_IMAGES = 256
_READERS = 8
#: Field name of an image in errors; it is removed, as the file is reported separately.
_FIELD = "image"


def enroll_on_ray(
    settings: Settings, sources: Sequence[Source], gallery: str, on_conflict: str, tick: Callable[[], None]
) -> list[Enrolled]:
    """Enrol all images; calls `tick` after each. Raises OneshotError, ValueError (the gallery's name)."""
    settings, gallery, done = absolute(settings), clean_gallery(gallery), list[Enrolled]()
    _begin(settings)
    try:
        with cluster(cpus=2):
            for row in _run(settings, sources, gallery, OnConflict(on_conflict)):
                done.append(Enrolled(**row))
                tick()
    except NoClusterError as error:
        raise StartupError(str(error)) from error
    order = {file: place for place, file in enumerate(file for source in sources for file in source.files)}
    return sorted(done, key=lambda each: order[each.file])


def _begin(settings: Settings) -> None:
    """Choose the model of a new data folder before many processes would. Raises StartupError."""
    with held_home(settings) as home, closing(open_store(home, settings.store)) as store:
        store.models.want(choose_model(settings, store, ModelShelf(home), *form(settings)).digest)


def _run(
    settings: Settings, sources: Sequence[Source], gallery: str, on_conflict: OnConflict
) -> Iterator[dict[str, Any]]:
    context = DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"label": source.label, "files": list(source.files)} for source in sources]
    blocks = max(1, -(-len(rows) // _CLASSES))
    classes = ray.data.from_items(rows, override_num_blocks=blocks)
    yield from classes.map_batches(
        EnrolClasses,
        fn_constructor_args=(settings, gallery, on_conflict),
        batch_size=_CLASSES,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=settings.embedders),
        num_cpus=settings.threads or 1,
        num_gpus=settings.embedder_gpus,
    ).iter_rows()


def missing(stored: Sequence[bytes | None], images: Sequence[bytes], on_conflict: OnConflict) -> list[int] | None:
    """The indices of the images that the class lacks; None if its present images must be deleted first.

    With ADD, its other images stay. Otherwise all its images must be among `images`.
    """
    rest = Counter(each for each in stored if each is not None)
    lacking: list[int] = []
    for place, image in enumerate(images):
        if rest[image] > 0:
            rest[image] -= 1
        else:
            lacking.append(place)
    others = None in stored or rest.total() > 0
    return lacking if on_conflict is OnConflict.ADD or not others else None


class EnrolClasses:
    """A worker process: enrols the images of classes, and returns the result of each."""

    def __init__(self, settings: Settings, gallery: str, on_conflict: OnConflict) -> None:
        self._gallery, self._rule, self._keep = gallery, on_conflict, settings.keep_images
        parts = self._parts = ExitStack()
        shelf = ModelShelf(parts.enter_context(held_home(settings)))
        self._store = open_store(settings.home, settings.store)
        parts.callback(self._store.close)
        digest = _digest_of(gallery, self._store) or choose_model(settings, self._store, shelf, *form(settings)).digest
        try:
            self._network = Embedder(shelf.load(digest), network_device(settings), settings.threads or 1)
        except DeviceError as error:
            raise ModelMismatchError(gallery, digest, str(error)) from error
        batcher = Batcher(self._network.embed, max_batch=settings.max_batch, max_queue=settings.max_queue)
        batcher.start()
        decoding = WorkPool("decode", settings.threads or 1, settings.max_queue)
        self._many = ManyImages(partial(prepare, self._network, ImageLimits(settings.max_pixels)), batcher, decoding)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        """Enrol a batch of rows `{label, files}`. Returns one row per file."""
        sources = [Source(row["label"], tuple(row["files"])) for row in batch.to_pylist()]
        done = [each for group in _groups(sources) for each in self._enroll(group)]
        return {name: [getattr(each, name) for each in done] for name in Enrolled.__dataclass_fields__}

    def _enroll(self, sources: Sequence[Source]) -> list[Enrolled]:
        items = [_Item(source.label, file) for source in sources for file in source.files]
        for item, content in zip(items, self._readers.map(_read, [item.file for item in items]), strict=True):
            item.take(content)
        stored = self._store.read_images(self._gallery, list({item.label for item in items if not item.over}))
        by_label: dict[str, list[_Item]] = {}
        for item in items:
            if not item.over:
                by_label.setdefault(item.label, []).append(item)
        anew = {label for label, those in by_label.items() if not self._skip(those, stored.get(label, []))}
        self._embed([item for item in items if not item.over])
        first = {item.label: item for item in reversed(items) if not item.over and item.label in anew}
        self._commit(list(first.values()), OnConflict.REPLACE)
        self._commit([item for item in items if not item.over], OnConflict.ADD)
        return [item.outcome() for item in items]

    def _skip(self, items: Sequence[_Item], stored: Sequence[bytes | None]) -> bool:
        """Mark images that need no work. Return whether the others are added to the class's present images."""
        lacking = missing(stored, [item.data for item in items], self._rule)
        if lacking is None and self._rule is OnConflict.FAIL:
            for item in items:
                item.result = ClassExistsError([item.label])
        if lacking is None:
            return False
        for place, item in enumerate(items):
            item.skipped = place not in lacking
        return True

    def _embed(self, items: Sequence[_Item]) -> None:
        uploads = [Upload(item.data, _FIELD) for item in items]
        for item, found in zip(items, asyncio.run(self._many.embed(uploads)), strict=True):
            if isinstance(found, OneshotError):
                item.result = found
            else:
                item.embedded = found

    def _commit(self, items: Sequence[_Item], rule: OnConflict) -> None:
        supports = [item.support(self._network.digest, self._keep) for item in items]
        for item, result in zip(items, enroll_each(self._store, self._gallery, supports, rule), strict=True):
            item.result = result


class _Item:
    """An image on its way into the store: its content, its vector and its result, as far as they exist."""

    def __init__(self, label: str, file: str) -> None:
        self.label, self.file, self.data = label, file, b""
        self.embedded: EmbeddedImage | None = None
        self.result: Result | OSError | None = None
        self.skipped = False

    @property
    def over(self) -> bool:
        """Whether no work is left."""
        return self.skipped or self.result is not None

    def take(self, content: bytes | OSError) -> None:
        """Set the file's content, or the error of reading it, and clean the label."""
        if isinstance(content, OSError):
            self.result = content
            return
        self.data = content
        try:
            self.label = clean_label(self.label)
        except ValueError as error:
            self.result = InvalidRequestError.at("body", "label", message=str(error))

    def support(self, digest: str, keep: bool) -> NewSupport:
        """The record to store."""
        assert self.embedded is not None  # noqa: S101 - only what was embedded is committed
        image = self.data if keep else None
        return NewSupport(self.label, image, self.embedded.media_type, self.embedded.vector, digest)

    def outcome(self) -> Enrolled:
        """The result of enrolling it."""
        if isinstance(self.result, EnrollOutcome) or self.skipped:
            created = isinstance(self.result, EnrollOutcome) and self.result.created
            return Enrolled(self.file, self.label, 201 if created else 200, skipped=self.skipped)
        if isinstance(self.result, OneshotError):
            detail = self.result.detail.removeprefix(f"{_FIELD}: ")
            return Enrolled(self.file, self.label, self.result.status, self.result.slug, detail)
        return Enrolled(self.file, self.label, 0, "client", str(self.result))


def _groups(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Yield groups of classes whose images are read together. A class with very many images is a group of its own."""
    group: list[Source] = []
    for source in sources:
        if group and sum(len(each.files) for each in group) + len(source.files) > _IMAGES:
            yield group
            group = []
        group.append(source)
    if group:
        yield group


def _read(file: str) -> bytes | OSError:
    try:
        return read(file)
    except OSError as error:
        return error


def _digest_of(gallery: str, store: SqlStore) -> str | None:
    """The model of the gallery, None if the gallery doesn't exist yet."""
    return next((each.model_digest for each in store.list_galleries() if each.name == gallery), None)
