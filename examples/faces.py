"""How well does the running service tell people apart? Measured on a folder of photographs, one sub-folder a person.

    python examples/faces.py att_faces

expects the layout of the AT&T faces (s1/1.pgm ... s40/10.pgm). The first photograph of each person is enrolled into the
gallery "faces", which is made anew; all others are asked for. Honest warning: the model that comes with the project was
trained on drawn characters and is bad at this. See docs/faces.md, also for what to think of before using faces at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from oneshot_client import DEFAULT_URL, Client, MissingError

GALLERY = "faces"


def photographs(person: Path) -> list[Path]:
    """A person's photographs, 2 before 10."""
    files = [file for file in person.iterdir() if file.is_file() and not file.name.startswith(".")]
    return sorted(files, key=lambda file: (len(file.stem), file.stem))


def measure(folder: Path, url: str) -> str:
    """Enrol, ask, count."""
    people = {person.name: photographs(person) for person in sorted(folder.iterdir()) if person.is_dir()}
    first = [(name, files[0]) for name, files in people.items()]
    others = [(name, file) for name, files in people.items() for file in files[1:]]
    with Client(url) as client:
        client.wait_ready()
        with contextlib.suppress(MissingError):  # the first run
            client.delete_gallery(GALLERY)
        for enrolled in client.enroll_many(first, gallery=GALLERY):
            enrolled.get()
        found = [one.get() for one in client.classify_many([file for _, file in others], gallery=GALLERY)]
    names = [name for name, _ in others]
    nearest = sum(answer.candidates[0].label == name for answer, name in zip(found, names, strict=True))
    named = sum(answer.label == name for answer, name in zip(found, names, strict=True))
    wrong = sum(answer.label not in {None, name} for answer, name in zip(found, names, strict=True))
    return (
        f"{len(people)} people, {len(others)} photographs asked for\n"
        f"the nearest is the right person: {nearest / len(others):.1%}\n"
        f"named at the default threshold: {named / len(others):.1%} rightly, {wrong / len(others):.1%} wrongly"
    )


if __name__ == "__main__":
    print(measure(Path(sys.argv[1]), os.environ.get("ONESHOT_URL", DEFAULT_URL)))
