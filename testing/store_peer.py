"""A second process on the store `argv[1]`: runs commands from standard input and answers each once it is durable."""

import json
import sys
from pathlib import Path

from app.store import OnConflict, SqlStore
from testing.stores import support


def say(answer: str) -> None:
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()


def main() -> None:
    where = sys.argv[1]
    store = SqlStore(where if where.startswith("postgresql:") else Path(where))
    say("open")
    for line in sys.stdin:
        match json.loads(line):
            case ["enroll", gallery, label, vector, digest]:
                store.enroll(gallery, [support(label, vector, digest=digest)], OnConflict.REPLACE)
            case ["remove", gallery, label]:
                store.remove_class(gallery, label)
            case ["drop", gallery]:
                store.remove_gallery(gallery)
            case ["labels", gallery]:
                say(json.dumps([each.label for each in store.list_classes(gallery, 100).items]))
                continue
            case unknown:
                raise ValueError(unknown)
        say("done")
    store.close()


if __name__ == "__main__":
    main()
