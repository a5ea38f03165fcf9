"""Several processes on one store, and a process that dies."""

import json

from app.store import OnConflict, SqlStore
from testing.served import Where
from testing.store_processes import peers
from testing.stores import support


def test_processes_that_start_at_once_share_one_new_store(where: Where):
    with peers(where, 3) as started:
        assert [peer.answer() for peer in started] == ["open"] * 3
        for number, peer in enumerate(started):
            assert peer.do("enroll", "g", f"c{number}", [number, 0], "digest") == "done"
        for peer in started:
            assert json.loads(peer.do("labels", "g")) == ["c0", "c1", "c2"]


def test_what_was_acknowledged_survives_sigkill_at_once_after(where: Where):
    with peers(where) as [peer]:
        assert peer.answer() == "open"
        for number in range(5):
            assert peer.do("enroll", "g", f"c{number}", [number, 0], "digest") == "done"
        assert peer.do("enroll", "g", "c0", [9, 9], "digest") == "done"
        assert peer.do("remove", "g", "c1") == "done"
        peer.kill()
        store = SqlStore(where)
        try:
            assert [each.label for each in store.list_classes("g", 9).items] == ["c0", "c2", "c3", "c4"]
            assert [each.embedding.tolist() for each in store.list_supports("g", "c0")] == [[9, 9]]
            store.enroll("g", [support("after")], OnConflict.FAIL)
        finally:
            store.close()
