"""Kill the server at random moments under concurrent work, and compare what it acknowledged with what is there.

`python -m benchmarks.faults --kills 300` starts a real server (with one worker, every third time with two), lets
several clients enrol (one by one and in batches), add, replace and delete, sends SIGKILL to all its processes after a
random time, starts it again on the same data folder, and compares every class: what was acknowledged must be there,
with the same bytes, and found by its image; what was deleted must be gone; an operation that was never answered is
there as a whole or not at all. Exit code 1 when anything is lost.

With `--store postgres` there are two servers on one PostgreSQL database, and that is killed and stopped, too
(`benchmarks.faults_cluster`).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from testing.proofs import record
from testing.torture import Report, Server, Worker, compare, compare_all


def check_file(home: Path) -> str:
    """The result of SQLite's integrity checks; "ok" if the file is intact."""
    with contextlib.closing(sqlite3.connect(home / "oneshot.db")) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    return str(found) if not orphans else f"{len(orphans)} orphans"


def torture(
    home: Path,
    model: Path | None,
    images: Sequence[bytes],
    *,
    kills: int | None,
    seconds: float | None = None,
    clients: int = 4,
    seed: int = 0,
) -> Report:
    """Kill the server `kills` times, or as often as fits into `seconds`."""
    chance, report, began = random.Random(seed), Report(), time.monotonic()
    log = home.with_name("server.log")
    workers = [Worker(number, seed * 1000 + number, images) for number in range(clients)]
    while report.goes_on(kills, seconds, began):
        server = Server(home, model, 2 if report.kills % 3 == 2 else 1, log)
        try:
            for worker in workers:
                compare(server.url, worker, report, searches=2)
            threads = [threading.Thread(target=worker.run, args=(server.url,)) for worker in workers]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.02, 1.5))
        finally:
            server.kill()
        for thread in threads:
            thread.join()
        report.kills += 1
        if (state := check_file(home)) != "ok":
            report.lost.append(f"after kill {report.kills} the file is damaged: {state}")
    server = Server(home, model, 1, log)
    try:
        compare_all(server.url, workers, report)
    finally:
        server.kill()
    report.add(workers, began)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit code is 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="faults", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=300, help="how often to kill (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after this time, however many kills that were")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite", help="what keeps the classes")
    parser.add_argument("--model", type=Path, help="model artefact (default: a small untrained one, which starts fast)")
    options = parser.parse_args(argv)
    from testing.factories import draw_character, make_artifact, png_bytes  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="oneshot-faults-") as folder:
        model = options.model or make_artifact(Path(folder) / "model")
        images = [png_bytes(draw_character(seed)) for seed in range(40)]
        home = Path(folder) / "home"
        asked = {"kills": options.kills, "seconds": options.seconds, "seed": options.seed}
        if options.store == "postgres":
            from benchmarks.faults_cluster import torture_cluster  # noqa: PLC0415 - an extra
            from testing.postgres import missing  # noqa: PLC0415

            if why := missing():
                parser.error(why)
            report = torture_cluster(home, model, images, **asked)
        else:
            report = torture(home, model, images, **asked)
    print(report.render())
    if not report.lost:
        record("faults" if options.store == "sqlite" else "faults-postgres", report.proof(options.store))
    return 1 if report.lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
