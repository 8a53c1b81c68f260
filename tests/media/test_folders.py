"""What folders hold: links followed once, hidden files passed over, and a line about what is left out."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from yolo_lite.errors import InputError
from yolo_lite.media.folders import images_below, is_hidden, left_out, sort_out, walk


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _relative(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_files_and_folders_are_returned_sorted_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    _touch(tmp_path, "b/2", "b/1", "a", "c/d/e", "._a", ".git/config", "b/__MACOSX/1", "b/Thumbs.db", "b/.x/y")
    files, folders = walk(tmp_path)
    assert _relative(files, tmp_path) == ["a", "b/1", "b/2", "c/d/e"]
    assert _relative(folders, tmp_path) == ["b", "c", "c/d"]


def test_links_are_followed_and_no_folder_is_read_twice(tmp_path: Path) -> None:
    """A link sorts before the real folder, which must still be the one that is read under its own name."""
    root = _touch(tmp_path, "root/real/1", "out/2").joinpath("root")
    (root / "a").symlink_to(root / "real")
    (root / "b").symlink_to(tmp_path / "out")
    (root / "c").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "up").symlink_to(tmp_path)
    (root / "real" / "up").symlink_to(root)
    (root / "to nowhere").symlink_to(tmp_path / "absent")
    (root / "to itself").symlink_to(root / "to itself")
    files, folders = walk(root)
    assert _relative(files, root) == ["b/2", "real/1", "to itself", "to nowhere"]
    assert _relative(folders, root) == ["b", "b/up", "real"]


def test_many_links_to_one_another_end(tmp_path: Path) -> None:
    """Ten folders that each link to all others have ten factorial ways through them."""
    for first in range(10):
        _touch(tmp_path, f"{first}/file")
        for second in range(10):
            (tmp_path / str(first) / f"to {second}").symlink_to(tmp_path / str(second))
    assert len(walk(tmp_path)[0]) == 10


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the folder .*absent: No such file"):
        walk(tmp_path / "absent")


def test_images_are_told_by_suffix_or_content(tmp_path: Path) -> None:
    _touch(tmp_path, "broken.jpg", "notes.txt", "film.MTS", "photo.NEF")  # a damaged image is to be named, not left out
    Image.new("RGB", (4, 4)).save(tmp_path / "scan", "TIFF")
    Image.new("RGB", (4, 4)).save(tmp_path / "shot.txt", "PNG")  # nobody takes text for an image
    images, others = sort_out(sorted(tmp_path.iterdir()))
    assert [path.name for path in images] == ["broken.jpg", "scan"]
    assert [path.name for path in others] == ["film.MTS", "notes.txt", "photo.NEF", "shot.txt"]
    assert images_below(tmp_path)[1] == [f"left out of {tmp_path}: 1 video (film.MTS), 1 camera raw file (photo.NEF)"]


def test_a_line_names_eight_and_counts_the_rest() -> None:
    videos = [PurePosixPath(f"{number}.mp4") for number in range(10)]
    assert left_out("here", videos, folders=[PurePosixPath("a\x1b[2J")]) == [
        "left out of here: 10 videos (0.mp4, 1.mp4, 2.mp4, 3.mp4, 4.mp4, 5.mp4, 6.mp4, 7.mp4 and 2 more), "
        "1 sub-folder (a\\x1b[2J)"
    ]
    assert left_out("here", []) == []


@pytest.mark.parametrize(("name", "hidden"), [("._a.jpg", True), (".x", True), ("__MACOSX", True), ("_a.jpg", False)])
def test_hidden_names(name: str, hidden: bool) -> None:
    assert is_hidden(name) == hidden


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_among_images_is_passed_over(tmp_path: Path) -> None:
    """Reading it would wait for ever."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("b.png")
    (tmp_path / "d.png").symlink_to("nowhere")
    assert [path.name for path in walk(tmp_path)[0]] == ["a.png", "d.png"]
