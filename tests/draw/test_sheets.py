"""Sheets: captions, dashed outlines, and what the sheets of a training show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.draw.colours import class_colour
from yolo_lite.draw.sheets import SheetImage, draw_sheet
from yolo_lite.evaluation.compare import compare_on_sheet
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections


def _drawn(cell: SheetImage, path: Path) -> np.ndarray:
    draw_sheet([cell], path)
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_caption_stands_above_the_image(tmp_path: Path) -> None:
    cell = SheetImage(np.full((320, 320, 3), 9, np.uint8), np.zeros((0, 4)), labels=[], texts=[], caption="cat.png")
    sheet = _drawn(cell, tmp_path / "a.png")
    assert sheet.shape == (340, 320, 3)
    assert (sheet[20:] == 9).all()
    assert sheet[:20].min() < 50  # letters
    assert (sheet[:20, 100:] == 255).all()


def test_outlines_of_wrong_boxes_are_dashed(tmp_path: Path) -> None:
    """Dashes of 8 pixels and gaps of 6: about 8 / 14 of the outline is drawn."""
    cell = SheetImage(np.zeros((320, 320, 3), np.uint8), [[40, 40, 240, 200]] * 1, labels=[1], texts=[""])
    whole = (_drawn(cell, tmp_path / "a.png") == class_colour(1)).all(2)
    dashed = (_drawn(cell._replace(wrong=frozenset({0})), tmp_path / "b.png") == class_colour(1)).all(2)
    assert whole.sum() == 2 * 2 * (200 + 160) - 4 * 4  # two pixels wide, corners once
    assert 0.5 < dashed.sum() / whole.sum() < 0.7
    assert not (dashed & ~whole).any()


def _record(boxes: list[list[float]], *, labels: list[int], crowd: list[bool]) -> ImageRecord:
    return ImageRecord(
        Path("a.png"),
        1,
        hw=(100, 100),
        boxes=np.array(boxes, float).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.array(crowd, bool),
        areas=np.ones(len(boxes)),
    )


def test_a_comparison_marks_missed_objects_and_wrong_detections() -> None:
    """A cat is found, a dog is called a cat, a crowd of cats is neither found nor missed."""
    record = _record([[0, 0, 20, 20], [50, 50, 90, 90], [0, 60, 30, 100]], labels=[0, 1, 0], crowd=[False, False, True])
    found = Detections([[0, 0, 20, 19], [50, 50, 90, 90]], [0.9, 0.6], labels=[0, 0], class_names=("cat", "dog"))
    truth, predictions = compare_on_sheet(
        np.zeros((100, 100, 3), np.uint8), record, detections=found, class_names=("cat", "dog")
    )
    assert truth.texts == ["cat", "✗ dog", "cat (crowd)"]
    assert truth.wrong == {1}
    assert truth.caption == "a.png: 2 objects, 1 missed"
    assert predictions.texts == ["cat 90%", "✗ cat 60%"]
    assert predictions.wrong == {1}
    assert predictions.caption == "predictions: 1 right, 1 wrong"


@pytest.mark.parametrize("count", [1, 3])
def test_images_keep_their_shape(tmp_path: Path, count: int) -> None:
    """An image of 100 x 200 fills the width of 320 and 160 rows in the middle."""
    cell = SheetImage(np.full((100, 200, 3), 9, np.uint8), np.zeros((0, 4)), labels=[], texts=[])
    draw_sheet([cell] * count, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        column = np.asarray(image)[:, 10, 0]
    assert (column == 9).sum() == 160
