"""Sharded galleries answer like one index: the same classes, distances, order and errors."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from app.errors import (
    BehindError,
    ClassNotFoundError,
    GalleryNotFoundError,
    ModelMismatchError,
    OneshotError,
    UnavailableError,
)
from app.gallery.index import GalleryIndex
from app.gallery.protocol import Galleries
from app.gallery.segment_files import Snapshots, part_folder
from app.gallery.sharding import Question, ShardedGalleries, ShardView, Told
from app.store import OnConflict, SqlStore
from app.store.follow_log import AT_ONCE
from app.store.shard_key import Part
from model.manifest import Manifest, Metric
from testing.manifests import make_manifest
from testing.served import Where, on_both_stores
from testing.sharded import Parts
from tests.app.gallery.test_gallery_machine import LATTICE, UNITS, GalleryMachine
from tests.app.gallery.test_index import METRICS, OURS, query, random_vectors, support
from tests.app.gallery.test_segments import set_limit

pytest_generate_tests = on_both_stores

ADD, REPLACE = OnConflict.ADD, OnConflict.REPLACE
Split = Callable[..., ShardedGalleries]


@pytest.fixture
def split(where: Where) -> Iterator[Split]:
    """Opens the galleries of the test's store in `count` shards."""
    with ExitStack() as undo:

        def start(
            store: SqlStore, count: int, manifest: Manifest = OURS, folder: Path | None = None, at_once: int = AT_ONCE
        ):
            def part(part: SqlStore, number: int) -> GalleryIndex:
                return index_of(part, manifest, folder and folder / str(number), at_once)

            parts = Parts(where, count, part)
            undo.callback(parts.close)
            return ShardedGalleries(parts, count, store)

        yield start


def index_of(store: SqlStore, manifest: Manifest, folder: Path | None = None, at_once: int = AT_ONCE) -> GalleryIndex:
    return GalleryIndex(store, manifest, snapshots=Snapshots(folder, store) if folder else None, at_once=at_once)


# -- the shard of a class ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_each_class_is_of_one_part_and_the_parts_are_even(count: int, step: int):
    sizes = [0] * count
    for class_id in range(1, 2000 * step, step):
        [part] = [number for number in range(count) if Part(number, count).holds(class_id)]
        sizes[part] += 1
    assert max(sizes) <= 1.2 * 2000 / count


def test_the_database_computes_the_same_part(store: SqlStore):
    ids = [1, 2, 3, 1000, 2**31 - 2, 2**31 - 1, 2**31, 2**53 + 1, 2**62, 2**63 - 1]
    parts = [Part(number, count) for count in (1, 2, 3, 50) for number in range(count)]
    columns = [
        sa.case((part.has(sa.column("id", sa.BigInteger)), 1), else_=0).label(str(n)) for n, part in enumerate(parts)
    ]
    with store.database.read() as connection:
        for class_id in ids:
            numbers = sa.select(sa.literal(class_id, sa.BigInteger).label("id")).subquery()
            [found] = connection.execute(sa.select(*columns).select_from(numbers)).all()
            assert [bool(each) for each in found] == [part.holds(class_id) for part in parts], class_id


# -- the same answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("metric", METRICS)
def test_parts_answer_as_one_index(store: SqlStore, split: Split, metric: Metric, count: int):
    manifest = make_manifest(metric, 64)
    vectors, queries = random_vectors(metric, 600, 64, seed=1), random_vectors(metric, 8, 64, seed=2)
    owners = np.random.default_rng(3).integers(0, 300, 600)
    store.enroll("g", [support(f"c{o}", v, manifest) for o, v in zip(owners, vectors, strict=True)], ADD)
    one, parts = GalleryIndex(store, manifest), split(store, count, manifest)
    for each in queries:
        for k in (1, 5, 299):
            assert parts.find("g", each, k) == one.find("g", each, k)
    for owner in owners[:20]:
        np.testing.assert_array_equal(parts.vectors("g", f"c{owner}"), one.vectors("g", f"c{owner}"))
    assert parts.sizes() == one.sizes()
    assert parts.size("g") == one.size("g")
    assert parts.info("g") == one.info("g")
    assert parts.digest("g") == parts.last_digest("g") == manifest.digest
    assert not parts.moving("g")


