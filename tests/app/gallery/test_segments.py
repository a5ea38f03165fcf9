"""Large galleries: segment files plus recent changes give the same answers as a gallery without segments."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from app.gallery.index import GalleryIndex
from app.gallery.protocol import Galleries
from app.gallery.segment import open_segment
from app.gallery.segment_files import Snapshots
from app.store import NewSupport, OnConflict, SqlStore
from model.distances import distances
from model.manifest import Metric
from testing.manifests import make_manifest
from testing.stores import put_new_store
from tests.app.gallery.test_gallery_machine import GalleryMachine

ADD, REPLACE = OnConflict.ADD, OnConflict.REPLACE
DIM = 16


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    set_limit(monkeypatch, 200)


def set_limit(monkeypatch: pytest.MonkeyPatch, shots: int) -> None:
    for module in ("segment", "segment_writer"):
        monkeypatch.setattr(f"app.gallery.{module}.EXACT_UP_TO", shots)
    monkeypatch.setattr("app.gallery.index.SEGMENT_FROM", shots)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    put_new_store(tmp_path / "store.db")
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[SqlStore]:
    opened = SqlStore(home / "store.db")
    yield opened
    opened.close()


def clustered(metric: Metric, n: int, seed: int) -> np.ndarray:
    """Vectors in clusters, like embeddings."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, DIM))
    vectors = (centres[chance.integers(0, 40, n)] + 0.4 * chance.normal(size=(n, DIM))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else vectors


def fill(store: SqlStore, vectors: np.ndarray, metric: Metric = "l2", start: int = 0) -> None:
    digest = make_manifest(metric, DIM).digest
    items = [NewSupport(f"class {n:05}", None, "image/png", v, digest) for n, v in enumerate(vectors, start)]
    store.enroll("g", items, REPLACE)


def index_of(store: SqlStore, home: Path, metric: Metric = "l2") -> GalleryIndex:
    return GalleryIndex(store, make_manifest(metric, DIM), snapshots=Snapshots(home / "index", store))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(index: GalleryIndex, home: Path, classes: int) -> GalleryIndex:
    """Wait until all classes are in a segment with inverted lists, and return the index."""
    index.refresh()
    wait_until(lambda: index.settled and not index.settling)
    segments = [open_segment(folder) for folder in (home / "index").glob("g*-*")]
    assert any(each.lists > 1 and len(each) == classes for each in segments)
    return index


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_an_approximate_gallery_finds_what_an_exact_one_finds(store: SqlStore, home: Path, metric: Metric):
    vectors, queries = clustered(metric, 3000, 1), clustered(metric, 100, 2)
    fill(store, vectors, metric)
    index = settled(index_of(store, home, metric), home, 3000)
    right = 0
    for query in queries:
        every = distances(metric, query[np.newaxis], vectors)[0]
        found = index.find("g", query, 5).matches
        right += found[0].label == f"class {every.argmin():05}"
        for match in found:
            assert match.distance == pytest.approx(float(every[int(match.label[6:])]), abs=2e-6)
    assert right >= 99
    for number in (0, 17, 2999):
        assert index.vectors("g", f"class {number:05}").tolist() == [vectors[number].tolist()]
    assert index.size("g") == 3000
    sample, oldest, _ = index.sample("g", 10)
    assert all(np.array_equal(vectors[int(label[6:])], one) for label, one in zip(sample, oldest, strict=True))


def test_changes_after_the_segment_count(store: SqlStore, home: Path):
    vectors = clustered("l2", 500, 1)
    fill(store, vectors)
    index = settled(index_of(store, home), home, 500)
    digest = make_manifest("l2", DIM).digest
    far = np.full(DIM, 9, np.float32)
    store.enroll("g", [NewSupport("class 00003", None, "image/png", far, digest)], REPLACE)
    store.enroll("g", [NewSupport("class 00004", None, "image/png", far + 1, digest)], ADD)
    store.rename_class("g", "class 00005", "renamed")
    store.remove_class("g", "class 00006")
    assert [m.label for m in index.find("g", far, 2).matches] == ["class 00003", "class 00004"]
    assert index.find("g", vectors[4], 1).matches[0].label == "class 00004"
    assert len(index.vectors("g", "class 00004")) == 2
    assert index.find("g", vectors[5], 1).matches[0].label == "renamed"
    assert "class 00006" not in [m.label for m in index.find("g", vectors[6], 500).matches]
    assert len(index.find("g", vectors[6], 500).matches) == index.size("g") == 499
    assert len(index.labelled("g")[0]) == 500


def test_a_restart_maps_the_segment_instead_of_building(store: SqlStore, home: Path, monkeypatch):
    vectors = clustered("l2", 600, 1)
    fill(store, vectors)
    settled(index_of(store, home), home, 600)
    store.remove_class("g", "class 00001")
    monkeypatch.setattr("app.gallery.segment_files.write_segment", None)
    again = index_of(store, home)
    assert again.size("g") == 599
    assert again.find("g", vectors[7], 1).matches[0].label == "class 00007"
    assert again.find("g", vectors[1], 1).matches[0].label != "class 00001"


def test_two_processes_share_a_segment_and_each_other_s_changes(home: Path):
    stores = [SqlStore(home / "store.db") for _ in range(2)]
    try:
        vectors = clustered("l2", 400, 1)
        fill(stores[0], vectors)
        one = settled(index_of(stores[0], home), home, 400)
        two = index_of(stores[1], home)
        assert two.size("g") == 400
        stores[0].remove_class("g", "class 00009")
        one.refresh()
        assert "class 00009" not in [m.label for m in two.find("g", vectors[9], 10).matches]
        assert two.size("g") == one.size("g") == 399
        fill(stores[1], clustered("l2", 300, 5), start=1000)
        settled(two, home, 699)
        assert one.size("g") == 699
    finally:
        for each in stores:
            each.close()


def test_what_is_deleted_or_replaced_is_in_no_file_of_the_index(store: SqlStore, home: Path):
    vectors = clustered("l2", 400, 1)
    fill(store, vectors)
    index = settled(index_of(store, home), home, 400)

    def traces(number: int) -> list[bool]:
        content = b"".join(path.read_bytes() for path in (home / "index").rglob("*") if path.is_file())
        return [needle in content for needle in (f"class {number:05}".encode(), vectors[number].tobytes())]

    assert traces(11) == traces(12) == traces(13) == [True, True]
    store.remove_class("g", "class 00011")
    fill(store, clustered("l2", 1, 9), start=12)
    index.refresh()
    assert traces(11) == traces(12) == [False, False]
    assert traces(13) == [True, True]
    store.remove_gallery("g")
    index.refresh()
    assert traces(13) == [False, False]


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, "flipped") for name in ("vectors", "owners", "labels", "class_ids", "sums", "header.json")]
    + [("vectors", "cut"), ("labels", "gone"), ("header.json", "gone")],
)
def test_a_damaged_segment_is_noticed_and_built_anew(store: SqlStore, home: Path, name: str, how: str):
    vectors = clustered("l2", 300, 1)
    fill(store, vectors)
    settled(index_of(store, home), home, 300)
    [folder] = (home / "index").glob("g*-*")
    file = folder / (name if "." in name else f"{name}.npy")
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[-20] ^= 4
        file.write_bytes(content if how == "flipped" else content[:-50])
    again = index_of(store, home)
    for number in range(0, 300, 7):
        assert again.find("g", vectors[number], 1).matches[0].label == f"class {number:05}"
    settled(again, home, 300)


