"""Images from standard input and from files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.stream.conftest import number_of, numbered
from yolo_lite.errors import InputError
from yolo_lite.stream.addresses import StandardInput, find_addresses
from yolo_lite.stream.clock import Clock
from yolo_lite.stream.files import file_frames, jpeg_files, tar_files
from yolo_lite.structures.frames import Frame


class Trickle(io.RawIOBase):
    """Gives a content in pieces of uneven length, as a pipe may."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._inner, self._piece = io.BytesIO(content), piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self._inner.read(min(len(buffer), self._piece))
        buffer[: len(part)] = part
        return len(part)


def archive(files: dict[str, bytes], mode: str = "w") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def from_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch, lines: list[str] | None = None) -> list[Frame]:
    stdin = io.TextIOWrapper(io.BufferedReader(Trickle(content, 700)))
    monkeypatch.setattr("sys.stdin", stdin)
    say = [].append if lines is None else lines.append
    return list(file_frames(StandardInput(), max_16bit=65535, clock=Clock(), say=say))


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_jpeg_files_are_divided_where_they_were_joined(piece: int) -> None:
    files = [numbered(number) for number in range(5)]
    assert list(jpeg_files(io.BufferedReader(Trickle(b"".join(files), piece)))) == files


def test_a_thumbnail_and_restart_markers_do_not_end_a_file() -> None:
    """Put a whole JPEG file into an APP1 segment of another; write progressive scans and restart markers."""
    thumbnail, plain = numbered(3), numbered(4)
    outer = plain[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + plain[2:]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8))
    files = [outer]
    for settings in ({"progressive": True}, {"restart_marker_blocks": 1}):
        content = io.BytesIO()
        noise.save(content, "JPEG", **settings)
        files.append(content.getvalue())
    assert b"\xff\xd3" in files[2]  # the hard case is there
    assert list(jpeg_files(io.BytesIO(b"".join(files)))) == files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (numbered(1) + b"hello", "something else follows 1 JPEG files"),
        (numbered(1)[:-2], "ends within a JPEG file"),
        (numbered(1)[:30], "ends within a JPEG file"),
        (b"\xff\xd8\xff\xe0\x00\x02zz", "no marker where one must be"),
    ],
)
def test_damaged_jpeg_files_get_a_line(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(jpeg_files(io.BytesIO(content)))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_images_of_a_tar_archive_come_with_their_names(mode: str) -> None:
    files = {"a/1.jpg": numbered(1), "notes.md": b"no image", "2.jpeg": numbered(2)}
    found = dict(tar_files(io.BufferedReader(Trickle(archive(files, mode), 500))))
    assert found == {name: files[name] for name in ("a/1.jpg", "2.jpeg")}


def test_the_first_bytes_decide_what_standard_input_is(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = from_stdin(numbered(3) + numbered(4), monkeypatch)
    assert [(frame.source, frame.number, number_of(frame.image)) for frame in frames] == [
        ("stdin", 0, 3),
        ("stdin", 1, 4),
    ]
    for mode in ("w", "w:gz"):
        frames = from_stdin(archive({"a.jpg": numbered(3), "b.jpg": numbered(4)}, mode), monkeypatch)
        assert [(frame.source, number_of(frame.image)) for frame in frames] == [("a.jpg", 3), ("b.jpg", 4)]


def test_an_unreadable_image_in_an_archive_is_skipped_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    frames = from_stdin(archive({"a.jpg": b"no image", "b.jpg": numbered(4)}), monkeypatch, lines)
    assert [frame.source for frame in frames] == ["b.jpg"]
    assert len(lines) == 1
    assert lines[0].startswith("skipped: a.jpg")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "standard input is empty"),
        (b"hello", "neither a tar archive of images nor JPEG files"),
        (archive({"notes.md": b"x"}), "stdin has no image that can be read"),
        (archive({"a.jpg": numbered(1)})[:700], "cannot be read to its end"),
    ],
)
def test_other_standard_input_gets_a_line(content: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=words):
        from_stdin(content, monkeypatch)


def test_image_files_are_frames_of_their_own(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(numbered(number))
    (address,) = find_addresses([str(tmp_path)])
    frames = list(file_frames(address, max_16bit=65535, clock=Clock()))  # type: ignore[arg-type]
    assert [(Path(frame.source).name, frame.number, number_of(frame.image)) for frame in frames] == [
        ("1.jpg", 0, 1),
        ("2.jpg", 0, 2),
    ]


def test_jpeg_files_are_frames_of_a_video_and_those_of_an_archive_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEG files carry no times; FFmpeg assumes 25 frames a second."""
    frames = from_stdin(numbered(1) * 3, monkeypatch)
    assert [(frame.number, frame.time, frame.still) for frame in frames] == [(n, n / 25, False) for n in range(3)]
    frames = from_stdin(archive({"a.jpg": numbered(1), "b.jpg": numbered(2)}), monkeypatch)
    assert [(frame.number, frame.time, frame.still) for frame in frames] == [(0, 0.0, True)] * 2
