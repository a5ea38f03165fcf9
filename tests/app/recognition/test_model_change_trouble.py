"""Failures during a model change: the work is retried, the reason is reported, and other galleries proceed."""

from __future__ import annotations

import math
import threading

from app.errors import UndecodableImageError
from app.home.model_shelf import ModelShelf
from app.pace import Pace
from app.recognition.model_change import Held, remodel
from app.store import OnConflict, SqlStore
from app.store.models import Progress
from model.embedder import Embedder
from testing.served import Running
from testing.stores import support
from tests.app.recognition.test_model_change import best, digest_of, fill, gallery_of, wait_for

HASTY = Pace(model_look=0.05, model_pause=0.05)


def problem(server: Running, name: str = "default") -> str | None:
    change = gallery_of(server, name)["model_change"]
    return None if change is None else change["problem"]


def test_a_failed_forward_pass_is_repeated_until_it_succeeds(serve, artifact_of, images: list[bytes], monkeypatch):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    with serve(model=old) as server:
        fill(server, images)
    broken = threading.Event()
    broken.set()
    calls: list[int] = []

    def fail_at_first(it, batch):
        if broken.is_set() and it.digest == digest_of(new) and len(batch) == 5:
            calls.append(len(batch))
            raise RuntimeError("out of memory, and secrets")
        return embed(it, batch)

    embed = Embedder.embed
    monkeypatch.setattr(Embedder, "embed", fail_at_first)
    with serve(HASTY, model=new) as server:
        wait_for(lambda: len(calls) >= 3)
        shown = problem(server)
        assert shown == "Inference failed; it is tried again, each time later."
        assert server.client.get("/models").json()["galleries"]["default"]["problem"] == shown
        assert server.metric("oneshot_model_change_held_galleries") == 1
        assert best(server, images[1])[0::2] == ("c1", "test-cosine")
        broken.clear()
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(new))
        assert best(server, images[1])[0::2] == ("c1", "test-euclidean")
        assert server.metric("oneshot_model_change_held_galleries") == 0


def test_a_gallery_that_fails_does_not_hold_up_another(serve, artifact_of, images: list[bytes], monkeypatch):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    with serve(model=old) as server:
        server.enroll("a", images[0], gallery="a-broken")
        server.enroll("b", images[1], gallery="b-whole")

    def fail_one(_store, gallery, *arguments, **named):
        if gallery.gallery == "a-broken":
            raise ZeroDivisionError("a bug")
        return remodel(_store, gallery, *arguments, **named)

    monkeypatch.setattr("app.recognition.model_change.remodel", fail_one)
    with serve(HASTY, model=new) as server:
        wait_for(lambda: gallery_of(server, "b-whole")["digest"] == digest_of(new))
        assert problem(server, "a-broken") == "Internal error; it is tried again, each time later."
        assert problem(server, "b-whole") is None


def test_an_image_that_can_not_be_used_holds_its_gallery_for_that_model_only(
    serve, artifact_of, images: list[bytes], tmp_path, monkeypatch
):
    old, new, third = artifact_of("cosine"), artifact_of("euclidean"), artifact_of("weighted-l1")
    with serve(model=old) as server:
        fill(server, images)
    tries: list[str] = []

    def refuse(_store, _gallery, digest, *arguments, **named):
        tries.append(digest)
        if digest == digest_of(new):
            raise UndecodableImageError("the file is cut off")
        return remodel(_store, _gallery, digest, *arguments, **named)

    monkeypatch.setattr("app.recognition.model_change.remodel", refuse)
    with serve(HASTY, model=new) as server:
        wait_for(lambda: problem(server))
        assert problem(server) == "image: the file is cut off; the gallery keeps its model."
        server.enroll("other", images[5])  # a store change triggers another check
        ModelShelf(tmp_path / "home").put(third)
        assert server.client.post("/models/switch", params={"digest": digest_of(third)}).status_code == 202
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(third))
    assert tries == [digest_of(new), digest_of(third)]


def progress(gallery_id: int = 1) -> Progress:
    return Progress(gallery_id, f"g{gallery_id}", "digest", 100, 0, 0)


def test_pauses_double_up_to_the_longest_and_begin_anew_where_the_work_gets_on():
    held = Held()
    held.of("model")
    pauses = [held.fail(progress(), done=7, for_good=False) for _ in range(12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert held.holds(1)
    assert held.fail(progress(), done=8, for_good=False) == 1
    assert held.fail(progress(2), done=0, for_good=True) == math.inf
    assert 0 < held.seconds([1, 2]) <= 1
    assert held.seconds([2, 3]) == math.inf
    assert not held.holds(3)
    held.of("another model")
    assert not held.holds(2)


def test_what_holds_a_gallery_goes_with_it(store: SqlStore):
    for name in ("a", "b"):
        store.enroll(name, [support("x")], OnConflict.REPLACE)
    first, second = store.models.progress("new")
    store.models.hold(first.gallery_id, "new", "why")
    store.models.hold(second.gallery_id, "new", "why")
    store.models.hold(second.gallery_id, "new", None)
    assert [each.problem for each in store.models.progress("new")] == ["why", None]
    assert [each.problem for each in store.models.progress("another")] == [None, None]
    store.remove_gallery("a")
    store.models.forget_others()
    assert store.models.fact(f"held {first.gallery_id}") is None
