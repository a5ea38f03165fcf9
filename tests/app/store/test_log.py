"""The change log: what a follower reads from any position, and the cheap check for news."""

from app.store import GalleryChanges, OnConflict, SqlStore
from testing.served import Where
from testing.stores import support
from tests.app.store.conftest import settle, soon

ADD, REPLACE = OnConflict.ADD, OnConflict.REPLACE


def told(changes: GalleryChanges) -> dict[str | None, list[list[float]]]:
    """The vectors of each label in an answer of the log; None stands for deleted classes."""
    said: dict[str | None, list[list[float]]] = {label: [] for label in changes.classes.values()}
    for class_id, vector in zip(changes.class_ids.tolist(), changes.vectors, strict=True):
        said[changes.classes[class_id]].append(vector.tolist())
    return said


def test_an_empty_log(store: SqlStore):
    changes = store.changes_since(0)
    assert (changes.seq, changes.galleries) == (0, [])


def test_from_the_start_it_tells_everything_that_is(store: SqlStore):
    store.enroll("g", [support("a", (1, 0)), support("b", (2, 0)), support("a", (3, 0))], ADD)
    store.enroll("h", [support("a", (4, 0, 0), digest="other")], ADD)
    g, h = store.changes_since(0).galleries
    assert told(g) == {"a": [[1, 0], [3, 0]], "b": [[2, 0]]}
    assert told(h) == {"a": [[4, 0, 0]]}
    assert g.gallery is not None
    assert h.gallery is not None
    assert (g.gallery.name, g.gallery.model_digest, g.gallery.dim) == ("g", "digest", 2)
    assert (h.gallery.name, h.gallery.model_digest, h.gallery.dim) == ("h", "other", 3)


def test_from_a_point_it_tells_only_what_came_after(store: SqlStore):
    store.enroll("g", [support("a"), support("b"), support("c")], REPLACE)
    store.enroll("h", [support("x")], REPLACE)
    seq = store.changes_since(0).seq
    assert store.changes_since(seq).galleries == []
    store.enroll("g", [support("b", (5, 5))], ADD)
    store.remove_class("g", "c")
    after = store.changes_since(seq)
    assert after.seq > seq
    [g] = after.galleries
    assert told(g) == {"b": [[0, 0], [5, 5]], None: []}
    assert store.changes_since(after.seq).galleries == []


def test_a_dropped_gallery(store: SqlStore):
    store.enroll("g", [support("a")], REPLACE)
    seq = store.changes_since(0).seq
    store.remove_gallery("g")
    store.enroll("g", [support("b")], REPLACE)
    dropped, made = store.changes_since(seq).galleries
    assert dropped.gallery is None
    assert (dropped.gallery_id, list(dropped.classes)) != (made.gallery_id, list(made.classes))
    assert told(made) == {"b": [[0, 0]]}


def test_ids_never_come_back(store: SqlStore):
    def ids() -> tuple[int, int, int]:
        [changes] = [each for each in store.changes_since(0).galleries if each.gallery]
        return changes.gallery_id, int(changes.class_ids[0]), int(changes.support_ids[0])

    store.enroll("g", [support("a")], REPLACE)
    gallery_id, class_id, support_id = ids()
    store.enroll("g", [support("a")], REPLACE)
    assert (ids()[:2], ids()[2] > support_id) == ((gallery_id, class_id), True)
    store.remove_class("g", "a")
    store.enroll("g", [support("a")], REPLACE)
    assert ids()[0] == gallery_id
    assert ids()[1] > class_id
    store.remove_gallery("g")
    store.enroll("g", [support("a")], REPLACE)
    assert ids()[0] > gallery_id


def test_the_log_stays_as_small_as_the_gallery(store: SqlStore):
    for number in range(30):
        store.enroll("g", [support("a", (number, 0)), support("b")], REPLACE)
    store.remove_class("g", "b")
    with store.database.read() as connection:
        entries = connection.exec_driver_sql("SELECT count(*) FROM changes").scalar_one()
    assert entries == 3  # the gallery, the class, the deleted class


def test_the_version_changes_with_each_write_and_with_nothing_else(store: SqlStore, where: Where):
    other = SqlStore(where)
    settle(store, other)
    seen = [store.version()]

    def changed(seconds: float = 10.0) -> bool:
        found = soon(lambda: store.version() not in seen, seconds)
        settle(store, other)  # a commit may be notified twice
        seen.append(store.version())
        return found

    try:
        assert not changed(0)
        store.enroll("g", [support("a"), support("b")], REPLACE)
        assert changed(), "own write"
        other.enroll("g", [support("a")], REPLACE)
        assert changed(), "another's write"
        store.remove_class("g", "a")
        assert changed(), "own deletion"
        settled = store.version()
        store.list_classes("g", 5)
        store.read_image("g", "b")
        store.changes_since(0)
        other.list_galleries()
        assert store.version() == settled
        store.remove_gallery("g")
        assert changed(), "dropped gallery"
    finally:
        other.close()
