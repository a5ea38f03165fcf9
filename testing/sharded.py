"""Sharded galleries with all shards in this process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from app.gallery.protocol import Galleries
from app.gallery.sharding import Question, ShardView, Told
from app.store import SqlStore
from app.store.shard_key import Part

T = TypeVar("T")


class Parts:
    """The views of all shards of one store; questions and answers are pickled, as between processes."""

    def __init__(self, where: Path | str, count: int, open_: Callable[[SqlStore, int], Galleries]) -> None:
        self._undo = ExitStack()
        self._views: list[ShardView] = []
        for number in range(count):
            store = SqlStore(where, kept=Part(number, count))
            self._undo.callback(store.close)
            self._views.append(ShardView(open_(store, number)))

    def __call__(self, question: Question, parts: Sequence[int] | None = None) -> list[Told]:
        """Put the question to the given parts, or to all."""
        views = self._views if parts is None else [self._views[part] for part in parts]
        return [_copy(view.answer(_copy(question))) for view in views]

    def close(self) -> None:
        """Close their stores."""
        self._undo.close()


def _copy(value: T) -> T:
    copied: T = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
    return copied
