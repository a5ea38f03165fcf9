"""A user's own folder: read, used for calibration, or refused with the names of the bad files."""

from __future__ import annotations

import sys

import pytest

from model.artifact import load_artifact
from testing.factories import draw_character, encode, make_artifact
from training.cli import main
from training.data.folder import read_folder
from training.data.labelled import DatasetError


def write_folder(root, n_classes=14, n_images=6):
    for label in range(n_classes):
        (root / f"part {label:02d}").mkdir(parents=True)
        for number in range(n_images):
            image = draw_character(label, size=40, jitter=0.7, jitter_seed=100 * label + number)
            (root / f"part {label:02d}" / f"{number}.png").write_bytes(encode(image))
    return root


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["oneshot-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_calibrating_on_a_folder_keeps_the_digest(tmp_path, monkeypatch, capsys):
    before = load_artifact(make_artifact(tmp_path / "model")).manifest
    folder = write_folder(tmp_path / "my parts")
    code = run(
        monkeypatch, "calibrate", tmp_path / "model", "--folder", folder, "--out", tmp_path / "mine", "--prior", 0.2
    )
    assert code == 0, capsys.readouterr().err
    after = load_artifact(tmp_path / "mine").manifest
    assert after.digest == before.digest
    assert after.calibration.n_classes == 14
    assert after.calibration.prior == 0.2
    assert after.calibration.source == "folder my parts"
    assert "14 classes" in (tmp_path / "mine" / "README.md").read_text()


def test_too_few_images_are_refused_in_one_line(tmp_path, monkeypatch, capsys):
    folder = write_folder(tmp_path / "few", n_classes=3, n_images=2)
    make_artifact(tmp_path / "model")
    assert run(monkeypatch, "calibrate", tmp_path / "model", "--folder", folder, "--out", tmp_path / "mine") == 2
    assert "at least 10 classes" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_classes_come_from_sub_folders(tmp_path):
    images = read_folder(write_folder(tmp_path / "a", 3, 2))
    assert images.class_names == ["part 00", "part 01", "part 02"]
    assert list(images.classes) == [0, 0, 1, 1, 2, 2]


def test_folders_that_cannot_be_used_name_the_file(tmp_path):
    with pytest.raises(DatasetError, match="no folder"):
        read_folder(tmp_path / "nowhere")
    folder = write_folder(tmp_path / "one", 1, 2)
    with pytest.raises(DatasetError, match="1 sub-folders"):
        read_folder(folder)
    (folder / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty holds no image"):
        read_folder(folder)
    (folder / "empty" / ".hidden").write_text("passed over")
    (folder / "empty" / "notes.txt").write_text("passed over, too")
    with pytest.raises(DatasetError, match="empty holds no image"):
        read_folder(folder)


def test_all_broken_files_are_named_and_others_passed_over(tmp_path, monkeypatch, capsys):
    folder = write_folder(tmp_path / "parts", 3, 3)
    for name in ("part 00/a.png", "part 02/b.JPG", "part 02/deeper/c.webp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    for name in ("part 00/notes.txt", "part 01/Thumbs.db", "part 01/.DS_Store", "__MACOSX/._a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("passed over")
    with pytest.raises(DatasetError) as caught:
        read_folder(folder)
    lines = str(caught.value).splitlines()
    names = ["part 00/a.png", "part 02/b.JPG", "part 02/deeper/c.webp"]
    assert [line.partition(": ")[0] for line in lines] == [f"{folder}/{name}" for name in names]
    make_artifact(tmp_path / "model")
    assert run(monkeypatch, "calibrate", tmp_path / "model", "--folder", folder, "--out", tmp_path / "mine") == 2
    told = capsys.readouterr().err
    assert all(name in told for name in names)
    for name in names:
        (folder / name).unlink()
    assert len(read_folder(folder).images) == 9


def test_two_spellings_of_a_name_are_one_class(tmp_path):
    folder = write_folder(tmp_path / "parts", 3, 3)
    (folder / "part 00").rename(folder / "\u00e9")
    (folder / "part 01").rename(folder / "e\u0301")
    images = read_folder(folder)
    assert images.class_names == ["\u00e9", "part 02"]
    assert sorted(images.classes) == [0] * 6 + [1] * 3


def test_images_that_are_all_alike_are_refused_in_one_line(tmp_path, monkeypatch, capsys):
    folder = write_folder(tmp_path / "alike")
    one = encode(draw_character(0, size=40))
    for file in folder.rglob("*.png"):
        file.write_bytes(one)
    make_artifact(tmp_path / "model")
    assert run(monkeypatch, "calibrate", tmp_path / "model", "--folder", folder, "--out", tmp_path / "mine") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "in 50 % of cases only" in line
