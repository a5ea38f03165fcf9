"""This service and its peers, with the same model, gallery and images, in interleaved rounds on one machine.

    make bench                            # installs the peers into .venv-peers, then this
    python -m benchmarks.peers --rounds 1 --only oneshot --only mosec

Each round starts every contestant once, one after the other, and loads it with wrk over loopback. What was measured is
added to the JSON file after every contestant, so that a run may be cut into several (`--fresh` begins anew).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers import bundles
from benchmarks.peers.contestants import Contestant, contestants, enrol, running
from benchmarks.peers.material import make
from benchmarks.peers.measure import look
from benchmarks.peers.openloop import drive
from benchmarks.peers.report import OURS, facts, write

_ROOT = Path(__file__).parents[2]
_RECORD = _ROOT / "docs" / "benchmarks.json"
_PORT = 8137
#: Offered load in the open loop, as multiples of wrk's best rate.
_STEPS = (0.5, 0.8, 1.0, 1.5, 2.0)


def main() -> None:
    """Run the command line."""
    options = _options()
    record: dict[str, Any] = {"looks": [], "open_loop": [], "starts": [], "failed": {}}
    if options.record.exists() and not options.fresh:
        record = json.loads(options.record.read_text("utf-8"))
    record["facts"] = facts(options.workers, options.seconds)
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        material = Path(folder)
        make(options.datasets, material)
        done = max((each["round"] for each in record["looks"]), default=0)
        for round_ in range(done + 1, done + options.rounds + 1):
            for contestant in contestants(_PORT, options.workers):
                if not options.only or any(name in contestant.name for name in options.only):
                    _visit(contestant, material, round_, options, record)
                    options.record.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    write(record, _ROOT / "docs")


def _visit(contestant: Contestant, material: Path, round_: int, options: argparse.Namespace, record: Any) -> None:
    queries, photos = (sorted((material / name).iterdir()) for name in ("queries", "photos"))
    try:
        with running(contestant, material, _PORT, options.workers) as server:
            if contestant.own:
                enrol(server.url, material, server.key)
            idle = server.usage().memory
            record["starts"].append({"contestant": contestant.name, "seconds": server.ready_seconds, "idle": idle})
            for connections in options.connections:
                found = look(contestant, server, queries, connections, seconds=options.seconds, round_=round_)
                print(f"{round_} {found}", flush=True)
                record["looks"].append(asdict(found))
            found = look(contestant, server, photos, options.photo_connections, seconds=options.seconds, round_=round_)
            print(f"{round_} {found}", flush=True)
            record["looks"].append(asdict(found))
            if contestant.name == OURS:
                bundled = bundles.measure(server, queries, options.workers, seconds=options.seconds, round_=round_)
                print(*bundled, sep="\n", flush=True)
                record.setdefault("bundles", []).extend(asdict(each) for each in bundled)
            if options.sweep and contestant.name in options.sweep:
                _sweep(contestant, server, queries, options, record)
    except Exception as error:  # a contestant that fails is reported, and the others still run
        print(f"{contestant.name}: {error}", flush=True)
        record["failed"][contestant.name] = str(error)[-300:]


def _sweep(contestant: Contestant, server: Any, queries: list[Path], options: argparse.Namespace, record: Any) -> None:
    best = max(
        (
            each["rate"]
            for each in record["looks"]
            if each["contestant"] == contestant.name and each["material"] == "queries"
        ),
        default=100,
    )
    bodies = [path.read_bytes() for path in queries]
    for step in _STEPS:
        outcome = drive(server.url, bodies, step * best, options.seconds)
        memory = server.usage().memory
        print(f"open loop {step:g} {outcome} {memory:.0f} MB", flush=True)
        record["open_loop"].append({"contestant": contestant.name, "step": step, "memory": memory, **asdict(outcome)})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each look")
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--photo-connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes of each contestant")
    parser.add_argument("--only", action="append", help="contestants whose name holds this")
    parser.add_argument(
        "--sweep", action="append", default=["oneshot, raw bodies"], help="contestants of the open loop"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--record", type=Path, default=_RECORD)
    parser.add_argument("--datasets", type=Path, default=os.environ.get("ONESHOT_DATASETS", "datasets"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
