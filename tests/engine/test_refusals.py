"""What a command asked for that another kind of network, data or file would need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.cli import main
from yolo_lite.data.class_sets import read_class_splits
from yolo_lite.engine.train import plan, plan_classifier
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
