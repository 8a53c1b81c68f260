"""Reading text, writing whole files, and folders that two runs never share."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yolo_lite.errors import InputError
from yolo_lite.files import (
    check_readable,
    claim_folder,
    file_name,
    give_back,
    gone_if_empty,
    identity,
    is_possible_path,
    locked,
    read_bytes,
    read_text,
    temporary,
    whole_folder,
    write_atomically,
    write_together,
)


def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for content in (b"katze\n", b"\xef\xbb\xbfkatze\n"):
        (tmp_path / "names.txt").write_bytes(content)
        assert read_text(tmp_path / "names.txt") == "katze\n"


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("dog\n中文\n".encode("gbk"))
    with pytest.raises(InputError, match=r"names.txt: line 2 is not UTF-8"):
        read_text(tmp_path / "names.txt")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_two_bytes_a_letter_without_a_mark_are_no_text(tmp_path: Path, encoding: str) -> None:
    """Plain letters in UTF-16 are valid UTF-8, with a zero byte beside each."""
    (tmp_path / "names.txt").write_bytes("dog\ncat\n".encode(encoding))
    with pytest.raises(InputError, match=r"names.txt: line 1 contains a zero byte"):
        read_text(tmp_path / "names.txt")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none.txt: No such file"):
        read_text(tmp_path / "none.txt")


def test_a_file_that_cannot_be_read_is_reported_in_the_systems_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read .*none.bin: No such file or directory$"):
        read_bytes(tmp_path / "none.bin")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is in the tree."""
    closed = tmp_path / "images" / "val"
    closed.mkdir(parents=True)
    check_readable(tmp_path)
    scan = os.scandir

    def refuse(path: object) -> object:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError) as caught:
        check_readable(tmp_path)
    assert str(caught.value) == f"cannot read the folder {closed}: Permission denied"


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


def test_files_that_belong_together_are_replaced_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"cannot write .*b.txt: No space left on device"):
        write_together({first: lambda part: part.write_text("new"), second: fail})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]
    second.mkdir()
    with pytest.raises(InputError, match=r"cannot write .*b.txt: Is a directory"):
        write_together({path: lambda part: part.write_text("new") for path in (first, second)})
    assert first.read_text() == "old"
    second.rmdir()
    write_together({path: lambda part: part.write_text("new") for path in (first, second)})
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["new", "new"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_whole_or_not_there(there: bool, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    if there:
        out.mkdir(parents=True)
    for error in (InputError("cannot write it"), KeyboardInterrupt()):
        with pytest.raises(type(error)), whole_folder(out) as part:
            (part / "half.txt").write_text("half")
            raise error
        assert sorted(tmp_path.rglob("*")) == ([tmp_path / "a", tmp_path / "a" / "b", out] if there else [])
    with whole_folder(out) as part:
        (part / "images").mkdir()
        (part / "images" / "1.txt").write_text("whole")
        assert not any(out.glob("[!.]*"))
    assert [path.name for path in sorted(out.rglob("*"))] == ["images", "1.txt"]
    assert list(out.parent.iterdir()) == [out]


def test_messages_name_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, whole_folder(tmp_path / "out") as part:
        raise InputError(f"cannot write {part / 'a.json'}: no space is left on the disk")
    assert str(caught.value) == f"cannot write {tmp_path / 'out' / 'a.json'}: no space is left on the disk"


def test_texts_that_no_file_is_called() -> None:
    assert is_possible_path("images/Kätzchen 1.jpg")
    for text in ("a\0b", "\ud800", "x" * 256, "é" * 128, "a/" * 3000):
        assert not is_possible_path(text)


def test_a_claimed_folder_is_given_back_if_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = claim_folder("eval"), claim_folder("eval")
    (second / "metrics.json").touch()
    for folder in (first, second):
        give_back(folder)
    assert [str(path) for path in Path("runs").rglob("*")] == ["runs/eval-2", "runs/eval-2/metrics.json"]
    (second / "metrics.json").unlink()
    give_back(second)
    assert not Path("runs").exists()


def test_only_new_folders_that_stay_empty_go(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for error in (InputError("cannot write it"), KeyboardInterrupt()):
        for out in ("there", "there/new/newer", "new"):
            with pytest.raises(type(error)), gone_if_empty(tmp_path / out):
                (tmp_path / out).mkdir(parents=True, exist_ok=True)
                raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    with gone_if_empty(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "other.txt").touch()  # of another process
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "other.txt", tmp_path / "there"]


def test_a_name_is_cut_between_characters(tmp_path: Path) -> None:
    name = file_name("é" * 200, "-2.jpg")
    assert name == "é" * 124 + "-2.jpg"  # 124 of two bytes and 6 of one are 254 of the 255
    (tmp_path / name).touch()
    assert file_name("short", "-2.jpg") == "short-2.jpg"


def test_identity_sees_through_links(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    (tmp_path / "soft").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to("loop")
    assert identity(tmp_path / "a") == identity(tmp_path / "soft") == identity(tmp_path / "hard")
    assert identity(tmp_path / "a") != identity(tmp_path / "b")
    assert identity(tmp_path / "loop") is None


def _hold(folder: Path, child: bool) -> None:
    """Lock a folder and wait to be killed, perhaps beside a child that outlives it for a while."""
    with locked(folder, "wait"):
        if child and os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        (folder / "held").touch()
        time.sleep(60)


@pytest.mark.parametrize("child", [False, True], ids=["alone", "with a child"])
def test_a_lock_keeps_others_out_and_goes_with_its_process(tmp_path: Path, child: bool) -> None:
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path, child))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(InputError, match="is in use: choose another"), locked(tmp_path, "choose another"):
        pass
    assert holder.pid
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with locked(tmp_path, "choose another"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["held"]


def test_a_lock_keeps_out_its_own_process(tmp_path: Path) -> None:
    with locked(tmp_path, "wait"):
        with pytest.raises(InputError, match="is in use: wait"), locked(tmp_path, "wait"):
            pass
        assert (tmp_path / ".lock").exists()
    with locked(tmp_path, "wait"):
        pass


def test_where_there_are_no_locks_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    lines: list[str] = []
    with locked(tmp_path, "wait", say=lines.append):
        pass
    assert lines == [f"{tmp_path} cannot be locked here (No locks available): start no other run in it"]


def test_a_large_file_is_named_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from yolo_lite.data.formats.coco import read_json

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


@pytest.mark.slow
def test_torch_saying_only_that_it_could_not_write_is_explained(tmp_path: Path) -> None:
    code = f"""
import resource, signal, torch
from pathlib import Path
from yolo_lite.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomically(Path({str(tmp_path / "a.pt")!r}), lambda part: torch.save(torch.zeros(10_000), part))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = answer.stderr.splitlines()[-1]
    assert last.endswith("a.pt: there is no space for it: a disk quota or the limit on file sizes is reached")
    assert not list(tmp_path.iterdir())
