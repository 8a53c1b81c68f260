"""What a command asked for that another kind of network, data or file would need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.cli import main
from yolo_lite.data.class_sets import read_class_splits
from yolo_lite.engine.plan import plan, plan_classifier
from yolo_lite.engine.weights import DEFAULT_WEIGHTS, find_weights
from yolo_lite.errors import InputError


def test_the_kind_of_network_is_no_setting() -> None:
    with pytest.raises(InputError, match="not by the setting classifier.model"):
        plan("data", config="nano", settings={"classifier.model": "lenet"})
    with pytest.raises(InputError, match="not by the setting classifier.model"):
        plan_classifier("data", "lenet", settings={"classifier.model": "none"})


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
    with pytest.raises(InputError, match=r"train.keep_start keeps a share .*: name --weights"):
        plan("data", "none", "nano", {"train.keep_start": 0.4})


def test_a_folder_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the same name as a shipped file does not stand in its way; a path to a folder is said not to exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_WEIGHTS).mkdir()
    assert find_weights(DEFAULT_WEIGHTS).is_file()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine does not exist; shipped weights: [^;]*$"):
        find_weights("mine")
