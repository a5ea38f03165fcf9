"""Sharded galleries: each of several processes holds some of the classes, and together they answer as one index.

A part follows its share of the change log by itself. A question goes to all parts, together with the latest point of
the log that the asking process knows, and the answers are merged. All parts compute distances pair by pair with one
function, and ties are broken by label, so the nearest of the parts' nearest are the nearest of all.

The parts are at different points of the log. A commit during a question may be seen by some parts and not by others.
A commit before it that the asking process knows of is seen by all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from app.errors import ClassNotFoundError, OneshotError
from app.gallery.protocol import Edition, Found, Galleries, Match
from app.store.base import GalleryInfo, Ids, Store
from model.distances import Vectors
from model.manifest import Metric

#: How long a part's report on an unreachable store counts. Within this time there is a new one, or the store is back.
_HEARD_SECONDS = 2.0


@dataclass(frozen=True)
class Question:
    """A method of `Galleries`, its arguments, and the point of the log that the part's view must have reached."""

    method: str
    arguments: tuple[Any, ...] = ()
    seq: int = 0


@dataclass(frozen=True)
class Told:
    """A part's result or error, and for how many seconds its view may be out of date."""

    value: Any = None
    error: OneshotError | ValueError | None = None
    age: float = 0.0


class Scatter(Protocol):
    """Sends a question to the parts, to all at once. Blocks. Raises UnavailableError when one does not answer."""

    def __call__(self, question: Question, parts: Sequence[int] | None = None) -> list[Told]:
        """Return the answers of all parts, or of the given ones, in order."""


class ShardView:
    """One part of the galleries. `answer` may be called from any thread."""

    def __init__(self, galleries: Galleries) -> None:
        self._galleries = galleries

    def answer(self, question: Question) -> Told:
        """Answer the question from a view that has reached its point of the log, unless the store is unavailable."""
        try:
            self._galleries.reaches(question.seq)
            value = getattr(self._galleries, question.method)(*question.arguments)
        except (OneshotError, ValueError) as error:
            return Told(error=error, age=self._galleries.age())
        return Told(value, age=self._galleries.age())


class ShardedGalleries:
    """A `Galleries` of `count` parts, whose views are in other processes.

    `store` is that of this process; every question sees its writes.
    """

    def __init__(self, scatter: Scatter, count: int, store: Store) -> None:
        self._scatter, self._count, self._store = scatter, count, store
        self._known = 0  # the latest point of the log that callers asked for
        self._digests: dict[str, str] = {}
        self._ages: list[tuple[float, float]] = [(0.0, 0.0)] * count  # of each part: its age, and when it was reported

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self, method: str, *arguments: Any, parts: Sequence[int] | None = None) -> list[Told]:
        question = Question(method, arguments, max(self._known, self._store.written()))
        told, now = self._scatter(question, parts), time.monotonic()
        for part, each in zip(range(self._count) if parts is None else parts, told, strict=True):
            self._ages[part] = each.age, now
        return told

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        """Return the answers of all parts; raises the first error."""
        return [_value(told) for told in self._ask(method, *arguments)]

    def _first(self, method: str, *arguments: Any) -> Any:
        """Ask one part for something that all parts know."""
        [told] = self._ask(method, *arguments, parts=[0])
        return _value(told)

    # -- how far the views have come ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """See `Galleries.refresh`."""
        self._all("refresh")

    def reaches(self, seq: int) -> bool:
        """See `Galleries.reaches`."""
        if seq > self._known:
            if not all(self._all("reaches", seq)):
                return False
            self._known = max(self._known, seq)  # a process that replaces a part's must reach it too
        return True

    def age(self) -> float:
        """See `Galleries.age`: that of the oldest view, by the latest reports."""
        now = time.monotonic()
        told = [age + now - at for age, at in self._ages if age and now - at < _HEARD_SECONDS]
        return max([self._store.age(), *told])

    # -- reading ---------------------------------------------------------------------------------------------

    def find(self, gallery: str, query: Vectors, k: int, digest: str | None = None) -> Found:
        """See `Galleries.find`."""
        told: list[Found] = self._all("find", gallery, query, k, digest)
        if digest is not None:
            self._digests[gallery] = digest
        return Found(_nearest(told, k), sum(each.size for each in told), told[0].calibration)

    def find_at_once(self, *_question: object) -> None:
        """See `Galleries.find_at_once`: always None, since the parts are elsewhere."""
        return

    def vectors(self, gallery: str, label: str, digest: str | None = None) -> Vectors:
        """See `Galleries.vectors`: only one part has the class."""
        told = self._ask("vectors", gallery, label, digest)
        present = [each for each in told if not isinstance(each.error, ClassNotFoundError)]
        vectors: Vectors = _value((present or told)[0])
        return vectors

    def sample(self, gallery: str, limit: int, digest: str | None = None) -> tuple[list[str], Vectors, Metric]:
        """See `Galleries.sample`."""
        told: list[tuple[list[str], Vectors, Metric]] = self._all("sample", gallery, limit, digest)
        labels = [label for each in told for label in each[0]]
        vectors = np.concatenate([each[1] for each in told if each[0]] or [told[0][1]])
        chosen = np.arange(min(limit, len(labels))) * len(labels) // max(1, min(limit, len(labels)))
        return [labels[place] for place in chosen.tolist()], vectors[chosen], told[0][2]

    def labelled(self, gallery: str, digest: str | None = None) -> tuple[Vectors, Ids]:
        """See `Galleries.labelled`."""
        told: list[tuple[Vectors, Ids]] = self._all("labelled", gallery, digest)
        return np.concatenate([each[0] for each in told]), np.concatenate([each[1] for each in told])

    def info(self, gallery: str) -> GalleryInfo:
        """See `Galleries.info`."""
        info: GalleryInfo = self._first("info", gallery)
        self._digests[gallery] = info.model_digest
        return info

    def last_digest(self, gallery: str) -> str | None:
        """See `Galleries.last_digest`."""
        return self._digests.get(gallery)

    def digest(self, gallery: str) -> str | None:
        """See `Galleries.digest`."""
        digest: str | None = self._first("digest", gallery)
        if digest is None:
            self._digests.pop(gallery, None)
        else:
            self._digests[gallery] = digest
        return digest

    def size(self, gallery: str) -> int:
        """See `Galleries.size`."""
        return sum(self._all("size", gallery))

    def sizes(self) -> dict[str, int]:
        """See `Galleries.sizes`."""
        told: list[dict[str, int]] = self._all("sizes")
        names = sorted({name for each in told for name in each})
        return {name: sum(each.get(name, 0) for each in told) for name in names}

    def edition(self, gallery: str) -> Edition:
        """See `Galleries.edition`."""
        return tuple(self._all("edition", gallery))

    def moving(self, gallery: str) -> bool:
        """See `Galleries.moving`: also true while the parts have different models."""
        digests = set(self._all("digest", gallery))
        return len(digests) > 1 or any(self._all("moving", gallery))

    def prepare(self, gallery_id: int, name: str, digest: str) -> None:
        """See `Galleries.prepare`."""
        self._all("prepare", gallery_id, name, digest)


def _value(told: Told) -> Any:
    if told.error is not None:
        raise told.error
    return told.value


def _nearest(told: Iterable[Found], k: int) -> list[Match]:
    """Return the `k` nearest of all. Two parts may both know a label that changes class; the nearer one counts."""
    matches = sorted((match for each in told for match in each.matches), key=lambda it: (it.distance, it.label))
    first: dict[str, Match] = {}
    for match in matches:
        first.setdefault(match.label, match)
    return list(islice(first.values(), k))
