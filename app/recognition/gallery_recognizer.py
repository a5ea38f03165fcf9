"""The use cases for a named gallery, each with the gallery's own model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from app.concurrency.thread_pool import WorkPool
from app.errors import ModelMismatchError
from app.gallery.protocol import Galleries
from app.inference.images import Upload
from app.recognition.batch import Batch
from app.recognition.maps import GalleryMap
from app.recognition.receipts import Row
from app.recognition.recognizer import Classification, Recognizer, Verification, Wanted
from app.recognition.running_models import Models
from app.store.base import EnrollOutcome, Once, OnConflict
from model.calibration import Calibration

P = ParamSpec("P")
T = TypeVar("T")
#: An answer, and the name of the model that computed it.
Answered: TypeAlias = tuple[T, str]

_TRIES = 3
_MOVING_SECONDS = 0.05


class GalleryRecognizer:
    """`Recognizer` for all galleries: each method calls that of the recogniser for the gallery's model.

    If a gallery switches its model meanwhile, the call is repeated once its view has the new model. All methods raise
    ModelMismatchError when the gallery's model is not installed, or the gallery keeps switching.
    """

    def __init__(self, models: Models, index: Galleries, searching: WorkPool) -> None:
        self._models, self._index, self._searching = models, index, searching

    async def enroll(
        self, gallery: str, label: str, upload: Upload, on_conflict: OnConflict, once: Once | None = None
    ) -> Answered[EnrollOutcome]:
        """See `Recognizer.enroll`."""
        return await self._answer(gallery, Recognizer.enroll, gallery, label, upload, on_conflict, once)

    async def enroll_many(
        self, gallery: str, batch: Batch, on_conflict: OnConflict, once: Once | None = None
    ) -> Answered[list[Row]]:
        """See `Recognizer.enroll_many`."""
        return await self._answer(gallery, Recognizer.enroll_many, gallery, batch, on_conflict, once)

    async def classify(
        self, upload: Upload, gallery: str, k: int, wanted: Wanted, why: bool
    ) -> Answered[Classification]:
        """See `Recognizer.classify`."""
        return await self._answer(gallery, Recognizer.classify, upload, gallery, k, wanted, why)

    async def verify(self, first: Upload, second: Upload, gallery: str, wanted: Wanted) -> Answered[Verification]:
        """See `Recognizer.verify`."""
        return await self._answer(gallery, Recognizer.verify, first, second, gallery, wanted)

    async def verify_class(self, image: Upload, gallery: str, label: str, wanted: Wanted) -> Answered[Verification]:
        """See `Recognizer.verify_class`."""
        return await self._answer(gallery, Recognizer.verify_class, image, gallery, label, wanted)

    async def calibration(self, gallery: str) -> Answered[Calibration]:
        """See `Recognizer.calibration`."""
        return await self._answer(gallery, Recognizer.calibration, gallery)

    async def calibrate(self, gallery: str, prior: float | None) -> Answered[Calibration]:
        """See `Recognizer.calibrate`."""
        return await self._answer(gallery, Recognizer.calibrate, gallery, prior)

    async def map(self, gallery: str, render: Callable[[GalleryMap, str], bytes]) -> Answered[bytes]:
        """See `Recognizer.map`."""
        return await self._answer(gallery, Recognizer.map, gallery, render)

    async def _answer(
        self,
        gallery: str,
        use_case: Callable[Concatenate[Recognizer, P], Awaitable[T]],
        *args: P.args,
        **options: P.kwargs,
    ) -> Answered[T]:
        for attempt in range(_TRIES):
            # first the model that the gallery was last known to have: the use case checks it
            known = None if attempt else self._models.last_seen(gallery)
            model = await self._searching.run(lambda: self._models.of(gallery)) if known is None else known
            try:
                return await use_case(model.recognizer, *args, **options), model.recognizer.model_id
            except ModelMismatchError:
                if attempt == _TRIES - 1:
                    raise
                while await self._searching.run(lambda: self._index.moving(gallery)):  # noqa: ASYNC110 - in a thread
                    await asyncio.sleep(_MOVING_SECONDS)
        raise AssertionError  # unreachable: the last attempt returns or raises
