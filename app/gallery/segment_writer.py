"""Writes a segment: sorts the vectors into lists by k-means, and measures how many lists a search must probe."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from app.gallery.segment import (
    CHUNK,
    EXACT_UP_TO,
    FIXED,
    FORMAT,
    HEADER_FILE,
    Header,
    Rows,
    Segment,
    digest_of,
    label_sums_of,
    open_segment,
    parts_of,
    row_sums,
    scores_of,
)
from app.store.base import GalleryContent
from model.distances import Vectors
from model.manifest import Metric

_RECALL = 0.995
#: Most vectors that k-means is trained on.
_SAMPLE = 100_000
#: Weight of a vector in a test query; the rest is another vector. That is as far from it as a hard real query.
_OWN = 0.6
_ROUNDS = 6


def write_segment(folder: Path, header: Header, content: GalleryContent, cluster: bool = True) -> Segment:
    """Write a segment to a new folder atomically, and open it. Without `cluster` it has one list."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".new-{folder.name}-", dir=folder.parent))
    try:
        order, list_starts, centroids = _arrange(content.vectors, cluster)
        arrays = _tables(content, order)
        arrays |= {"centroids": centroids, "list_starts": list_starts}
        _save_vectors(unfinished / "vectors.npy", content.vectors, order)
        stored = np.load(unfinished / "vectors.npy", mmap_mode="r")
        arrays["sums"] = np.concatenate([*(row_sums(part) for part in parts_of(stored)), np.empty(0, np.uint32)])
        for name, array in arrays.items():
            np.save(unfinished / f"{name}.npy", array)
        probes = _measure_probes(header.metric, stored, centroids, list_starts)
        header = replace(header, probes=probes)
        _seal(unfinished, header)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return open_segment(folder)


def _seal(folder: Path, header: Header) -> None:
    digests = {name: digest_of(folder / f"{name}.npy") for name in FIXED}
    (folder / HEADER_FILE).write_text(json.dumps({"format": FORMAT, **asdict(header), "digests": digests}))
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _tables(content: GalleryContent, order: Rows) -> dict[str, Any]:
    owners = content.owners[order]
    place_of_row = np.empty(len(order), np.int32)
    place_of_row[order] = np.arange(len(order), dtype=np.int32)
    encoded = [label.encode("utf-8", "surrogatepass") for label in content.labels]
    counts = np.bincount(content.owners, minlength=len(encoded)) if encoded else np.empty(0, np.int64)
    lengths = np.array([len(each) for each in encoded], dtype=np.int64)
    label_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return {
        "owners": owners.astype(np.int32),
        "class_ids": content.class_ids.astype(np.int64),
        "shot_starts": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "shots": place_of_row,  # the content is ordered by class and age
        "label_starts": label_starts,
        "labels": labels,
        "label_sums": label_sums_of(labels, label_starts),
        "by_label": np.array(sorted(range(len(encoded)), key=encoded.__getitem__), dtype=np.int32),
    }


def _save_vectors(path: Path, vectors: Vectors, order: Rows) -> None:
    shape = (len(order), vectors.shape[1])
    if not len(order):
        np.save(path, vectors)
        return
    target = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(order), CHUNK):
        target[start : start + CHUNK] = vectors[order[start : start + CHUNK]]
    target.flush()


def _arrange(vectors: Vectors, cluster: bool) -> tuple[Rows, Rows, Vectors]:
    """Return the order of the rows by list, the start of each list, and the lists' centres."""
    count = len(vectors)
    if not cluster or count < EXACT_UP_TO:
        return np.arange(count), np.array([0, count], dtype=np.int64), np.zeros((1, vectors.shape[1]), np.float32)
    lists = round(4 * count**0.5)
    means = faiss.Kmeans(
        vectors.shape[1], lists, niter=_ROUNDS, max_points_per_centroid=_SAMPLE // lists, min_points_per_centroid=1
    )
    means.train(vectors)
    centroids: Vectors = np.asarray(means.centroids)
    list_of = means.assign(vectors)[1]
    starts = np.concatenate([[0], np.cumsum(np.bincount(list_of, minlength=lists))]).astype(np.int64)
    return np.argsort(list_of, kind="stable"), starts, centroids


def _nearest_rows(metric: Metric, queries: Vectors, vectors: Vectors) -> Rows:
    """Return the row nearest to each query, in one exact pass over all rows."""
    if metric == "l1":
        return np.array([int(np.argmin(scores_of(metric, query, vectors, [(0, len(vectors))]))) for query in queries])
    best, rows = np.full(len(queries), np.inf, np.float32), np.zeros(len(queries), np.int64)
    for start in range(0, len(vectors), CHUNK):
        part = vectors[start : start + CHUNK]
        scores = -2 * (part @ queries.T)
        if metric == "l2":
            scores += np.einsum("nd,nd->n", part, part)[:, np.newaxis]
        nearest = scores.argmin(axis=0)
        found = scores[nearest, np.arange(len(queries))]
        rows[found < best] = start + nearest[found < best]
        best = np.minimum(best, found)
    return rows


def _measure_probes(metric: Metric, vectors: Vectors, centroids: Vectors, starts: Rows) -> int:
    """Return how many lists must be probed for the wanted recall, measured with distorted vectors as queries."""
    if len(starts) == 2:
        return 1
    chance = np.random.default_rng(1)
    places = chance.choice(len(vectors), (2, min(64 if metric == "l1" else 400, len(vectors) // 2)), replace=False)
    queries = _OWN * vectors[places[0]] + (1 - _OWN) * vectors[places[1]]
    if metric == "cosine":
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    best = _nearest_rows(metric, queries, vectors)
    nearness = queries @ centroids.T - (centroids**2).sum(axis=1) / 2
    of_best = np.searchsorted(starts, best, side="right") - 1
    ranks = (nearness > nearness[np.arange(len(best)), of_best][:, np.newaxis]).sum(axis=1)
    needed = int(np.quantile(ranks, _RECALL, method="higher")) + 1
    return int(min(len(centroids), max(8, 1.5 * needed)))  # a margin, because the sample is small
