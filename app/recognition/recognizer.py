"""The use cases: enrol, classify, verify, embed, list, remove. Does not depend on HTTP.

An image is decoded and prepared in a thread, embedded in a shared forward pass, and compared in a thread. The event
loop only waits. The gallery `default` always exists; until the first enrolment into it, it is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from app.concurrency.thread_pool import Pools
from app.errors import (
    ClassNotFoundError,
    GalleryNotFoundError,
    InferenceError,
    InvalidRequestError,
    ModelMismatchError,
    OneshotError,
    TooManyPixelsError,
)
from app.gallery.protocol import Found, Galleries
from app.inference.images import EmbeddedImage, PreparedImage, Upload
from app.inference.prepare import prepare, prepare_again
from app.inference.protocols import Network, Queue
from app.names import DEFAULT_GALLERY
from app.recognition.batch import Batch
from app.recognition.bulk_enrol import ManyImages, enroll_each, enroll_each_once, enroll_one, in_parts
from app.recognition.calibrations import Calibrations
from app.recognition.decision import (
    Decision,
    Explanation,
    PairThreshold,
    decide,
    explain,
    gallery_threshold,
    pair_threshold,
)
from app.recognition.maps import GalleryMap, Maps, draw_map
from app.recognition.receipts import Row, read_one, read_rows, row_of
from app.store.base import ClassPage, ClassRecord, EnrollOutcome, GalleryRecord, NewSupport, Once, OnConflict, Store
from app.telemetry.logs import get_logger
from app.telemetry.tracing import span
from model import images
from model.calibration import Calibration, UnsupportedRateError
from model.distances import Vectors, distances

log = get_logger(__name__)

#: An image of at most this many bytes and pixels is decoded in less time than a thread takes to wake up.
_SMALL_BYTES = 16_384
_SMALL = images.ImageLimits(max_pixels=128 * 128)
#: Small images prepared in one turn of the event loop.
_A_TURN = 8


@dataclass(frozen=True)
class Wanted:
    """The caller's options for a decision: a rate (FMR or FPIR) or a threshold, not both; and the prior, if given."""

    rate: float | None = None
    threshold: float | None = None
    prior: float | None = None


@dataclass(frozen=True)
class Classification:
    """A decision, the prior of its similarities, and an explanation if requested."""

    decision: Decision
    prior: float
    explanation: Explanation | None


@dataclass(frozen=True)
class Verification:
    """Whether two images match, the evidence, and the expected error rates."""

    verified: bool
    similarity: float
    distance: float
    llr: float
    at: PairThreshold
    prior: float


@contextmanager
def _default_is_empty(gallery: str, label: str) -> Iterator[None]:
    try:
        yield
    except GalleryNotFoundError:
        if gallery == DEFAULT_GALLERY:
            raise ClassNotFoundError(gallery, label) from None
        raise


@contextmanager
def _rates_are_inputs(name: str) -> Iterator[None]:
    """Turn a rate that the calibration's data can't support into an invalid query parameter."""
    try:
        yield
    except UnsupportedRateError as error:
        raise InvalidRequestError.at("query", name, message=str(error), kind="unsupported_rate") from error


