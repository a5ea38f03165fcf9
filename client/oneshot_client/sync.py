# Generated from asynchronous.py by `make client`. Change that file, not this one.
"""The client. It is written once, for asyncio: `make client` generates sync.py, the same without `async`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

import httpx

from oneshot_client import calls
from oneshot_client.answers import (
    BatchPublic,
    CalibrationPublic,
    ClassifyPublic,
    ClassPage,
    ClassPublic,
    EmbedPublic,
    EnrollPublic,
    GalleryPublic,
    ModelPublic,
    VerifyPublic,
)
from oneshot_client.bulk import Outcome, run_many
from oneshot_client.calls import DEFAULT_URL, Call, OnConflict
from oneshot_client.errors import UnreachableError, error_of
from oneshot_client.proxies import proxy_for
from oneshot_client.retry import Retry, retry_after
from oneshot_client.sources import ImageSource
from oneshot_client.versions import LastWrite
from oneshot_client.wire import DEFAULT_GALLERY

T = TypeVar("T")


class Client:
    """The service at `url`. Keeps its connections until `close`, or the end of a block that it was opened for.

    One client may be shared by all threads (`Client`) or tasks (`AsyncClient`) of a program.

    Every method raises a subclass of ClientError (oneshot_client.errors), OSError for a file that can't be read, and
    ValueError for an image that can't be encoded. `timeout` is in seconds for each step of a request; `transport`
    replaces the network, and with it the proxies that the environment names.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        retry: Retry | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        transport = transport or httpx.HTTPTransport(proxy=proxy_for(url))
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url
        self._retry = retry or Retry()
        self._written = LastWrite()
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- recognise -----------------------------------------------------------------------------------------

    def enroll(
        self,
        label: str,
        image: ImageSource,
        *,
        gallery: str = DEFAULT_GALLERY,
        on_conflict: OnConflict = "replace",
        idempotency_key: str | None = None,
    ) -> EnrollPublic:
        """Enrol one image of a class. `on_conflict`: `replace` the class, `add` to it, or `fail` with ConflictError.

        To do this again, in another process too, without doing it twice, give the same `idempotency_key`.
        """
        return self._send(calls.enroll(label, image, gallery, on_conflict, idempotency_key))

    def classify(
        self,
        image: ImageSource,
        *,
        gallery: str = DEFAULT_GALLERY,
        k: int | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        prior: float | None = None,
        explain: bool | None = None,
    ) -> ClassifyPublic:
        """Name the class of an image; `label` is None for a stranger. What is not given is the service's default."""
        params = {"gallery": gallery, "k": k, "fpir": fpir, "threshold": threshold, "prior": prior, "explain": explain}
        return self._send(calls.classify(image, params))

    def verify(
        self,
        image1: ImageSource,
        image2: ImageSource | None = None,
        *,
        label: str | None = None,
        gallery: str = DEFAULT_GALLERY,
        fmr: float | None = None,
        threshold: float | None = None,
        prior: float | None = None,
    ) -> VerifyPublic:
        """Tell whether two images, or an image and the class `label`, are the same."""
        params = {"gallery": gallery, "fmr": fmr, "threshold": threshold, "prior": prior}
        return self._send(calls.verify(image1, image2, label, params))

    def embed(self, images: Sequence[ImageSource]) -> EmbedPublic:
        """Turn images into vectors."""
        return self._send(calls.embed(images))

    # -- many at a time ------------------------------------------------------------------------------------

    def enroll_batch(
        self,
        items: Sequence[tuple[str, ImageSource]],
        *,
        gallery: str = DEFAULT_GALLERY,
        on_conflict: OnConflict = "replace",
        idempotency_key: str | None = None,
    ) -> BatchPublic:
        """Enrol pairs of label and image with one request and one commit, the fastest way; each has its own status."""
        return self._send(calls.enroll_batch(items, gallery, on_conflict, idempotency_key))

    def enroll_zip(
        self,
        archive: bytes | str | PathLike[str],
        *,
        gallery: str = DEFAULT_GALLERY,
        on_conflict: OnConflict = "replace",
        idempotency_key: str | None = None,
    ) -> BatchPublic:
        """Enrol the images in a zip file (its bytes or its path) with one request and one commit.

        The classes are those that `oneshot enroll` makes of the folder in it: the outermost folder's name, or, for an
        image in no folder, its file's without the ending. Several images of a class are all kept.
        """
        return self._send(calls.enroll_zip(archive, gallery, on_conflict, idempotency_key))

    def enroll_many(
        self,
        items: Iterable[tuple[str, ImageSource]],
        *,
        gallery: str = DEFAULT_GALLERY,
        on_conflict: OnConflict = "replace",
        concurrency: int = 8,
    ) -> Iterator[Outcome[tuple[str, ImageSource], EnrollPublic]]:
        """Enrol pairs of label and image, up to `concurrency` at once; one outcome for each, in order.

        Items of one label may overtake each other: where a label comes twice, use `add`.
        """

        def one(item: tuple[str, ImageSource]) -> EnrollPublic:
            return self.enroll(*item, gallery=gallery, on_conflict=on_conflict)

        return run_many(one, items, concurrency)

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        gallery: str = DEFAULT_GALLERY,
        k: int | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        prior: float | None = None,
        explain: bool | None = None,
        concurrency: int = 8,
    ) -> Iterator[Outcome[ImageSource, ClassifyPublic]]:
        """Classify images, up to `concurrency` at once; one outcome for each, in order."""

        def one(image: ImageSource) -> ClassifyPublic:
            return self.classify(
                image, gallery=gallery, k=k, fpir=fpir, threshold=threshold, prior=prior, explain=explain
            )

        return run_many(one, images, concurrency)

    # -- classes and galleries -----------------------------------------------------------------------------

    def list_classes(
        self,
        gallery: str = DEFAULT_GALLERY,
        *,
        limit: int = 100,
        after: str | None = None,
        search: str | None = None,
    ) -> ClassPage:
        """One page of a gallery's classes in the order of their labels, of those that contain `search` if given."""
        return self._send(calls.list_classes(gallery, limit, after, search))

    def classes(self, gallery: str = DEFAULT_GALLERY, *, search: str | None = None) -> Iterator[ClassPublic]:
        """All classes of a gallery, or all whose label contains `search`, fetched page by page."""
        page = self.list_classes(gallery, limit=1000, search=search)
        for item in page.classes:
            yield item
        while page.next is not None:
            page = self.list_classes(gallery, limit=1000, after=page.next, search=search)
            for item in page.classes:
                yield item

    def get_class(self, label: str, gallery: str = DEFAULT_GALLERY) -> ClassPublic:
        """One class."""
        return self._send(calls.get_class(label, gallery))

    def class_image(self, label: str, gallery: str = DEFAULT_GALLERY, *, shot: int = 0) -> bytes:
        """An enrolled image as it was uploaded."""
        return self._send(calls.class_image(label, gallery, shot))

    def rename_class(self, label: str, new: str, gallery: str = DEFAULT_GALLERY) -> ClassPublic:
        """Give a class another label; its images stay. ConflictError when a class of that label exists."""
        return self._send(calls.rename_class(label, new, gallery))

    def delete_class(self, label: str, gallery: str = DEFAULT_GALLERY) -> None:
        """Delete a class with its images and vectors."""
        self._send(calls.delete_class(label, gallery))

    def galleries(self) -> list[GalleryPublic]:
        """All galleries."""
        return (self._send(calls.galleries())).galleries

    def delete_gallery(self, gallery: str) -> None:
        """Delete a gallery with all its classes."""
        self._send(calls.delete_gallery(gallery))

    def calibration(self, gallery: str = DEFAULT_GALLERY) -> CalibrationPublic:
        """What the gallery's similarities mean."""
        return self._send(calls.calibration(gallery))

    def calibrate(self, gallery: str = DEFAULT_GALLERY, *, prior: float | None = None) -> CalibrationPublic:
        """Fit the gallery's similarities to its own images."""
        return self._send(calls.calibrate(gallery, prior))

    def forget_calibration(self, gallery: str = DEFAULT_GALLERY) -> None:
        """Go back to the model's calibration."""
        self._send(calls.forget_calibration(gallery))

    def model(self) -> ModelPublic:
        """What is running."""
        return self._send(calls.model())

    def ready(self) -> bool:
        """Whether the service is there and takes requests now."""
        try:
            return (self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait for a service that is starting. Raises UnreachableError when it isn't ready in time."""
        end = monotonic() + seconds
        while not self.ready():
            if monotonic() > end:
                raise UnreachableError(f"{self.url} is not ready after {seconds:g} seconds")
            sleep(0.1)

    # -- the wire ------------------------------------------------------------------------------------------

    def _send(self, call: Call[T]) -> T:
        failures = 0
        while True:
            try:
                response = self._http.request(**self._written.arguments(call))
            except httpx.TransportError as error:
                failures += 1
                pause = self._retry.pause_unanswered(failures, error, keyed=call.key is not None)
                if pause is None:
                    raise UnreachableError(f"no answer from {self.url}: {error or type(error).__name__}") from error
                sleep(pause)
                continue
            if response.is_success:
                self._written.note(response)
                return call.read(response)
            if self._written.forget_unknown(response):
                continue
            failures += 1
            pause = self._retry.pause(failures, response, keyed=call.key is not None)
            if pause is None:
                raise error_of(response, retry_after(response.headers))
            sleep(pause)
