"""What sources are taken for, and that no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as PillowImage

from tests.conftest import write_coco_set
from yolo_lite.errors import InputError
from yolo_lite.stream.addresses import (
    Camera,
    ImageFiles,
    Network,
    StandardInput,
    are_streams,
    find_addresses,
    image_paths,
    is_stream,
    short_names,
    without_secrets,
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.7/yard", "rtsp://10.0.0.7/yard"),
        ("rtsp://me:p@ss@10.0.0.7:8554/yard", "rtsp://10.0.0.7:8554/yard"),  # the last @ ends the password
        ("http://host/a@b?x=c@d", "http://host/a@b?x=c@d"),  # these belong to the path
        ("http://host/v?user=me&password=pq&size=2", "http://host/v?user=***&password=***&size=2"),
        ("http://host/v?api_key=pq", "http://host/v?api_key=***"),
        ("rtsp://h/user=admin_password=pq_channel=1", "rtsp://h/user=***_password=***_channel=1"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_every_kind_of_source_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco_set(tmp_path / "set", {"train": 2})
    monkeypatch.chdir(tmp_path)
    camera, network, images, stdin = find_addresses(["2", "HTTP://host/Video", "set/images", "-"])
    assert camera == Camera(2, "camera 2")
    assert network == Network("http://host/Video", "http://host/Video")
    assert isinstance(images, ImageFiles)
    assert [path.name for path in images.images] == ["0001.png", "0002.png"]
    assert stdin == StandardInput()


def test_a_list_names_sources_relative_to_its_folder(tmp_path: Path) -> None:
    write_coco_set(tmp_path / "set", {"train": 1})
    listed = tmp_path / "cameras.txt"
    listed.write_text("# the yard\nrtsp://10.0.0.7/yard\n\n0 # the door\nset/images/0001.png\n")
    yard, door, image = find_addresses([str(listed)])
    assert (yard.name, door.name) == ("rtsp://10.0.0.7/yard", "camera 0")
    assert isinstance(image, ImageFiles)
    assert image.images == (tmp_path / "set" / "images" / "0001.png",)


def test_equal_names_get_numbers() -> None:
    first, second = find_addresses(["rtsp://a:b@host/x", "rtsp://c:d@host/x"])
    assert (first.name, second.name) == ("rtsp://host/x", "rtsp://host/x (2)")


def test_files_are_no_streams() -> None:
    assert not any(map(is_stream, ("photo.jpg", "film.mp4", "shots", "shots/*.jpg", "./0")))


def test_a_text_among_files_is_no_list() -> None:
    assert not are_streams(["shots/a.jpg", "shots/notes.txt"])
    assert not are_streams([])
    assert are_streams(["yard.txt", "street.txt"])
    assert are_streams(["yard.txt", "0"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.txt", "missing.txt does not exist; a list has a source a line"),
        ("empty.txt", "empty.txt lists no source"),
        ("notes.txt", "notes.txt: milk, bread does not exist"),
        ("nested.txt", "nested.txt: other.txt cannot be in a list"),
        ("udp://@:1234", "udp://:1234 cannot be read; a source is"),
        ("rtsp:///yard", "rtsp:///yard names no host"),
        ("rtsp://me:secret@host:port/x", "rtsp://host:port/x is not a URL"),
        ("missing.mp4", "missing.mp4 does not exist"),
    ],
)
def test_bad_sources_get_a_line(source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("# nothing\n")
    Path("notes.txt").write_text("milk, bread\n")
    Path("nested.txt").write_text("other.txt\n")
    with pytest.raises(InputError) as caught:
        find_addresses([source])
    assert str(caught.value).startswith(words)
    assert "secret" not in str(caught.value)


def test_short_names_are_relative_to_the_common_folder(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PillowImage.new("RGB", (8, 8)).save(tmp_path / name)
    sources = [str(tmp_path / "a"), "rtsp://10.0.0.7", str(tmp_path / "b" / "1.png")]
    names = short_names(find_addresses(sources))
    assert names == {str(tmp_path / name): name for name in ("a/1.png", "a/2.png", "b/1.png")}


def test_beside_files_a_text_is_an_unreadable_image(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rtsp://10.0.0.7")
    PillowImage.new("RGB", (8, 8)).save(tmp_path / "1.png")
    text, image = find_addresses([str(tmp_path / "notes.txt"), str(tmp_path / "1.png")])
    assert isinstance(text, ImageFiles)
    assert isinstance(image, ImageFiles)
    assert image_paths([text, image, text]) == [tmp_path / "notes.txt", tmp_path / "1.png"]