@pytest.mark.parametrize("metric", METRICS)
def test_parts_with_segments_answer_as_one_index(
    store: SqlStore, split: Split, metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    set_limit(monkeypatch, 100)
    monkeypatch.setattr("app.gallery.segment.EXACT_UP_TO", 10_000)
    monkeypatch.setattr("app.gallery.segment_writer.EXACT_UP_TO", 10_000)
    manifest = make_manifest(metric, 32)
    vectors, queries = random_vectors(metric, 900, 32, seed=4), random_vectors(metric, 8, 32, seed=5)
    store.enroll("g", [support(f"c{n // 2}", v, manifest) for n, v in enumerate(vectors)], ADD)
    one, parts = index_of(store, manifest, tmp_path / "one"), split(store, 3, manifest, tmp_path / "parts")
    for each in queries:
        for k in (1, 5, 100):
            assert parts.find("g", each, k) == one.find("g", each, k)
    assert len(list((tmp_path / "one").glob("g*"))) == 1
    assert len(list((tmp_path / "parts").glob("*/g*"))) == 3


SHOTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10**6)), min_size=1, max_size=80)


@pytest.mark.parametrize("metric", METRICS)
def test_ties_are_broken_alike(tmp_path: Path, metric: Metric):
    """Few distinct vectors for many shots: most distances are equal, and exact in float32."""
    points, manifest = (UNITS if metric == "cosine" else LATTICE)[:9], make_manifest(metric, 4)
    numbers = iter(range(10**6))

    @given(shots=SHOTS, count=st.integers(1, 5), k=st.integers(1, 45), number=st.integers(0, 8))
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    def same(shots: list[tuple[int, int]], count: int, k: int, number: int) -> None:
        path = tmp_path / f"{next(numbers)}.db"
        store = SqlStore(path)
        items = [support(f"c{label}", points[place % len(points)], manifest) for label, place in shots]
        store.enroll("g", items, ADD)
        parts = Parts(path, count, lambda part, _: GalleryIndex(part, manifest))
        expected = GalleryIndex(store, manifest).find("g", points[number], k)
        assert ShardedGalleries(parts, count, store).find("g", points[number], k) == expected
        parts.close()
        store.close()

    same()


class ShardMachine(GalleryMachine):
    """Random sequences of changes, seen by a single index and by a sharded one."""

    def open(self) -> tuple[SqlStore, Galleries]:
        store, index = super().open()
        if not hasattr(self, "parts"):
            self.parts = ExitStack()
        self.whole = not getattr(self, "whole", False)
        if self.whole:
            return store, index
        parts = Parts(self.path, 3, lambda part, _: GalleryIndex(part, self.manifest))
        self.parts.callback(parts.close)
        return store, ShardedGalleries(parts, 3, store)

    def teardown(self) -> None:
        self.parts.close()
        super().teardown()


@pytest.mark.parametrize("metric", METRICS)
def test_any_sequence_of_changes_in_parts(metric: Metric):
    machine = type("Machine", (ShardMachine,), {"metric": metric})
    budget = settings(max_examples=3, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=budget)


def test_a_sample_has_all_classes_of_a_small_gallery_and_is_spread_over_a_large_one(store: SqlStore, split: Split):
    store.enroll("g", [support(f"c{number:03}", (number, 0)) for number in range(200)], REPLACE)
    parts = split(store, 3)
    labels, vectors, metric = parts.sample("g", 500)
    assert sorted(labels) == [f"c{number:03}" for number in range(200)]
    assert [f"c{int(vector[0]):03}" for vector in vectors] == labels
    assert metric == "l2"
    labels, vectors, _ = parts.sample("g", 50)
    assert len(set(labels)) == len(vectors) == 50
    assert max(int(label[1:]) for label in labels) > 150


