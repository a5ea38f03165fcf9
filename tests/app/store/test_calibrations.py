"""A gallery's own calibration: durable, in the change log, and deleted with its gallery."""

import numpy as np
import pytest

from app.errors import GalleryNotFoundError
from app.store import OnConflict, SqlStore
from testing.stores import support


def test_it_is_kept_replaced_and_taken_back(store: SqlStore):
    store.enroll("g", [support("a"), support("b")], OnConflict.REPLACE)
    seq = store.changes_since(0).seq
    for content in ('{"a": 1}', '{"b": 2}', None):
        store.set_calibration("g", "digest", content)
        changes = store.changes_since(seq)
        assert [change.gallery.calibration for change in changes.galleries if change.gallery] == [content]
        assert changes.seq > seq
        assert not changes.galleries[0].classes, "the classes did not change"
        assert [record.calibrated for record in store.list_galleries()] == [content is not None]
        seq = changes.seq
    assert sorted(store.changes_since(0).galleries[0].classes.values(), key=str) == ["a", "b"]


def test_it_goes_with_its_gallery(store: SqlStore):
    store.enroll("g", [support("a")], OnConflict.REPLACE)
    store.set_calibration("g", "digest", "{}")
    store.remove_gallery("g")
    with pytest.raises(GalleryNotFoundError):
        store.set_calibration("g", "digest", "{}")
    store.enroll("g", [support("a")], OnConflict.REPLACE)
    assert [record.calibrated for record in store.list_galleries()] == [False]


def test_it_is_kept_for_its_model(store: SqlStore):
    store.enroll("g", [support("a")], OnConflict.REPLACE)
    [(gallery, _)] = store.gallery_infos()
    store.set_calibration("g", "digest", '{"a": 1}')

    def present() -> str | None:
        [(info, _)] = store.gallery_infos()
        [change] = store.changes_since(0).galleries
        assert change.gallery is not None
        assert change.gallery.calibration == info.calibration
        assert [record.calibrated for record in store.list_galleries()] == [info.calibration is not None]
        return info.calibration

    store.models.add_vectors("other", [1], np.zeros((1, 2), np.float32))
    assert store.models.switch(gallery.id, "other", 2)
    assert present() is None
    store.set_calibration("g", "other", '{"b": 2}')
    assert present() == '{"b": 2}'
    assert store.models.switch(gallery.id, "digest", 2)
    assert present() == '{"a": 1}'
    store.set_calibration("g", "digest", None)
    assert present() is None
    assert store.models.switch(gallery.id, "other", 2)
    assert present() == '{"b": 2}'
