"""Packed files are read to a limit: what a few kilobytes claim to hold is not set aside."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.class_folders import png, refusal, write_tar
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.formats import archive as unpack
from yolo_lite.data.formats.archive import open_unpacked
from yolo_lite.errors import InputError

Pack = Callable[[bytes], bytes]


PACKERS: dict[str, Pack] = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packer", PACKERS)
def test_what_was_packed_comes_back(packer: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 8000
    (tmp_path / "a").write_bytes(PACKERS[packer](content))
    with open_unpacked(tmp_path / "a") as file:
        assert (file.read(3), file.tell()) == (content[:3], 3)
        file.seek(1_500_000)
        assert file.read() == content[1_500_000:]


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz"])
def test_more_than_the_limit_is_not_read(packer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_SMALL", 1 << 20)
    monkeypatch.setattr(unpack, "_RATIO", 1)
    (tmp_path / "a").write_bytes(PACKERS[packer](bytes(2 << 20)))
    for read in (lambda file: file.read(), lambda file: file.read(2 << 20), lambda file: file.seek(2 << 20)):
        with open_unpacked(tmp_path / "a") as file, pytest.raises(InputError, match="a unpacks to more than 1 MiB"):
            read(file)


def _header(kind: bytes, size: bytes = b"%011o\0" % 0, name: bytes = b"x") -> bytes:
    """Return a block of a tar file, worked out from the table of POSIX.1-1988."""
    block = name.ljust(100, b"\0") + b"0000644\0" * 3 + size + b"%011o\0" % 0 + b" " * 8 + kind
    block = (block.ljust(257, b"\0") + b"ustar  \0").ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _sparse_pax() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("train/a/1.png")
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "x"}
        archive.addfile(member)
    return stream.getvalue()


BROKEN = {
    "3,000 long names": (_header(b"L", b"%011o\0" % 1) + b"x".ljust(512, b"\0")) * 3000,
    "a name of eight gigabytes": _header(b"L", b"7" * 11 + b"\0"),
    "a size below zero": _header(b"0", b"\xff" * 12) * 3,
    "a sparse file": _header(b"S", b"%011o\0" % 0, b"train/a/1.png"),
    "a broken sparse header": _sparse_pax(),
}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_refused_in_one_line(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(BROKEN[name]) if suffix == "tar.gz" else BROKEN[name])
    with pytest.raises(InputError) as caught:
        read_class_splits(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_idx_file_that_is_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_SMALL", 1 << 20)
    head = bytes((0, 0, 8, 3)) + b"".join(side.to_bytes(4, "big") for side in (16, 1024, 1024))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(16 << 20)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 16)) + bytes(16))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz unpacks to more than 1 MiB"):
        read_class_splits(tmp_path)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "train/../../x.png", "train/cat/.."])
def test_an_archive_with_a_path_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    good = {f"train/{kind}/1.png": png() for kind in ("cat", "dog")}
    path = write_tar(tmp_path / "a.tar", {**good, name: png()})
    with tarfile.open(path) as archive:
        assert name in archive.getnames()  # as it is, not tidied by the writer
    assert f"{path} holds {name!r}, a path that leads out of the archive" in refusal(read_class_splits, path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_tar_gz_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    """Of noise, so that the packed file ends with images and not with tar's zeros."""
    generator = np.random.default_rng(0)
    members = {
        f"train/{name}/{n}.png": generator.bytes(3000) for name in ("cat", "dog") for n in range(5)
    }  # never decoded
    whole = write_tar(tmp_path / "whole.tar", members).read_bytes()
    packed = gzip.compress(whole)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed)
    assert len(read_class_splits(path)[0]["train"].records) == 10
    path.write_bytes(packed[: int(len(packed) * share)])
    assert f"{path} is damaged, cut short or not a tar file" in refusal(read_class_splits, path)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="empty"),
        pytest.param(300, id="in the first header"),
        pytest.param(3 * 1024 + 700, id="in an image"),
        pytest.param(3 * 1024 + 200, id="in a later header"),
    ],
)
def test_a_tar_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    """Each member takes 1024 bytes: a header of 512, and an image of under 512 filled up with zeros."""
    assert len(png()) <= 512
    path = write_tar(tmp_path / "a.tar", {f"train/{name}/{n}.png": png() for name in ("cat", "dog") for n in range(3)})
    path.write_bytes(path.read_bytes()[:size])
    assert f"{path} is damaged, cut short or not a tar file" in refusal(read_class_splits, path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_what_only_has_the_name_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>404 not found</html>" * 100)
    message = refusal(read_class_splits, tmp_path / name)
    assert f"{tmp_path / name} is damaged, cut short or not a tar file" in message


def test_an_archive_too_large_for_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "a.tar", {f"train/{name}/1.png": png() for name in ("cat", "dog")})
    monkeypatch.setattr(unpack, "MOST", path.stat().st_size)
    assert len(read_class_splits(path)[0]["train"].records) == 2
    monkeypatch.setattr(unpack, "MOST", 2 * len(png()) - 1)
    assert "unpack it and name the folder" in refusal(read_class_splits, path)
