"""Answers to enrolments as they are kept for a request that is sent again, and as they are made of that again.

Nothing is kept that names somebody, as labels and files do: the request brings that again.
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
    """What became of one image of a batch: the status of its answer, and of a problem its slug and a text."""

    status: int
    problem: str | None = None
    detail: str | None = None


def row_of(result: Result) -> Row:
    """The row that tells the result."""
    if isinstance(result, OneshotError):
        return Row(result.status, result.slug, result.detail if result.public else result.title)
    return Row(201 if result.created else 200)


def write_one(outcome: EnrollOutcome) -> str:
    """What is kept of the answer to one image."""
    record = outcome.class_record
    times = record.created_at.isoformat(), record.updated_at.isoformat()
    return json.dumps([outcome.created, record.supports, *times])


def read_one(text: str, gallery: str, label: str) -> EnrollOutcome:
    """The answer of which this was kept."""
    created, shots, created_at, updated_at = json.loads(text)
    times = datetime.fromisoformat(created_at), datetime.fromisoformat(updated_at)
    return EnrollOutcome(ClassRecord(gallery, label, shots, *times), created)


def write_rows(results: Mapping[int, Result]) -> str:
    """What is kept of the answer to a batch, given by the places of its images."""
    kept = [_write_row(results[place]) for place in range(len(results))]
    return b85encode(zlib.compress(json.dumps(kept).encode())).decode()  # a thousand rows are much alike


def _write_row(result: Result) -> list[int | str | None]:
    row = row_of(result)
    return [row.status, row.problem, _nameless(result)] if isinstance(result, OneshotError) else [row.status]


def _nameless(error: OneshotError) -> str | None:
    """The text of a problem without what it is about; None for one that is about a label."""
    if isinstance(error, ClassExistsError | InvalidRequestError):
        return None
    field = getattr(error, "field", None)
    return error.detail.removeprefix(f"{field}: ") if error.public else error.title


def read_rows(text: str, batch: Batch) -> list[Row]:
    """The answer of which this was kept, given the same batch."""
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
