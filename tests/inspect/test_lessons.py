"""The drawings of the course show numbers worked by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from tests.conftest import write_coco_set
from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.inspect.lessons import IMAGE, LAPLACIAN, box_lesson, convolution_steps
from yolo_lite.inspect.patches import strongest_patches
from yolo_lite.predict.detector import Detector
from yolo_lite.predict.files import sample_image
from yolo_lite.structures.results import Detections


def test_the_convolution_agrees_with_scipy() -> None:
    (image, _, plain, strided), (padded, same, _, pooled) = convolution_steps()
    expected = ndimage.correlate(np.array(IMAGE), np.array(LAPLACIAN), mode="constant")
    assert image.values.tolist() == [list(row) for row in IMAGE]
    assert same.values.tolist() == expected.tolist()
    assert plain.values.tolist() == expected[1:2, 1:4].tolist()
    assert strided.values.tolist() == expected[1:2, 1:4:2].tolist()
    assert padded.values.shape == (5, 7)
    assert pooled.values.tolist() == [[expected[:2, :2].max(), expected[:2, 2:4].max()]]


def test_the_box_formula_of_a_box_worked_by_hand() -> None:
    """In 448 x 448, cells are 64 wide: the centre (224, 320) lies in row 5, column 3, half a cell right, at the top."""
    found = Detections([[160, 256, 288, 448]], [0.8], labels=[0], class_names=("dog",))
    lesson = box_lesson(found, (160, 256, 288, 384), image_hw=(448, 448))
    assert lesson is not None
    assert lesson.cell == (5, 3)
    assert lesson.targets == pytest.approx((0.5, 0.0, 128 / 448, 128 / 448))
    assert lesson.iou == pytest.approx(128 * 128 / (128 * 192))
    assert lesson.intersection == (160, 256, 288, 384)


@pytest.mark.parametrize("boxes", [[], [[0, 0, 10, 10]]])
def test_there_is_no_lesson_without_an_overlap(boxes: list[list[float]]) -> None:
    found = Detections(boxes, [0.8] * len(boxes), labels=[0] * len(boxes), class_names=("dog",))
    assert box_lesson(found, (20, 20, 40, 40), image_hw=(100, 100)) is None


def test_an_object_at_the_lower_right_corner_lies_in_the_last_cell() -> None:
    found = Detections([[100, 100, 100.5, 100.5]], [0.8], labels=[0], class_names=("dog",))
    lesson = box_lesson(found, (100, 100, 100.5, 100.5), image_hw=(100, 100))
    assert lesson is not None
    assert lesson.cell == (6, 6)


class _Edge(nn.Module):
    """Channel 0 responds to a step from dark to bright along x, channel 1 to brightness; stride 2, padding 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, stride=2, padding=1, bias=False)
        kernel = torch.tensor([[[-1.0, 0, 1]] * 3, [[1.0, 1, 1]] * 3]).unsqueeze(1)
        self.conv.weight = nn.Parameter(kernel)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images.float())


def _step(at: int, height: int) -> np.ndarray:
    """Return an image whose brightness rises at a column."""
    image = np.zeros((16, 16, 1), np.uint8)
    image[:, at:] = height
    return image


def test_patches_are_those_with_the_largest_responses() -> None:
    heights = [10, 200, 90, 120]
    patches = strongest_patches(_Edge().eval(), [_step(6, height) for height in heights], count=3)
    assert patches.layer == "conv"
    assert patches.size == (3, 3)
    assert patches.values[0] == [3 * 200, 3 * 120, 3 * 90]
    assert patches.values[1] == [9 * 200, 9 * 120, 9 * 90]
    assert patches.images[0][0][:, :, 0].tolist() == [[0, 200, 200]] * 3


def test_patches_beyond_the_border_are_grey() -> None:
    """The only bright pixel is at the upper left corner, whose patch begins at -1."""
    image = np.zeros((8, 8, 1), np.uint8)
    image[0, 0] = 50
    patches = strongest_patches(_Edge().eval(), [image])
    assert patches.images[1][0][:, :, 0].tolist() == [[114, 114, 114], [114, 50, 0], [114, 0, 0]]


def test_patches_need_images_and_a_field_smaller_than_the_image() -> None:
    with pytest.raises(InputError, match="no images"):
        strongest_patches(_Edge().eval(), [])
    pooled = nn.Sequential(_Edge(), nn.AdaptiveAvgPool2d(1)).eval()
    with pytest.raises(InputError, match="no receptive field smaller"):
        strongest_patches(pooled, [_step(4, 9)], layer="1")


@pytest.mark.slow
def test_commands_draw_lessons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco_set(tmp_path / "set", {"train": 3})
    assert main(["inspect", "convolution"]) == 0
    assert main(["inspect", "patches", "--source", "set/images", "--images", "2"]) == 0
    assert "patches of 3 x 3 pixels from 2 images: patches.png" in capsys.readouterr().out
    for name in ("convolution.png", "patches.png"):
        with Image.open(name) as drawing:
            assert drawing.width > 500
    box = ",".join(f"{side:.0f}" for side in Detector(device="cpu")(sample_image()).boxes[0])
    assert main(["inspect", "box", f"--box={box}"]) == 0
    iou = re.search(r"IoU with the prediction: (\d\.\d\d)", capsys.readouterr().out)
    assert iou
    assert float(iou[1]) > 0.95  # the box is the detection itself, in whole pixels
    Image.new("RGB", (320, 240)).save("black.png")
    assert main(["inspect", "box", "--image", "black.png", "--box", "0,0,2,2"]) == 2
    assert "finds nothing at --box 0,0,2,2" in capsys.readouterr().err
    assert main(["inspect", "patches", "--source", "set/images", "--layer", "nothing"]) == 2
    assert "no layer 'nothing'" in capsys.readouterr().err
    image = next((tmp_path / "set" / "images").iterdir())
    assert main(["inspect", "patches", "--source", "set/images", "--out", str(image)]) == 2
    assert "would be replaced" in capsys.readouterr().err
