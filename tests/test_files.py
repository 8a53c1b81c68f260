"""Reading text, writing whole files, and folders that two runs never share."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from yolo_lite.errors import InputError
from yolo_lite.files import claim_folder, read_text, temporary, write_atomically


def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for content in (b"katze\n", b"\xef\xbb\xbfkatze\n"):
        (tmp_path / "names.txt").write_bytes(content)
        assert read_text(tmp_path / "names.txt") == "katze\n"


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("dog\n中文\n".encode("gbk"))
    with pytest.raises(InputError, match=r"names.txt: line 2 is not UTF-8"):
        read_text(tmp_path / "names.txt")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none.txt: No such file"):
        read_text(tmp_path / "none.txt")


@pytest.mark.parametrize("name", ["a" * 251 + ".jpg", "é" * 125 + ".jpg", "猫" * 83 + ".jpeg"])
def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, lambda part: part.write_bytes(b"whole"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"whole")]


def test_two_processes_never_share_a_temporary_name(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        other = pool.apply(temporary, (tmp_path / "rows.json",))
    assert other != temporary(tmp_path / "rows.json")
    assert other.suffix == ".json"


def _claim(folder: str) -> str:
    os.chdir(folder)
    return str(claim_folder("detect"))


def test_every_process_that_claims_a_folder_at_once_gets_its_own(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        claimed = pool.map(_claim, [str(tmp_path)] * 40, chunksize=1)
    assert sorted(claimed) == sorted(f"runs/detect-{number}" for number in range(1, 41))


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match="choose another output path"):
        claim_folder("detect")


def test_a_large_file_is_named_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from yolo_lite.data.coco import read_json

    path = tmp_path / "instances_train.json"
    path.write_text("[" + " " * 1_999_998 + "]")
    caplog.set_level("INFO", logger="yolo_lite")
    assert read_json(path) == []
    assert caplog.messages == []
    monkeypatch.setattr("yolo_lite.files._LARGE", 2_000_000)
    assert read_json(path) == []
    assert caplog.messages == [f"reading {path} (2 MB)"]


def test_full_memory_is_no_fault_of_the_file(tmp_path: Path) -> None:
    def full(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with pytest.raises(RuntimeError, match="allocate"):
        write_atomically(tmp_path / "a", full)
    assert not list(tmp_path.iterdir())
