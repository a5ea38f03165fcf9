"""Random sequences of enrolments and deletions: store, index and a dictionary agree after each step.

The vectors are chosen so that distances are exact in float32, and many are equal. Results are therefore compared for
equality. Two stores and indices on one file stand for two processes.
"""

import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.errors import ClassExistsError, ClassNotFoundError, GalleryNotFoundError
from app.gallery.index import GalleryIndex
from app.gallery.protocol import Found, Galleries, Match
from app.store import NewSupport, OnConflict, SqlStore
from model.distances import Vectors, distances
from model.manifest import Metric
from testing.manifests import make_manifest
from testing.stores import put_new_store

DIM = 4
LATTICE: list[Vectors] = [np.array(point, dtype=np.float32) for point in product((-1, 0, 2), repeat=DIM)]
# Unit vectors with inner products that are multiples of 1/4.
UNITS: list[Vectors] = [np.array(point, dtype=np.float32) for point in product((-0.5, 0.5), repeat=DIM)]
UNITS += [np.float32(sign) * axis for axis in np.eye(DIM, dtype=np.float32) for sign in (-1, 1)]

GALLERIES = st.sampled_from(["default", "Ä/b", "'"])
LABELS = st.sampled_from(["a", "A", "b", "ü", "u\u0308", "x/y", '"', "'; --", "日本", "0"])
SHOTS = st.lists(st.tuples(LABELS, st.integers(0, 10**6)), min_size=1, max_size=6)
SIDES = st.integers(0, 1)

Shots = dict[str, list[Vectors]]


class GalleryMachine(RuleBasedStateMachine):
    """`model` is the expected state: gallery -> label -> vectors of its shots, oldest first."""

    metric: Metric

    @initialize()
    def start(self) -> None:
        self.manifest = make_manifest(self.metric, DIM)
        self.points = UNITS if self.metric == "cosine" else LATTICE
        self.folder = tempfile.TemporaryDirectory()
        self.path = put_new_store(Path(self.folder.name) / "store.db")
        self.sides = [self.open(), self.open()]
        self.model: dict[str, Shots] = {}

    def open(self) -> tuple[SqlStore, Galleries]:
        store = SqlStore(self.path)
        return store, GalleryIndex(store, self.manifest)

    def teardown(self) -> None:
        for store, _ in self.sides:
            store.close()
        self.folder.cleanup()

    @rule(side=SIDES, gallery=GALLERIES, shots=SHOTS, on_conflict=st.sampled_from(OnConflict))
    def enroll(self, side: int, gallery: str, shots: list[tuple[str, int]], on_conflict: OnConflict) -> None:
        vectors = [(label, self.points[number % len(self.points)]) for label, number in shots]
        items = [NewSupport(label, None, "image/png", vector, self.manifest.digest) for label, vector in vectors]
        classes = self.model.get(gallery, {})
        names = [label for label, _ in shots]
        if on_conflict is OnConflict.FAIL and (len(set(names)) < len(names) or classes.keys() & set(names)):
            with pytest.raises(ClassExistsError):
                self.sides[side][0].enroll(gallery, items, on_conflict)
            return
        outcomes = self.sides[side][0].enroll(gallery, items, on_conflict)
        classes = self.model.setdefault(gallery, {})
        for (label, vector), outcome in zip(vectors, outcomes, strict=True):
            assert outcome.created == (label not in classes)
            kept = classes.get(label, []) if on_conflict is OnConflict.ADD else []
            classes[label] = [*kept, vector]
        for label, outcome in zip(names, outcomes, strict=True):
            assert outcome.class_record.supports == len(classes[label])

    @rule(side=SIDES, gallery=GALLERIES, label=LABELS)
    def delete(self, side: int, gallery: str, label: str) -> None:
        if label in self.model.get(gallery, {}):
            self.sides[side][0].remove_class(gallery, label)
            del self.model[gallery][label]
            return
        with pytest.raises(ClassNotFoundError if gallery in self.model else GalleryNotFoundError):
            self.sides[side][0].remove_class(gallery, label)

    @precondition(lambda self: any(self.model.values()))
    @rule(side=SIDES, data=st.data(), new_label=LABELS)
    def rename(self, side: int, data: st.DataObject, new_label: str) -> None:
        gallery = data.draw(st.sampled_from(sorted(name for name, classes in self.model.items() if classes)))
        classes = self.model[gallery]
        label = data.draw(st.sampled_from(sorted(classes)))
        if new_label != label and new_label in classes:
            with pytest.raises(ClassExistsError):
                self.sides[side][0].rename_class(gallery, label, new_label)
            return
        assert self.sides[side][0].rename_class(gallery, label, new_label).label == new_label
        classes[new_label] = classes.pop(label)

    @precondition(lambda self: self.model)
    @rule(side=SIDES, data=st.data())
    def drop(self, side: int, data: st.DataObject) -> None:
        gallery = data.draw(st.sampled_from(sorted(self.model)))
        self.sides[side][0].remove_gallery(gallery)
        del self.model[gallery]

    @rule(side=SIDES)
    def restart(self, side: int) -> None:
        self.sides[side][0].close()
        self.sides[side] = self.open()

    @rule(side=SIDES, gallery=GALLERIES, number=st.integers(0, 10**6), k=st.integers(1, 12))
    def search(self, side: int, gallery: str, number: int, k: int) -> None:
        query = self.points[number % len(self.points)]
        index = self.sides[side][1]
        if gallery not in self.model:
            with pytest.raises(GalleryNotFoundError):
                index.find(gallery, query, k)
            return
        every = [Match(label, self.distance(query, shots)) for label, shots in self.model[gallery].items()]
        expected = sorted(every, key=lambda match: (match.distance, match.label))[:k]
        assert index.find(gallery, query, k) == Found(expected, len(every))

    def distance(self, query: Vectors, shots: list[Vectors]) -> float:
        one_by_one = [distances(self.metric, query[np.newaxis], shot[np.newaxis])[0, 0] for shot in shots]
        return float(min(one_by_one))

    @invariant()
    def stores_agree(self) -> None:
        for store, _ in self.sides:
            assert [each.name for each in store.list_galleries()] == sorted(self.model)
            for gallery, classes in self.model.items():
                found = store.list_classes(gallery, 100).items
                assert [(each.label, each.supports) for each in found] == [
                    (label, len(shots)) for label, shots in sorted(classes.items())
                ]

    @invariant()
    def indices_agree(self) -> None:
        # One side only, so that the other can fall behind by several changes before its next search.
        index = self.sides[0][1]
        assert index.sizes() == {gallery: len(classes) for gallery, classes in self.model.items()}
        for gallery, classes in self.model.items():
            for label, shots in classes.items():
                np.testing.assert_array_equal(index.vectors(gallery, label), np.stack(shots))


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_store_index_and_brute_force_agree(metric: Metric):
    machine = type("Machine", (GalleryMachine,), {"metric": metric})
    budget = settings(max_examples=6, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=budget)
