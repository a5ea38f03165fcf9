"""Enrolling folders: every file is accounted for in the output, in `--json` and in the exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model.folders import files_in, is_image, label_of
from testing.factories import draw_character
from testing.served import Running

ONESHOT = Path(sys.executable).with_name("oneshot")
Enroll = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def oneshot(served: Running, gallery: str) -> Enroll:
    """Runs a verb as a separate process, with raw output in any encoding."""

    def run(*words: object, code: int = 0, **variables: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "ONESHOT_URL": served.url, "PYTHONUTF8": "1", **variables}
        done = subprocess.run(
            [ONESHOT, *map(str, words), "-g", gallery], env=environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr.decode("utf-8", "replace")
        assert b"Traceback" not in done.stderr
        return done

    return run


def write(root: Path, *names: str | bytes, broken: tuple[str, ...] = ()) -> None:
    """Write valid images with these names, and broken ones."""
    for seed, name in enumerate([*names, *broken]):
        file = root / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG", ".heic": "JPEG"}.get(file.suffix, "PNG")
        file.write_bytes(b"no image" if name in broken else picture(seed, kind))


def picture(seed: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    draw_character(seed).save(buffer, kind)
    return buffer.getvalue()


def lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]


def shots(server: Running, gallery: str) -> dict[str, int]:
    listed = server.client.get("/classes", params={"gallery": gallery}).json()["classes"]
    return {each["label"]: each["shots"] for each in listed}


@pytest.mark.parametrize("rule", ["replace", "add", "fail"])
def test_a_broken_file_drops_no_other_of_its_class(
    oneshot: Enroll, served: Running, gallery: str, tmp_path: Path, rule: str
):
    write(tmp_path, "a/2.png", "a/3.png", "b/1.png", "b/2.png", broken=("a/0.png", "a/1.png", "b/3.png", "c/1.png"))
    done = lines(oneshot("enroll", tmp_path, "--json", "--on-conflict", rule, code=2))
    assert [(str(each["file"])[-7:], each["status"]) for each in done] == [
        ("a/0.png", 415),
        ("a/1.png", 415),
        ("a/2.png", 201),
        ("a/3.png", 200),
        ("b/1.png", 201),
        ("b/2.png", 200),
        ("b/3.png", 415),
        ("c/1.png", 415),
    ]
    assert shots(served, gallery) == {"a": 2, "b": 2}
    again = oneshot("enroll", tmp_path, "--on-conflict", rule, code=2)
    lost = 8 if rule == "fail" else 4
    assert f"{lost} images could not be enrolled" in again.stdout.decode()
    assert len(again.stderr.splitlines()) == lost
    assert shots(served, gallery) == ({"a": 4, "b": 4} if rule == "add" else {"a": 2, "b": 2})


def test_two_spellings_of_one_name_are_one_class(oneshot: Enroll, served: Running, gallery: str, tmp_path: Path):
    composed, decomposed = (unicodedata.normalize(form, "Übung é") for form in ("NFC", "NFD"))
    write(tmp_path, f"{composed}/1.png", f"{decomposed}/1.png", f"{decomposed}x.png", f"{composed}x.png")
    assert len(files_in(tmp_path)) == 4
    done = oneshot("enroll", tmp_path)
    assert done.stdout.decode() == f"4 images of 2 classes (2 new) enrolled in gallery {gallery}\n"
    assert shots(served, gallery) == {composed: 2, f"{composed}x": 2}


def test_what_is_not_enrolled_is_named(oneshot: Enroll, served: Running, gallery: str, tmp_path: Path):
    write(tmp_path, "a.jfif", "b.mpo", "c.PNG", "notes.txt", ".DS_Store", "Thumbs.db", "__MACOSX/d.png", "._e.png")
    (tmp_path / "house.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "__MACOSX")
    done = oneshot("enroll", tmp_path, code=2)
    assert "3 images of 3 classes (3 new) enrolled" in done.stdout.decode()
    assert "passed over, as not named like images: 6 files (" in done.stdout.decode()
    assert done.stderr.decode().startswith(f"oneshot: {tmp_path}/house.heic: ")
    told = lines(oneshot("enroll", tmp_path, "--json", code=2))
    assert len(told) == 3 + 1 + 6
    assert {Path(str(each["file"])).name for each in told if each.get("passed_over")} == {
        "notes.txt",
        ".DS_Store",
        "Thumbs.db",
        "d.png",
        "._e.png",
        "elsewhere",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are Unicode")
def test_a_name_that_is_no_unicode_stops_no_other(oneshot: Enroll, served: Running, gallery: str, tmp_path: Path):
    write(tmp_path, "a.png", b"Gr\xfc\xdfe.png", b"b/Gr\xfc\xdfe.png")
    done = oneshot("enroll", tmp_path, "--json", code=2)
    told = {(each["label"], each["status"]) for each in lines(done)}
    assert told == {("a", 201), ("b", 201), ("Gr\udcfc\udcdfe", 422)}
    assert rb"Gr\xfc\xdfe.png: " in done.stderr
    assert b"another encoding than UTF-8" in done.stderr
    found = lines(oneshot("classify", tmp_path, "--threshold", 0, "--json"))
    assert len(found) == 3
    assert all("label" in each for each in found)
    assert rb"b/Gr\xfc\xdfe.png" in oneshot("classify", tmp_path, "--threshold", 0).stdout


def test_other_encodings_of_the_terminal(oneshot: Enroll, gallery: str, tmp_path: Path):
    write(tmp_path, "日本.png", "é.png", "🙂.png")
    for encoding in ("cp1252", "ascii"):
        variables = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        assert b"3 images" in oneshot("enroll", tmp_path, **variables).stdout
        text = oneshot("classify", tmp_path, "--threshold", 0, **variables).stdout
        assert rb"\u65e5\u672c" in text
        told = [json.loads(line) for line in oneshot("classes", "list", "--json", **variables).stdout.splitlines()]
        assert {each["label"] for each in told} == {"日本", "é", "🙂"}


def test_tables_are_not_folded_when_they_are_piped(oneshot: Enroll, tmp_path: Path):
    name = "/".join(["a long folder name that fills the line"] * 3)
    write(tmp_path, f"{name}/1.png", f"{name}/2.png")
    oneshot("enroll", tmp_path)
    text = oneshot("classify", tmp_path, "--threshold", 0, COLUMNS="80").stdout.decode()
    for number in (1, 2):
        assert f"{tmp_path}/{name}/{number}.png" in text


def test_a_mistake_in_the_request_is_said_once(oneshot: Enroll, tmp_path: Path):
    write(tmp_path, *(f"{number}.png" for number in range(20)), broken=("x.png", "y.png"))
    [line] = oneshot("classify", tmp_path, "--threshold", 2, code=2).stderr.decode().splitlines()
    assert line == "oneshot: threshold: Input should be less than or equal to 1 (22 files)"
    oneshot("enroll", tmp_path / "1.png")
    errors = oneshot("classify", tmp_path, code=2).stderr.decode().splitlines()
    assert [error.partition(": ")[2].partition(": ")[0][-5:] for error in errors] == ["x.png", "y.png"]
    [line] = oneshot("classify", tmp_path, code=2, ONESHOT_URL="http://127.0.0.1:9").stderr.decode().splitlines()
    assert line.endswith("(22 files)")
    [line] = oneshot("enroll", tmp_path, code=2, ONESHOT_URL="http://127.0.0.1:9").stderr.decode().splitlines()
    assert "oneshot serve" in line


@pytest.mark.parametrize(
    "names",
    [
        ["symbols/house.png", "symbols/spiral.png"],
        ["house/front/1.png", "house/side/1.png", "x.png"],
        ["a/1.png", "a/2.png", "a/Thumbs.db", "a/desktop.ini", "__MACOSX/a/._1.png", ".DS_Store", "README.md"],
        ["Ü\u0308.png", "é/1.png", "e\u0301/2.png"],
    ],
    ids=["one folder", "nested", "system files", "spellings"],
)
def test_a_zip_file_makes_the_classes_of_its_folder(
    oneshot: Enroll, served: Running, gallery: str, tmp_path: Path, names: list[str]
):
    write(tmp_path, *names)
    told = lines(oneshot("enroll", tmp_path, "--json"))
    by_folder = shots(served, gallery)
    served.client.delete(f"/galleries/{gallery}")
    for _ in range(2):  # the second time it replaces the first
        answer = served.client.post(
            "/enroll/batch", params={"gallery": gallery}, content=zipped(tmp_path), headers={"Content-Type": ZIP}
        ).json()
        assert (answer["failed"], answer["passed_over"]) == (0, sum("passed_over" in each for each in told))
        assert shots(served, gallery) == by_folder


ZIP = "application/zip"


def zipped(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in files_in(root):
            archive.write(file, file.relative_to(root).as_posix())
    return buffer.getvalue()


def test_what_export_wrote_keeps_its_labels_in_a_zip_file(oneshot: Enroll, served: Running, gallery: str, tmp_path):
    write(tmp_path, "1/0.png", "2/0.png")
    (tmp_path / "labels.json").write_text(json.dumps({"1": "a/b", "2": "ü"}))
    headers, where = {"Content-Type": ZIP}, {"gallery": gallery}
    answer = served.client.post("/enroll/batch", params=where, content=zipped(tmp_path), headers=headers).json()
    assert [each["label"] for each in answer["items"]] == ["a/b", "ü"]
    (tmp_path / "labels.json").write_text("[1]")
    answer = served.client.post("/enroll/batch", params=where, content=zipped(tmp_path), headers=headers)
    assert answer.status_code == 422
    assert "labels.json is not what 'oneshot export' writes" in answer.json()["detail"]


def test_what_counts_as_an_image():
    assert all(is_image((name,)) for name in ("a.png", "A.JPG", "a.jfif", "a.heic", "a.avif", "a.mpo", "a b.tiff"))
    assert not any(is_image((name,)) for name in (".a.png", "a", "a.txt", "Thumbs.db", "png"))
    assert not is_image(("__MACOSX", "a.png"))
    assert not is_image((".git", "a.png"))
    assert label_of(("a", "b", "c.png"), {}) == "a"
    assert label_of(("e\u0301 .png",), {}) == "é"
