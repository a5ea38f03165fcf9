"""Serialises answers to enrolments, for requests that are repeated, and restores them.

No label or file name is stored, because these may name a person. The repeated request contains them.
"""

from __future__ import annotations

import json
import zlib
from base64 import b85decode, b85encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from app.errors import ClassExistsError, InvalidRequestError, OneshotError
from app.recognition.batch import Batch
from app.store.base import ClassRecord, EnrollOutcome

Result: TypeAlias = EnrollOutcome | OneshotError


@dataclass(frozen=True)
class Row:
    """The result of one image in a batch: the status of its answer and, for a problem, its slug and a text."""

    status: int
    problem: str | None = None
    detail: str | None = None


def row_of(result: Result) -> Row:
    """The row for a result."""
    if isinstance(result, OneshotError):
        return Row(result.status, result.slug, result.detail if result.public else result.title)
    return Row(201 if result.created else 200)


def write_one(outcome: EnrollOutcome) -> str:
    """Serialise the answer to one image."""
    record = outcome.class_record
    times = record.created_at.isoformat(), record.updated_at.isoformat()
    return json.dumps([outcome.created, record.supports, *times])


def read_one(text: str, gallery: str, label: str) -> EnrollOutcome:
    """Restore the answer from `write_one`."""
    created, shots, created_at, updated_at = json.loads(text)
    times = datetime.fromisoformat(created_at), datetime.fromisoformat(updated_at)
    return EnrollOutcome(ClassRecord(gallery, label, shots, *times), created)


def write_rows(results: Mapping[int, Result]) -> str:
    """Serialise the answer to a batch, given as results by place."""
    kept = [_write_row(results[place]) for place in range(len(results))]
    return b85encode(zlib.compress(json.dumps(kept).encode())).decode()  # the rows are similar and compress well


def _write_row(result: Result) -> list[int | str | None]:
    row = row_of(result)
    return [row.status, row.problem, _nameless(result)] if isinstance(result, OneshotError) else [row.status]


def _nameless(error: OneshotError) -> str | None:
    """The text of a problem without its field; None for a problem about a label."""
    if isinstance(error, ClassExistsError | InvalidRequestError):
        return None
    field = getattr(error, "field", None)
    return error.detail.removeprefix(f"{field}: ") if error.public else error.title


def read_rows(text: str, batch: Batch) -> list[Row]:
    """Restore the answer from `write_rows`, given the same batch."""
    rows = json.loads(zlib.decompress(b85decode(text)))
    return [_read_row(batch, place, *kept) for place, kept in enumerate(rows)]


def _read_row(batch: Batch, place: int, status: int, problem: str | None = None, detail: str | None = None) -> Row:
    if problem is None:
        return Row(status)
    item, label = batch.items[place], batch.labels[place]
    if isinstance(item, OneshotError) and item.slug == problem:
        return row_of(item)
    if problem == ClassExistsError.slug and label is not None:
        return row_of(ClassExistsError([label]))
    field = f"image[{place}]" if isinstance(item, OneshotError) else item[1].field
    return Row(status, problem, f"{field}: {detail}")
