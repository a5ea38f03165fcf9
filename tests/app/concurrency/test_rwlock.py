"""Readers share the lock, a writer has it alone, and a stream of readers cannot starve a writer."""

import threading
from concurrent.futures import ThreadPoolExecutor

from app.concurrency.rwlock import ReadWriteLock

SOON = 5.0  # timeout of a test, in seconds
MEANWHILE = 0.05  # seconds to wait for something that must not happen


def test_readers_are_in_at_the_same_time():
    lock, both_in = ReadWriteLock(), threading.Barrier(2)

    def read() -> None:
        with lock.reading():
            both_in.wait(SOON)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: read(), range(2)))


def test_a_writer_is_alone():
    lock, inside = ReadWriteLock(), {"readers": 0, "writers": 0, "most readers": 0}
    count = threading.Lock()

    def read() -> None:
        for _ in range(200):
            with lock.reading():
                with count:
                    inside["readers"] += 1
                    inside["most readers"] = max(inside["most readers"], inside["readers"])
                assert inside["writers"] == 0
                with count:
                    inside["readers"] -= 1

    def write() -> None:
        for _ in range(200):
            with lock.writing():
                inside["writers"] += 1
                assert inside["writers"] == 1
                assert inside["readers"] == 0
                inside["writers"] -= 1

    with ThreadPoolExecutor(6) as pool:
        for job in [pool.submit(work) for work in (read, write) * 3]:
            job.result(SOON * 4)


def test_a_waiting_writer_goes_before_new_readers():
    lock, order = ReadWriteLock(), list[str]()
    with ThreadPoolExecutor(2) as pool:
        with lock.reading():
            writer = pool.submit(_note, lock.writing, order, "writer")
            while not lock.writers_waiting:
                threading.Event().wait(0.001)
            reader = pool.submit(_note, lock.reading, order, "reader")
            threading.Event().wait(MEANWHILE)
            assert order == []
        writer.result(SOON)
        reader.result(SOON)
    assert order == ["writer", "reader"]


def _note(hold, order: list[str], name: str) -> None:
    with hold():
        order.append(name)


def test_it_is_free_again_after_an_error():
    lock = ReadWriteLock()
    for hold in (lock.writing, lock.reading, lock.writing):
        try:
            with hold():
                raise KeyError
        except KeyError:
            pass
    with lock.writing():
        pass