class Recognizer:
    """The use cases with one model, one store and its index."""

    def __init__(
        self,
        *,
        embedder: Network,
        batcher: Queue,
        store: Store,
        index: Galleries,
        pools: Pools,
        maps: Maps,
        limits: images.ImageLimits,
        keep_images: bool = True,
    ) -> None:
        self._embedder = embedder
        self._calibrations = Calibrations(store, index, embedder.manifest)
        self._digest = embedder.digest
        self._batcher = batcher
        self._store = store
        self._index = index
        self._decoding, self._computing = pools.decoding, pools.computing
        self._storing, self._writing, self._searching = pools.storing, pools.writing, pools.searching
        self._maps = maps
        self._limits = limits
        self._keep_images = keep_images
        self._turns = asyncio.Semaphore(_A_TURN)
        self._many = ManyImages(self._prepare, batcher, pools.decoding)
        self._stored = ManyImages(partial(prepare_again, embedder, limits), batcher, pools.decoding)

    @property
    def model_id(self) -> str:
        """Name and short digest of the model."""
        return self._embedder.model_id

    def check_room(self) -> None:
        """Raise OverloadedError when one more image would be refused now."""
        self._batcher.check_room(1)

    # -- images --------------------------------------------------------------------------------------------

    async def embed(self, uploads: Sequence[Upload]) -> Vectors:
        """Index-form vectors (n, D) of the images. Raises BadImageError, naming the field, for the first bad one."""
        return (await self._embed(uploads))[0]

    async def _embed(self, uploads: Sequence[Upload]) -> tuple[Vectors, list[PreparedImage]]:
        with self._batcher.expect(len(uploads)):  # don't decode images that would be refused
            prepared = await self._prepared(uploads)
            vectors = await self._batcher.embed([each.pixels for each in prepared])
        if not np.isfinite(vectors).all():
            raise InferenceError("the network made a vector that is not finite")
        return vectors, prepared

    async def classify(self, upload: Upload, gallery: str, k: int, wanted: Wanted, why: bool) -> Classification:
        """Find the image's class in the gallery; with `why`, how unusual it is. Raises GalleryNotFoundError."""
        [query] = await self.embed([upload])
        most = max(k, 2)  # at least the runner-up, which decides whether the best is ambiguous
        found = self._index.find_at_once(gallery, query, most, self._digest)
        if found is not None:
            return self._classify(found, k, wanted, why)
        return await self._searching.run(lambda: self._classify(self._find(gallery, query, most), k, wanted, why))

    async def verify(self, first: Upload, second: Upload, gallery: str, wanted: Wanted) -> Verification:
        """Whether two images are of the same class, by the gallery's calibration."""
        calibration = await self._searching.run(lambda: self._calibrations.of(gallery, wanted.prior))
        if (digest := self._index.last_digest(gallery) or self._digest) != self._digest:  # it has just switched
            raise ModelMismatchError(gallery, digest, self._digest)
        vectors = await self.embed([first, second])
        return self._verification(vectors[:1], vectors[1:], calibration, wanted)

    async def verify_class(self, image: Upload, gallery: str, label: str, wanted: Wanted) -> Verification:
        """Whether an image is of an enrolled class, by the nearest of its shots."""
        with _default_is_empty(gallery, label):  # before the image is decoded
            supports = await self._searching.run(lambda: self._index.vectors(gallery, label, self._digest))
        calibration = await self._searching.run(lambda: self._calibrations.of(gallery, wanted.prior))
        return self._verification(await self.embed([image]), supports, calibration, wanted)

    # -- calibrations --------------------------------------------------------------------------------------

    async def calibration(self, gallery: str) -> Calibration:
        """The calibration of the gallery's similarities. Raises GalleryNotFoundError."""
        return await self._searching.run(lambda: self._calibrations.of(gallery))

    async def calibrate(self, gallery: str, prior: float | None) -> Calibration:
        """Fit the gallery's calibration to its own images. Raises GalleryNotFoundError, TooLittleDataError."""
        return await self._computing.write(lambda: self._calibrations.fit(gallery, prior))

    async def forget_calibration(self, gallery: str) -> None:
        """Return to the model's calibration. Raises GalleryNotFoundError."""
        await self._writing.write(lambda: self._calibrations.forget(gallery))

    # -- classes and galleries -----------------------------------------------------------------------------

    async def enroll(
        self, gallery: str, label: str, upload: Upload, on_conflict: OnConflict, once: Once | None = None
    ) -> EnrollOutcome:
        """Enrol one image. When this returns, the enrolment is durable and visible to every later request.

        With `once`, a repeated request is not done again.
        """
        if (before := await self._answered(once)) is not None:
            return read_one(before, gallery, label)
        [vector], [image] = await self._embed([upload])
        support = self._support(label, upload, EmbeddedImage(vector, image.media_type))
        return await self._writing.write(partial(enroll_one, self._store, gallery, support, on_conflict, once))

    async def enroll_many(
        self, gallery: str, batch: Batch, on_conflict: OnConflict, once: Once | None = None
    ) -> list[Row]:
        """Enrol many images in one commit. Return the result of each, in order. A bad image does not affect others.

        With `once`, a repeated request is not done again.
        """
        if (before := await self._answered(once)) is not None:
            async with aclosing(batch.parts(self._many.part)) as parts:
                async for _ in parts:
                    pass
            return read_rows(before, batch)
        made: dict[int, NewSupport] = {}
        async with aclosing(batch.parts(self._many.part)) as parts, aclosing(self._many.embed_parts(parts)) as done:
            async for part in done:
                for place, upload, each in part:
                    if isinstance(each, OneshotError):
                        batch.refuse(place, each)
                    else:
                        made[place] = self._support(str(batch.labels[place]), upload, each)
        items = [item if isinstance(item, OneshotError) else made[place] for place, item in enumerate(batch.items)]
        how = (gallery, items, on_conflict)
        if once is None:
            enroll = partial(enroll_each, self._store, *how, keep_all=batch.keep_all)
            return [row_of(result) for result in await self._writing.write(enroll)]
        enroll_once = partial(enroll_each_once, self._store, once, *how, keep_all=batch.keep_all)
        return read_rows(await self._writing.write(enroll_once), batch)

    async def _answered(self, once: Once | None) -> str | None:
        """The receipt of a request that was done before, to avoid embedding its images again."""
        return None if once is None else await self._storing.run(lambda: self._store.answered(once))

    async def embed_stored(self, pictures: Sequence[bytes]) -> Vectors:
        """Index-form vectors (n, D) of images that were accepted before. Raises the first error, if any fails."""
        vectors: list[Vectors] = []
        for each in await self._stored.embed([Upload(data, "image") for data in pictures]):
            if isinstance(each, OneshotError):
                raise each
            vectors.append(each.vector)
        return np.stack(vectors)

    async def get_class(self, gallery: str, label: str) -> ClassRecord:
        """One class."""
        with _default_is_empty(gallery, label):
            return await self._storing.run(lambda: self._store.get_class(gallery, label))

    async def list_classes(self, gallery: str, limit: int, after: str | None, search: str | None) -> ClassPage:
        """One page of a gallery's classes, or of those whose label contains `search`."""
        return await self._storing.run(lambda: self._list_classes(gallery, limit, after, search))

    async def read_image(self, gallery: str, label: str, shot: int) -> tuple[bytes, str]:
        """An enrolled image as it was uploaded, and its media type."""
        with _default_is_empty(gallery, label):
            return await self._storing.run(lambda: self._store.read_image(gallery, label, shot))

    async def remove_class(self, gallery: str, label: str) -> None:
        """Delete a class and all its data."""
        with _default_is_empty(gallery, label):
            await self._writing.write(lambda: self._remove(lambda: self._store.remove_class(gallery, label)))

    async def rename_class(self, gallery: str, label: str, new_label: str) -> ClassRecord:
        """Give a class another label. Raises ClassExistsError when it is taken."""
        with _default_is_empty(gallery, label):
            return await self._writing.write(lambda: self._store.rename_class(gallery, label, new_label))

    async def map(self, gallery: str, render: Callable[[GalleryMap, str], bytes]) -> bytes:
        """Return the map of the gallery's classes in two dimensions, rendered by `render` with the model's name.

        Cached until the gallery changes. Raises GalleryNotFoundError, ModelMismatchError.
        """
        draw = partial(draw_map, self._index, self._calibrations, self._embedder, gallery)
        return await self._maps.get(gallery, self._digest, lambda: render(draw(), self.model_id))

    async def list_galleries(self) -> list[GalleryRecord]:
        """All galleries."""
        return await self._storing.run(self._store.list_galleries)

    async def remove_gallery(self, gallery: str) -> None:
        """Delete a gallery and all its data."""
        await self._writing.write(lambda: self._remove(lambda: self._store.remove_gallery(gallery)))

    # -- what runs in threads ------------------------------------------------------------------------------

    async def _prepared(self, uploads: Sequence[Upload]) -> list[PreparedImage]:
        # few in one turn of the loop, so that a busy loop still serves its connections and refuses in time
        await self._turns.acquire()
        asyncio.get_running_loop().call_soon(self._turns.release)
        if (here := self._prepare_small(uploads)) is not None:
            return here
        parts = list(in_parts(uploads))
        prepared = await self._decoding.map(lambda part: [self._prepare(upload) for upload in part], parts)
        return [image for part in prepared for image in part]

    def _prepare_small(self, uploads: Sequence[Upload]) -> list[PreparedImage] | None:
        """Prepare a single small image here, because a thread would take longer. None for all others."""
        if len(uploads) > 1 or len(uploads[0].data) > _SMALL_BYTES or not images.is_quick(uploads[0].data):
            return None
        if self._limits.max_pixels < _SMALL.max_pixels:
            return None
        try:
            with span("decode"):
                return [self._prepare(uploads[0], _SMALL)]
        except TooManyPixelsError:
            return None

    def _prepare(self, upload: Upload, limits: images.ImageLimits | None = None) -> PreparedImage:
        return prepare(self._embedder, limits or self._limits, upload)

    def _find(self, gallery: str, query: Vectors, k: int) -> Found:
        try:
            return self._index.find(gallery, query, k, self._digest)
        except GalleryNotFoundError:
            if gallery != DEFAULT_GALLERY:
                raise
            return Found([], 0, None)

    def _classify(self, found: Found, k: int, wanted: Wanted, why: bool) -> Classification:
        calibration = self._calibrations.read(found.calibration, wanted.prior)
        with _rates_are_inputs("fpir"):
            at = gallery_threshold(calibration, found.size, fpir=wanted.rate, threshold=wanted.threshold)
        decision = decide(found.matches, calibration, at)
        explanation = explain(decision, calibration) if why else None
        decision = replace(decision, candidates=decision.candidates[:k])
        return Classification(decision, calibration.prior, explanation)

    def _verification(
        self, query: Vectors, supports: Vectors, calibration: Calibration, wanted: Wanted
    ) -> Verification:
        with _rates_are_inputs("fmr"):
            at = pair_threshold(calibration, fmr=wanted.rate, threshold=wanted.threshold)
        distance = float(distances(self._embedder.metric, query, supports).min())
        return Verification(
            verified=calibration.similarity(distance) >= at.threshold,
            similarity=calibration.similarity(distance),
            distance=distance,
            llr=calibration.likelihood_ratio.of(distance),
            at=at,
            prior=calibration.prior,
        )

    def _remove(self, remove: Callable[[], None]) -> None:
        remove()
        try:
            self._index.refresh()  # before the answer, so that the index's files no longer have it either
        except OneshotError as error:  # it is deleted anyway; the next request's refresh updates the index
            log.warning("index_not_refreshed", reason=error.detail)

    def _support(self, label: str, upload: Upload, embedded: EmbeddedImage) -> NewSupport:
        image = upload.data if self._keep_images else None
        return NewSupport(label, image, embedded.media_type, embedded.vector, self._digest)

    def _list_classes(self, gallery: str, limit: int, after: str | None, search: str | None) -> ClassPage:
        try:
            return self._store.list_classes(gallery, limit, after, search)
        except GalleryNotFoundError:
            if gallery != DEFAULT_GALLERY:
                raise
            return ClassPage([], None)