def test_a_segment_of_an_older_state_catches_up_and_one_of_another_store_is_not_taken(store: SqlStore, home: Path):
    vectors = clustered("l2", 400, 1)
    fill(store, vectors)
    settled(index_of(store, home), home, 400)
    shutil.copytree(home / "index", home / "older")
    fill(store, clustered("l2", 300, 3), start=350)
    settled(index_of(store, home), home, 650)
    shutil.rmtree(home / "index")
    (home / "older").rename(home / "index")
    older = index_of(store, home)
    assert older.size("g") == 650
    assert older.find("g", clustered("l2", 300, 3)[20], 1).matches[0].label == "class 00370"
    other = sqlite3.connect(home / "store.db")
    other.execute("UPDATE meta SET value = 'restored' WHERE key = 'store_id'")
    other.commit()
    other.close()
    restored = index_of(store, home)
    restored.refresh()
    assert settled(restored, home, 650).size("g") == 650
    folders = [path.name for path in (home / "index").glob("g*-*")]
    assert len(folders) == 1


class SegmentMachine(GalleryMachine):
    """The same machine with nearly everything in segments."""

    def open(self) -> tuple[SqlStore, Galleries]:
        store = SqlStore(self.path)
        return store, GalleryIndex(store, self.manifest, snapshots=Snapshots(self.path.parent / "index", store))

    def teardown(self) -> None:
        for _, index in self.sides:
            assert isinstance(index, GalleryIndex)
            wait_until(lambda index=index: not index.settling)  # type: ignore[misc]
        super().teardown()


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_any_sequence_of_changes_with_segments(metric: Metric, monkeypatch: pytest.MonkeyPatch):
    set_limit(monkeypatch, 4)
    machine = type("Machine", (SegmentMachine,), {"metric": metric})
    budget = settings(max_examples=2, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=budget)
