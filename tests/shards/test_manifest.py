"""Manifests: the same images in the same order as a simple reading of the whole list gives."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.shards.conftest import write_images
from yolo_lite.errors import InputError
from yolo_lite.shards.manifest import (
    Manifest,
    UnreadableShardError,
    expand_braces,
    images_below,
    open_manifest,
    read_list,
)


def names(manifest: Manifest) -> list[list[str]]:
    return [[entry.name for entry in manifest.entries(shard)] for shard in range(manifest.shards)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_shards_are_those_of_a_list_that_is_held_in_memory(tmp_path: Path, size: int, end: str) -> None:
    generator = np.random.default_rng(size)
    lines = [("x" * int(n) + ".jpg") if n else "" for n in generator.integers(0, 30, 50)] + ["last.jpg"]
    (tmp_path / "list.txt").write_bytes(("\ufeff" + end.join(lines)).encode())  # no line break at the end
    expected = [[line for line in lines[start : start + size] if line] for start in range(0, len(lines), size)]
    manifest = open_manifest(str(tmp_path / "list.txt"), tmp_path / "out", shard_size=size)
    assert names(manifest) == expected
    assert sum(map(manifest.size, range(manifest.shards))) == len(lines)


def test_a_list_longer_than_a_block_is_cut_in_the_right_places(tmp_path: Path) -> None:
    lines = [f"{'folder' * 10}/{number:07d}.jpg" for number in range(40_000)]  # 3 MB: three blocks
    (tmp_path / "list.txt").write_text("\n".join(lines))
    manifest = open_manifest(str(tmp_path / "list.txt"), tmp_path)
    assert manifest.shards == 40
    assert names(manifest) == [lines[start : start + 1000] for start in range(0, 40_000, 1000)]


def test_paths_are_relative_to_the_list_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a/b.jpg\n/c d.jpg\n caf\xe9.jpg \n")
    entries = list(open_manifest(str(tmp_path / "list.txt"), tmp_path).entries(0))
    assert [entry.path for entry in entries] == [
        tmp_path / "a/b.jpg",
        Path("/c d.jpg"),
        tmp_path / os.fsdecode(b"caf\xe9.jpg"),
    ]


def test_the_digest_of_a_list_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a.jpg\n" * 3)
    # printf 'a.jpg\na.jpg\na.jpg\n' | sha256sum
    digest = "0f2c3c733acdc4e89528d649dbcb09394fbe73a35eb122a755748037963c466d"
    assert read_list(tmp_path / "a.txt", base=tmp_path, shard_size=2).digest == digest


def test_images_of_a_folder_come_sorted_folder_by_folder(tmp_path: Path) -> None:
    top = tmp_path / "images"
    for name in (
        "b.jpg",
        "a.PNG",
        "b/2.jpg",
        "b/10.jpg",
        "a/x/1.webp",
        ".hidden/1.jpg",
        "a/._1.jpg",
        "notes.txt",
        "film.mp4",
    ):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (top / "b" / "up").symlink_to(top)  # a circle
    (top / "gone.jpg").symlink_to(top / "missing.jpg")  # reported when it is read
    expected = ["a.PNG", "b.jpg", "gone.jpg", "a/x/1.webp", "b/10.jpg", "b/2.jpg"]
    assert list(images_below(top)) == expected
    manifest = open_manifest(str(top), tmp_path / "out", shard_size=4)
    assert names(manifest) == [expected[:4], expected[4:]]
    assert next(iter(manifest.entries(1))).path == top / "b/10.jpg"
    assert (tmp_path / "out" / "images.txt").read_text().split() == expected


def test_blanks_at_the_ends_of_names_in_a_folder_belong_to_them(tmp_path: Path) -> None:
    there = ["\v.jpg", " a.jpg", "a.jpg", "a.jpg\r.jpg"]
    (tmp_path / "images").mkdir()
    for name in there:
        (tmp_path / "images" / name).write_bytes(b"")
    manifest = open_manifest(str(tmp_path / "images"), tmp_path / "out")
    assert [entry.path for entry in manifest.entries(0)] == [tmp_path / "images" / name for name in there]


def test_a_folder_that_has_changed_goes_on_with_its_list_as_the_message_says(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    before = open_manifest(str(tmp_path / "images"), tmp_path / "out")
    write_images(tmp_path / "images", 4)
    with pytest.raises(InputError, match="or copy .*images.txt into that folder, and pass the copy as --manifest"):
        open_manifest(str(tmp_path / "images"), tmp_path / "out")
    copy = shutil.copy(tmp_path / "out" / "images.txt", tmp_path / "images")
    after = open_manifest(str(copy), tmp_path / "out")
    assert after.describe() == before.describe()
    assert list(after.entries(0)) == list(before.entries(0))


def test_a_folder_that_has_changed_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    for _ in range(2):
        assert open_manifest(str(tmp_path / "images"), tmp_path / "out").size(0) == 3
    write_images(tmp_path / "images", 4)
    with pytest.raises(InputError, match="has other images than those that .*images.txt lists"):
        open_manifest(str(tmp_path / "images"), tmp_path / "out")


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


MEMBERS = {"0.jpg": b"zero", "0.json": b"{}", "a/1.JPEG": b"one", "a/._1.jpg": b"mac", "2.png": b""}
INSIDE = [("0.jpg", b"zero"), ("a/1.JPEG", b"one"), ("2.png", b"")]


@pytest.mark.parametrize("source", ["s-{08..10}.tar", "s-*.tar", ".", "tars.txt", "braces.txt"])
def test_each_tar_is_a_shard(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    tars = ["s-08.tar", "s-09.tar", "s-10.tar"]
    for name in tars:
        write_tar(folder / name, MEMBERS)
    (folder / "tars.txt").write_text("\n".join(tars))
    (folder / "braces.txt").write_text("s-{08..10}.tar\n")
    manifest = open_manifest(str(folder / source), tmp_path / "out")
    assert (manifest.shards, manifest.unit) == (3, "tar files")
    for shard, name in enumerate(tars):
        assert [(entry.name, entry.content) for entry in manifest.entries(shard)] == [
            (f"{name}/{member}", content) for member, content in INSIDE
        ]
    with pytest.raises(InputError, match="each tar of .* is one shard; leave out --shard-size 5"):
        open_manifest(str(folder / source), tmp_path / "out", shard_size=5)


def test_one_tar_may_be_compressed(tmp_path: Path) -> None:
    write_tar(tmp_path / "one.tgz", MEMBERS)
    manifest = open_manifest(str(tmp_path / "one.tgz"), tmp_path)
    assert [entry.content for entry in manifest.entries(0)] == [content for _, content in INSIDE]


def test_a_tar_that_is_cut_short_or_missing_gives_an_entry_with_an_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-0.tar", {"0.jpg": b"x" * 5000, "1.jpg": b"y" * 50_000})
    (tmp_path / "s-0.tar").write_bytes((tmp_path / "s-0.tar").read_bytes()[:20_000])
    (tmp_path / "s-1.tar").write_bytes(b"no tar at all" * 100)
    manifest = open_manifest(str(tmp_path / "s-{0..2}.tar"), tmp_path)
    first, last = manifest.entries(0)
    assert (first.name, first.content, last.name) == ("s-0.tar/0.jpg", b"x" * 5000, "s-0.tar")
    assert last.error.startswith("s-0.tar is not a whole tar file (")
    assert next(iter(manifest.entries(1))).error.startswith("s-1.tar is not a whole tar file (")
    assert next(iter(manifest.entries(2))).error == "s-2.tar does not exist"


def test_a_tar_that_the_disk_does_not_deliver_has_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for all images that follow would make the shard look complete."""
    write_tar(tmp_path / "s.tar", MEMBERS)
    extract = tarfile.TarFile.extractfile

    def fail(self: tarfile.TarFile, member: tarfile.TarInfo) -> object:
        if member.name == "2.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return extract(self, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", fail)
    entries = open_manifest(str(tmp_path / "s.tar"), tmp_path).entries(0)
    assert [next(entries).name for _ in range(2)] == ["s.tar/0.jpg", "s.tar/a/1.JPEG"]
    with pytest.raises(UnreadableShardError, match="cannot read s.tar: Input/output error"):
        next(entries)


