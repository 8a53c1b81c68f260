"""The folder of a job: whole shards or none, and one set of settings."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from yolo_lite.errors import InputError
from yolo_lite.messages.image import ImageResult
from yolo_lite.shards import folder as module
from yolo_lite.shards.folder import ResultFolder, compare_settings, write_once

ROW = ImageResult("a.jpg", error="a.jpg does not exist")
SETTINGS = {
    "version": 1,
    "detector": {"name": "a.pt", "weights_sha256": "1" * 64, "score_threshold": 0.25, "classes": None},
}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_shard_gets_its_name_at_the_end(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    with folder.shard(3) as write:
        write(ROW)
        (part,) = files(tmp_path)
        assert part.startswith(".shard-000003.")
        assert folder.finished() == set()
    assert files(tmp_path) == ["shard-000003.jsonl"]
    assert folder.finished() == {3}


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt), folder.shard(3) as write:
        write(ROW)
        raise KeyboardInterrupt
    assert files(tmp_path) == []


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    words = "cannot write .*shard-000003.jsonl: No space left on device"
    with pytest.raises(InputError, match=words), ResultFolder(tmp_path).shard(3) as write:
        write(ROW)
    assert files(tmp_path) == []


def test_errors_of_the_caller_are_not_mistaken_for_those_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), ResultFolder(tmp_path).shard(3):
        raise PermissionError(errno.EACCES, "of an image")


KEY = "0123456789abcdef"


def test_what_killed_workers_left_is_removed_once_the_whole_file_is_there(tmp_path: Path) -> None:
    left = [".shard-000003.*.part.jsonl", ".shard-000004.*.part.jsonl", ".manifest.*.part.json", ".images.*.part.txt"]
    others = ["images.txt.part", ".hidden", ".shard-000003.part.jsonl", f".notes.{KEY}.part.txt"]  # of somebody else
    for name in (*(name.replace("*", KEY) for name in left), *others):
        (tmp_path / name).write_bytes(b"half")
    folder = ResultFolder(tmp_path)
    folder.tidy()
    assert len(files(tmp_path)) == 8, "removed although nothing is finished"
    folder.agree(SETTINGS)
    with folder.shard(3) as write:
        write(ROW)
    (tmp_path / "images.txt").write_text("a.jpg")
    folder.tidy()
    whole = ["images.txt", "manifest.json", "shard-000003.jsonl"]
    assert files(tmp_path) == sorted([*whole, *others, f".shard-000004.{KEY}.part.jsonl"])


def test_a_worker_whose_unfinished_list_was_tidied_away_takes_the_one_that_is_there(tmp_path: Path) -> None:
    """The list of a large folder takes minutes; meanwhile another worker has written it, and has ended."""
    folder = ResultFolder(tmp_path)

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        write_once(tmp_path / "images.txt", lambda other: other.write(b"whole"))
        folder.tidy()
        assert files(tmp_path) == ["images.txt"]
        file.write(b", and the rest")

    write_once(tmp_path / "images.txt", write)
    assert files(tmp_path) == ["images.txt"]
    assert (tmp_path / "images.txt").read_bytes() == b"whole"


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_workers_that_meet_on_a_shard_both_succeed(tmp_path: Path, first_to_end: int) -> None:
    first = ResultFolder(tmp_path)
    begun, ended = threading.Event(), threading.Event()

    def meet() -> None:
        second = ResultFolder(tmp_path)
        with second.shard(3) as write:
            write(ROW)
            if first_to_end == 0:
                begun.set()
                ended.wait(60)
        if first_to_end == 1:
            second.tidy()  # it takes the unfinished file of the first for one of a killed worker
            begun.set()

    with first.shard(3) as write:
        thread = threading.Thread(target=meet)
        thread.start()
        assert begun.wait(60)
        write(ROW)
    ended.set()
    thread.join()
    assert files(tmp_path) == ["shard-000003.jsonl"]
    assert json.loads((tmp_path / "shard-000003.jsonl").read_text())["source"] == "a.jpg"


def test_settings_are_stored_once_and_compared_later(tmp_path: Path) -> None:
    ResultFolder(tmp_path).agree(SETTINGS)
    ResultFolder(tmp_path).agree({**SETTINGS, "detector": {**SETTINGS["detector"], "name": "copy.pt"}})  # type: ignore[dict-item]
    assert json.loads((tmp_path / "manifest.json").read_text()) == SETTINGS
    other = {**SETTINGS, "detector": {**SETTINGS["detector"], "score_threshold": 0.5, "classes": ["cat"]}}  # type: ignore[dict-item]
    with pytest.raises(
        InputError, match=r"score_threshold 0.25 there, 0.5 now, classes null there, \[\"cat\"\] now; choose another"
    ):
        ResultFolder(tmp_path).agree(other)


def test_weights_differ_by_their_digest() -> None:
    (line,) = compare_settings(SETTINGS, {**SETTINGS, "detector": {**SETTINGS["detector"], "weights_sha256": "2" * 64}})  # type: ignore[dict-item]
    assert line == "weights 111111111111 there, 222222222222 now"


def test_shards_without_settings_and_broken_settings_are_refused(tmp_path: Path) -> None:
    with ResultFolder(tmp_path).shard(0) as write:
        write(ROW)
    with pytest.raises(InputError, match="has shards but no manifest.json"):
        ResultFolder(tmp_path).agree(SETTINGS)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="manifest.json cannot be read"):
        ResultFolder(tmp_path).agree(SETTINGS)


def test_of_workers_that_begin_together_one_stores_the_settings(tmp_path: Path) -> None:
    written = [str(number).encode() * 1000 for number in range(8)]
    threads = [
        threading.Thread(target=write_once, args=(tmp_path / "once", lambda file, text=text: file.write(text)))
        for text in written
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "once").read_bytes() in written
    assert files(tmp_path) == ["once"]


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(module.os, "link", refuse)
    for text in (b"first", b"second"):
        write_once(tmp_path / "once", lambda file, text=text: file.write(text))
    assert (tmp_path / "once").read_bytes() == b"first"


def test_an_unusable_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot create the folder"):
        ResultFolder(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="format must be one of jsonl, parquet, got 'csv'"):
        ResultFolder(tmp_path, "csv")
