"""What a command asked for that another kind of network, data or file would need."""

from __future__ import annotations

import contextlib
import errno
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.read import read_yaml
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.formats.coco import read_json
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import open_video
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_weights
from yolo_lite.training.plan import plan


def test_the_kind_of_network_is_no_setting() -> None:
    with pytest.raises(InputError, match="not by the setting classifier.model"):
        plan("data", config="nano", settings={"classifier.model": "lenet"})
    with pytest.raises(InputError, match="not by the setting classifier.model"):
        plan("data", config="lenet", settings={"classifier.model": "none", "task": "classify"})


def test_boxes_of_pascal_voc_are_cut_out_to_classify(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "train" / "a.png")
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
    text = "".join(f"<object><name>{name}</name>{box}</object>" for name in ("dog", "cat"))
    (tmp_path / "train" / "a.xml").write_text(f"<annotation>{text}</annotation>")
    splits, _ = read_class_splits(tmp_path)
    assert splits["train"].class_names == ("cat", "dog")
    assert [record.box for record in splits["train"].records] == [(5, 5, 30, 30)] * 2


def test_a_drawing_needs_a_suffix_that_can_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "filters", "--out", str(tmp_path / "x.txt")]) == 2
    assert "must end in .png" in capsys.readouterr().err


def test_what_random_weights_cannot_keep_is_refused() -> None:
    with pytest.raises(InputError, match=r"train.keep_start keeps a fraction .*; name --weights"):
        plan("data", weights="none", config="nano", settings={"train.keep_start": 0.4})


def test_a_folder_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the same name as a shipped file does not stand in its way; any other is called one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_WEIGHTS).mkdir()
    assert find_weights(DEFAULT_WEIGHTS).is_file()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="^mine is a folder, expected a file; shipped weights: [^;]*$"):
        find_weights("mine")


# Files that the system does not open, which is no fault of theirs


@contextlib.contextmanager
def no_file_handle_left() -> Iterator[None]:
    """Lower the limit of open files to those that are open."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def a_video(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return path


def an_archive(path: Path) -> Path:
    folder = path.parent / "set"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name / f"{number}.png")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "set")
    return path


def a_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def an_image(path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(path)
    return path


READERS = {
    "image.png": (an_image, read_image),
    "video.avi": (a_video, open_video),
    "weights.pt": (lambda path: path.symlink_to(find_weights(DEFAULT_WEIGHTS)) or path, load_checkpoint),
    "set.tar.gz": (an_archive, read_class_splits),
    "instances.json": (lambda path: a_text(path, "{}"), read_json),
    "data.yaml": (lambda path: a_text(path, "a: 1"), read_yaml),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_the_system_does_not_open_is_not_called_damaged(tmp_path: Path, name: str) -> None:
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    make, read = READERS[name]
    path = make(tmp_path / name)
    read(path)  # which imports all that it needs
    with no_file_handle_left(), pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"cannot read {path}: {os.strerror(errno.EMFILE)}"