def test_a_tar_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "set[1]").mkdir()
    write_tar(tmp_path / "set[1]" / "s-{0..1}.tar", MEMBERS)
    (entry, *_) = open_manifest(str(tmp_path / "set[1]" / "s-{0..1}.tar"), tmp_path).entries(0)
    assert (entry.name, entry.content) == ("s-{0..1}.tar/0.jpg", b"zero")


def test_ranges_in_braces_are_those_of_a_shell() -> None:
    assert expand_braces("a-{9..11}-{00..01}.tar") == [f"a-{n}-0{m}.tar" for n in (9, 10, 11) for m in (0, 1)]
    assert expand_braces("{x}.tar") == ["{x}.tar"]
    with pytest.raises(InputError, match="expected a range"):
        expand_braces("{5..1}.tar")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.txt", None, "does not exist; --manifest takes a list of images"),
        ("empty.txt", b"", "names no image"),
        ("blank.txt", b"\n \n\n", "names no image"),
        ("film.mp4", b"\0\0\0 ftypisom", "is not a text file; --manifest takes a list with one path per line"),
        ("mixed.txt", b"a.tar\nb.jpg\n", "lists tar files, and b.jpg, which is not one"),
        ("missing.tar", None, "missing.tar does not exist"),
        ("s-{0..3}.tar", None, "no tar file matches .*s-"),
    ],
)
def test_a_wrong_manifest_is_explained(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        open_manifest(str(tmp_path / name), tmp_path / "out")


def test_a_folder_without_images_is_refused_and_leaves_no_list(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in the folder"):
        open_manifest(str(tmp_path / "empty"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