def test_what_a_calibration_is_fitted_to_is_the_same(store: SqlStore, split: Split):
    store.enroll("g", [support(f"c{number % 20}", (number, 1)) for number in range(60)], ADD)
    found = [
        sorted((tuple(vector.tolist()), int(owner)) for vector, owner in zip(*index.labelled("g"), strict=True))
        for index in (split(store, 3), GalleryIndex(store, OURS))
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 60


def test_files_of_another_division_are_deleted(tmp_path: Path):
    """Otherwise later deletions would not reach these files."""

    def folders() -> set[str]:
        return {str(path.relative_to(tmp_path)) for path in tmp_path.glob("**/g1-*")}

    for number, of in ((0, 1), (0, 2), (1, 2), (2, 3), (0, 1)):
        (part_folder(tmp_path, number, of) / "g1-abc-1").mkdir(parents=True)
        kept = {
            (0, 2): {"of-2/0/g1-abc-1"},
            (1, 2): {"of-2/0/g1-abc-1", "of-2/1/g1-abc-1"},
            (2, 3): {"of-3/2/g1-abc-1"},
        }
        assert folders() == kept.get((number, of), {"g1-abc-1"})


# -- the same errors ---------------------------------------------------------------------------------------


def test_errors_are_those_of_one_index(store: SqlStore, split: Split):
    other = make_manifest("l1", 2)
    parts = split(store, 3)
    calls: list[Callable[[Galleries], object]] = [
        lambda it: it.find("none", query(0, 0), 1),
        lambda it: it.find("g", query(0, 0), 0),
        lambda it: it.find("g", query(0, 0, 0), 1),
        lambda it: it.find("g", query(0, np.nan), 1),
        lambda it: it.find("g", query(0, 0), 1, other.digest),
        lambda it: it.find("theirs", query(0, 0), 1, OURS.digest),
        lambda it: it.vectors("g", "none"),
        lambda it: it.vectors("none", "a"),
        lambda it: it.info("none"),
        lambda it: it.size("none"),
    ]
    store.enroll("g", [support("a", (0, 0)), support("b", (1, 0))], REPLACE)
    store.enroll("theirs", [support("a", (0, 0), other)], REPLACE)
    for call in calls:
        with pytest.raises((OneshotError, ValueError)) as expected:
            call(GalleryIndex(store, OURS))
        with pytest.raises(type(expected.value)) as found:
            call(parts)
        assert str(found.value) == str(expected.value)
    assert parts.digest("none") is None


@pytest.mark.parametrize(
    "error",
    [
        GalleryNotFoundError("g"),
        ClassNotFoundError("g", "a"),
        ModelMismatchError("g", "ours", "theirs"),
        UnavailableError("later", retry_after=7),
    ],
)
def test_an_error_survives_its_way_between_processes(error: OneshotError):
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(found) is type(error)
    assert (str(found), found.detail, found.retry_after) == (str(error), error.detail, error.retry_after)
    assert vars(found) == vars(error)


# -- read your writes --------------------------------------------------------------------------------------


def test_a_part_comes_as_far_as_the_log_although_the_log_has_nothing_for_it(store: SqlStore, where: Where):
    store.enroll("g", [support("a", (0, 0))], REPLACE)
    for number in range(2):
        kept = SqlStore(where, kept=Part(number, 2))
        index = GalleryIndex(kept, OURS)
        assert index.reaches(store.head())
        store.remove_class("g", "a")
        assert index.reaches(store.head())
        store.enroll("g", [support("a", (0, 0))], REPLACE)
        assert index.reaches(store.head())
        assert not index.reaches(store.head() + 1)
        kept.close()


def test_a_part_reads_a_log_that_is_longer_than_what_is_read_at_once(store: SqlStore, split: Split):
    for number in range(40):
        store.enroll(f"g{number % 3}", [support(str(number), (number, 0))], REPLACE)
    assert split(store, 3, at_once=7).sizes() == GalleryIndex(store, OURS).sizes()


def test_what_is_written_here_is_seen_by_all_parts(store: SqlStore, split: Split):
    """Even by a shard that was not notified."""
    parts = split(store, 3)
    for number in range(30):
        store.enroll("g", [support(str(number), (number, 0))], REPLACE)
        assert parts.size("g") == number + 1
        assert parts.find("g", query(number, 0), 1).matches[0].label == str(number)
        assert parts.reaches(store.written())
    assert not parts.reaches(store.head() + 1)


class _Late:
    """Galleries that record the log positions they were asked to reach."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gone_for = 0.0

    def reaches(self, seq: int) -> bool:
        self.asked.append(seq)
        return True

    def age(self) -> float:
        return self.gone_for

    def sizes(self) -> dict[str, int]:
        return {"g": 1}


def test_who_was_asked_for_a_version_asks_every_part_for_it_from_then_on(store: SqlStore):
    late = _Late()
    views = [ShardView(late), ShardView(late)]  # type: ignore[arg-type]  # only what is called

    def scatter(question: Question, parts: object = None) -> list[Told]:
        return [view.answer(question) for view in views]

    parts = ShardedGalleries(scatter, 2, store)
    assert parts.reaches(17)
    late.asked.clear()
    assert parts.sizes() == {"g": 2}
    assert late.asked == [17, 17]
    assert parts.age() == 0
    late.gone_for = 9.0
    parts.sizes()
    assert parts.age() == pytest.approx(9, abs=1)


def test_a_part_that_does_not_answer_is_an_error(store: SqlStore):
    def scatter(question: Question, parts: object = None) -> list[Told]:
        return [Told(value=True), Told(error=BehindError("gone"))]

    with pytest.raises(BehindError):
        ShardedGalleries(scatter, 2, store).reaches(3)
