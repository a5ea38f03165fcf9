"""The in-memory gallery: exact answers that always match the current store."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import ClassNotFoundError, GalleryNotFoundError, ModelMismatchError, StoreUnavailableError
from app.gallery.index import GalleryIndex
from app.gallery.protocol import Match
from app.store import Changes, NewSupport, OnConflict, SqlStore
from model.distances import distances
from model.manifest import Manifest, Metric
from testing.manifests import make_manifest
from testing.served import Where, on_both_stores
from testing.store_processes import peers
from testing.stores import put_new_store

pytest_generate_tests = on_both_stores

ADD, REPLACE = OnConflict.ADD, OnConflict.REPLACE
METRICS: list[Metric] = ["l1", "l2", "cosine"]
OURS = make_manifest("l2", 2)


def support(label: str, vector: object, manifest: Manifest = OURS) -> NewSupport:
    return NewSupport(label, b"image", "image/png", np.asarray(vector, dtype=np.float32), manifest.digest)


def labels(matches: list[Match]) -> list[str]:
    return [match.label for match in matches]


def query(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def random_vectors(metric: Metric, n: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else vectors


# -- exact -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 300, 1000])
@pytest.mark.parametrize("metric", METRICS)
def test_search_is_the_search_of_all_vectors_one_by_one(store: SqlStore, metric: Metric, k: int):
    manifest = make_manifest(metric, 64)
    vectors, queries = random_vectors(metric, 600, 64, seed=1), random_vectors(metric, 8, 64, seed=2)
    owners = np.random.default_rng(3).integers(0, 300, 600)  # some classes with many shots, some with none
    store.enroll("g", [support(f"c{o}", v, manifest) for o, v in zip(owners, vectors, strict=True)], ADD)
    index = GalleryIndex(store, manifest)
    for each in queries:
        every = distances(metric, each[np.newaxis], vectors)[0]
        nearest = {f"c{owner}": every[owners == owner].min() for owner in owners}
        expected = sorted(nearest.items(), key=lambda item: item[1])[:k]
        found = index.find("g", each, k).matches
        assert labels(found) == [label for label, _ in expected]
        assert [match.distance for match in found] == pytest.approx([d for _, d in expected], abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_distance_is_the_one_that_verification_computes(store: SqlStore, metric: Metric):
    manifest = make_manifest(metric, 48)
    vectors, queries = random_vectors(metric, 30, 48, seed=4), random_vectors(metric, 20, 48, seed=5)
    store.enroll("g", [support(str(number), vector, manifest) for number, vector in enumerate(vectors)], REPLACE)
    index = GalleryIndex(store, manifest)
    for each in [*queries, vectors[3]]:
        for match in index.find("g", each, 10).matches:
            one = distances(metric, each[np.newaxis], vectors[[int(match.label)]])[0, 0]
            assert match.distance == pytest.approx(float(one), abs=2e-7)
            assert match.distance >= 0
            shots = index.vectors("g", match.label)
            assert match.distance == pytest.approx(float(distances(metric, each[np.newaxis], shots).min()), abs=2e-7)


def test_one_class_with_a_thousand_near_shots_hides_no_other(store: SqlStore):
    near = [support("crowd", (0.001 * number, 0)) for number in range(1000)]
    store.enroll("g", [*near, support("x", (5, 0)), support("y", (6, 0)), support("z", (7, 0))], ADD)
    index = GalleryIndex(store, OURS)
    assert labels(index.find("g", query(0, 0), 3).matches) == ["crowd", "x", "y"]
    assert labels(index.find("g", query(0, 0), 100).matches) == ["crowd", "x", "y", "z"]


@pytest.mark.parametrize("metric", METRICS)
def test_equally_near_classes_come_in_the_order_of_their_labels(store: SqlStore, metric: Metric):
    manifest = make_manifest(metric, 2)
    names = [f"{number:03}" for number in np.random.default_rng(6).permutation(200)]
    store.enroll("g", [support(name, (1, 0), manifest) for name in names], REPLACE)
    index = GalleryIndex(store, manifest)
    assert labels(index.find("g", query(1, 0), 3).matches) == ["000", "001", "002"]
    assert labels(index.find("g", query(0, 1), 3).matches) == ["000", "001", "002"]


def test_a_class_is_as_near_as_its_nearest_shot(store: SqlStore):
    store.enroll("g", [support("two", (9, 0)), support("one", (2, 0)), support("two", (1, 0))], ADD)
    assert GalleryIndex(store, OURS).find("g", query(0, 0), 5).matches == [Match("two", 1.0), Match("one", 2.0)]


def test_the_l2_distance_is_not_squared(store: SqlStore):
    store.enroll("g", [support("a", (3, 4))], REPLACE)
    assert GalleryIndex(store, OURS).find("g", query(0, 0), 1).matches == [Match("a", 5.0)]


def test_labels_come_back_as_they_were(store: SqlStore, odd_labels: list[str]):
    store.enroll("g", [support(label, (number, 0)) for number, label in enumerate(odd_labels)], REPLACE)
    index = GalleryIndex(store, OURS)
    for number, label in enumerate(odd_labels):
        assert labels(index.find("g", query(number, 0), 1).matches) == [label]
        assert index.vectors("g", label).tolist() == [[number, 0]]


def test_a_small_gallery_of_which_nothing_has_changed_is_searched_at_once(store: SqlStore):
    store.enroll("g", [support("a", (0, 0)), support("b", (1, 0))], REPLACE)
    index = GalleryIndex(store, OURS)
    ours = OURS.digest
    assert index.find_at_once("g", query(0, 0), 2, ours) is None  # not loaded yet
    whole = index.find("g", query(0, 0), 2, ours)
    assert (labels(whole.matches), whole.size, whole.calibration) == (["a", "b"], 2, None)
    # with a remote store, checking for changes may take long
    assert index.find_at_once("g", query(0, 0), 2, ours) == (None if store.remote else whole)
    assert index.find_at_once("g", query(0, 0), 2, "another") is None
    assert index.find_at_once("missing", query(0, 0), 2, ours) is None
    store.enroll("g", [support("c", (0, 0))], REPLACE)
    assert index.find_at_once("g", query(0, 0), 2, ours) is None
    assert labels(index.find("g", query(0, 0), 2, ours).matches) == ["a", "c"]
    store.enroll("g", [support(str(number), (9, number)) for number in range(2000)], REPLACE)
    assert index.size("g") == 2003
    assert index.find_at_once("g", query(0, 0), 2, ours) is None  # no longer small


# -- missing and invalid ---------------------------------------------------------------------------------


def test_an_empty_store_and_an_empty_gallery(store: SqlStore):
    index = GalleryIndex(store, OURS)
    assert index.sizes() == {}
    for call in (
        lambda: index.find("g", query(0, 0), 1).matches,
        lambda: index.vectors("g", "a"),
        lambda: index.size("g"),
    ):
        with pytest.raises(GalleryNotFoundError):
            call()
    store.enroll("g", [support("a", (0, 0))], REPLACE)
    store.remove_class("g", "a")
    assert index.find("g", query(0, 0), 5).matches == []
    assert index.size("g") == 0
    with pytest.raises(ClassNotFoundError) as missing:
        index.vectors("g", "a")
    assert (missing.value.gallery, missing.value.label) == ("g", "a")


@pytest.mark.parametrize(
    ("vector", "k"),
    [
        (query(0, 0), 0),
        (query(0, 0), -1),
        (query(0), 1),
        (query(0, 0, 0), 1),
        (np.zeros((1, 2), dtype=np.float32), 1),
        (query(0, float("nan")), 1),
        (query(float("inf"), 0), 1),
    ],
)
def test_a_query_that_cannot_be(store: SqlStore, vector: np.ndarray, k: int):
    store.enroll("g", [support("a", (0, 0))], REPLACE)
    with pytest.raises(ValueError, match=r"k must|a query must"):
        GalleryIndex(store, OURS).find("g", vector, k)


def test_a_gallery_of_another_model_is_counted_but_never_searched(store: SqlStore):
    theirs = make_manifest("l2", 2, weights="others")
    larger = make_manifest("l2", 3)
    store.enroll("ours", [support("a", (1, 0))], REPLACE)
    store.enroll("theirs", [support("a", (1, 0), theirs), support("b", (2, 0), theirs)], REPLACE)
    store.enroll("larger", [support("a", (1, 0, 0), larger)], REPLACE)
    index = GalleryIndex(store, OURS)
    assert index.sizes() == {"ours": 1, "theirs": 2, "larger": 1}
    assert {name: view._index.ntotal for name, view in index._by_name.items()} == {"ours": 1, "theirs": 0, "larger": 0}
    for name, manifest in (("theirs", theirs), ("larger", larger)):
        with pytest.raises(ModelMismatchError) as error:
            index.find(name, query(0, 0), 1)
        assert (error.value.gallery, error.value.pinned, error.value.offered) == (name, manifest.digest, OURS.digest)
        with pytest.raises(ModelMismatchError):
            index.vectors(name, "a")
    store.remove_class("theirs", "a")
    store.remove_gallery("larger")
    assert index.sizes() == {"ours": 1, "theirs": 1}
    store.enroll("larger", [support("b", (1, 0))], REPLACE)  # the same name again, with our model
    assert labels(index.find("larger", query(0, 0), 1).matches) == ["b"]


# -- following the store ---------------------------------------------------------------------------------


def test_every_kind_of_change_is_seen_by_the_next_call(store: SqlStore):
    index = GalleryIndex(store, OURS)
    store.enroll("g", [support("a", (1, 0)), support("b", (5, 0))], REPLACE)
    assert labels(index.find("g", query(0, 0), 2).matches) == ["a", "b"]
    store.enroll("g", [support("a", (9, 0))], REPLACE)
    assert labels(index.find("g", query(0, 0), 2).matches) == ["b", "a"]
    store.enroll("g", [support("a", (0, 0))], ADD)
    assert index.find("g", query(0, 0), 2).matches == [Match("a", 0.0), Match("b", 5.0)]
    assert index.vectors("g", "a").tolist() == [[9, 0], [0, 0]]
    store.remove_class("g", "a")
    assert labels(index.find("g", query(0, 0), 2).matches) == ["b"]
    store.enroll("g", [support("a", (2, 0))], REPLACE)
    assert labels(index.find("g", query(0, 0), 2).matches) == ["a", "b"]
    store.remove_gallery("g")
    with pytest.raises(GalleryNotFoundError):
        index.find("g", query(0, 0), 2)
    store.enroll("g", [support("z", (1, 0))], REPLACE)
    assert labels(index.find("g", query(0, 0), 2).matches) == ["z"]
    assert index.sizes() == {"g": 1}


def test_a_change_through_another_store_object_is_seen(store: SqlStore, where: Where):
    other = SqlStore(where)
    ours, theirs = GalleryIndex(store, OURS), GalleryIndex(other, OURS)
    try:
        for number in range(5):
            store.enroll("g", [support(f"c{number}", (number, 0))], REPLACE)
            assert theirs.reaches(store.written())
            assert labels(theirs.find("g", query(number, 0), 1).matches) == [f"c{number}"]
            other.enroll("g", [support(f"c{number}", (number, 7))], REPLACE)
            assert ours.reaches(other.written())
            assert ours.find("g", query(number, 7), 1).matches == [Match(f"c{number}", 0.0)]
        other.remove_gallery("g")
        assert ours.reaches(other.written())
        assert ours.sizes() == {}
    finally:
        other.close()


def test_a_change_by_another_process_is_seen(store: SqlStore, path: Path):
    index = GalleryIndex(store, OURS)
    with peers(path) as [peer]:
        assert peer.answer() == "open"
        for number in range(5):
            assert peer.do("enroll", "g", f"c{number}", [number, 0], OURS.digest) == "done"
            assert index.find("g", query(number, 0), 1).matches == [Match(f"c{number}", 0.0)]
        assert peer.do("enroll", "g", "c0", [0, 9], OURS.digest) == "done"
        assert index.find("g", query(0, 9), 1).matches == [Match("c0", 0.0)]
        assert peer.do("remove", "g", "c1") == "done"
        assert index.size("g") == 4
        assert peer.do("drop", "g") == "done"
        assert index.sizes() == {}


class WatchedStore(SqlStore):
    """Counts reads of the log. Once, it answers `instead`, or runs `meanwhile` during a read."""

    reads = 0
    instead: Changes | Exception | None = None
    meanwhile: Callable[[], object] | None = None

    def changes_since(self, seq: int, gallery_id: int | None = None, limit: int = -1) -> Changes:
        self.reads += 1
        instead, self.instead = self.instead, None
        meanwhile, self.meanwhile = self.meanwhile, None
        if isinstance(instead, Exception):
            raise instead
        changes = instead or super().changes_since(seq, gallery_id, limit)
        if meanwhile:
            meanwhile()
        return changes


@pytest.fixture
def watched(path: Path) -> Iterator[WatchedStore]:
    opened = WatchedStore(put_new_store(path))
    yield opened
    opened.close()


def test_the_log_is_read_only_when_something_changed(watched: WatchedStore):
    watched.enroll("g", [support("a", (0, 0))], REPLACE)
    index = GalleryIndex(watched, OURS)
    for _ in range(20):
        index.find("g", query(0, 0), 1)
        index.sizes()
        watched.list_galleries()
    assert watched.reads == 1
    watched.enroll("g", [support("b", (0, 0))], REPLACE)
    index.refresh()
    index.refresh()
    assert watched.reads == 2


def test_a_commit_while_the_log_is_read_is_seen_by_the_next_call(watched: WatchedStore):
    index = GalleryIndex(watched, OURS)
    watched.enroll("g", [support("a", (0, 0))], REPLACE)
    watched.meanwhile = lambda: watched.enroll("g", [support("b", (1, 0))], REPLACE)
    assert labels(index.find("g", query(0, 0), 9).matches) == ["a"]
    assert labels(index.find("g", query(0, 0), 9).matches) == ["a", "b"]


def test_an_error_of_the_store_is_passed_on_and_made_good(watched: WatchedStore):
    index = GalleryIndex(watched, OURS)
    watched.enroll("g", [support("a", (0, 0))], REPLACE)
    watched.instead = StoreUnavailableError("not now")
    with pytest.raises(StoreUnavailableError):
        index.find("g", query(0, 0), 1)
    assert labels(index.find("g", query(0, 0), 1).matches) == ["a"]


def test_a_view_that_broke_halfway_is_built_anew(watched: WatchedStore):
    index = GalleryIndex(watched, OURS)
    watched.enroll("g", [support("a", (0, 0)), support("b", (1, 0))], REPLACE)
    watched.enroll("h", [support("x", (0, 0)), support("y", (1, 0))], REPLACE)
    index.refresh()
    seq = watched.changes_since(0).seq
    watched.enroll("g", [support("a", (3, 0))], REPLACE)
    watched.enroll("h", [support("x", (3, 0))], REPLACE)
    true = watched.changes_since(seq)
    broken = replace(true.galleries[1], vectors=np.zeros((1, 5), dtype=np.float32))
    watched.instead = replace(true, galleries=[true.galleries[0], broken])
    with pytest.raises(AssertionError):
        index.refresh()
    for gallery, expected in (("g", ["b", "a"]), ("h", ["y", "x"])):
        assert labels(index.find(gallery, query(0, 0), 9).matches) == expected


def test_searches_run_beside_changes(store: SqlStore):
    """Every search finds an unchanged class at its distance while other classes come and go."""
    store.enroll("g", [support("stays", (0, 0)), support("too", (0, 1))], REPLACE)
    index, stop = GalleryIndex(store, OURS), threading.Event()

    def search() -> int:
        done = 0
        while not stop.is_set() or not done:
            found = index.find("g", query(0, 0), 3).matches
            assert found[:2] == [Match("stays", 0.0), Match("too", 1.0)]
            assert len(set(labels(found))) == len(found)
            assert index.vectors("g", "stays").tolist() == [[0, 0]]
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search) for _ in range(4)]
        try:
            for number in range(20):
                batch = [support(f"c{each}", (5 + number, each)) for each in range(10)]
                store.enroll("g", batch, ADD if number % 3 else REPLACE)
                store.remove_class("g", "c5")
        finally:
            stop.set()
        assert all(each.result(30) for each in searches)
    assert index.size("g") == 11
