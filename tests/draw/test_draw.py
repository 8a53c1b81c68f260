"""Drawings, read back pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.draw.colours import class_colour
from yolo_lite.draw.plots import plot_results
from yolo_lite.structures.results import Detections


def _grey(hw: tuple[int, int] = (200, 300)) -> npt.NDArray[np.uint8]:
    return np.full((*hw, 3), 40, np.uint8)


def _found(*boxes: Any, names: tuple[str, ...] = ("cat", "dog"), labels: tuple[int, ...] | None = None) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes))
    return Detections(np.array(boxes), scores, labels=np.array(labels or [0] * len(boxes)), class_names=names)


def _border(image: npt.NDArray[np.uint8], box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Return the pixels [N, 3] just inside the box's four edges."""
    x1, y1, x2, y2 = box
    part = image[y1:y2, x1:x2]
    return np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])


def test_the_border_of_the_box_has_the_colour_of_the_class() -> None:
    for label in (0, 1):
        made = draw_detections(_grey(), _found((50, 60, 150, 120), labels=(label,)))
        assert (_border(made, (50, 60, 150, 120)) == class_colour(label)).all()


def test_nothing_changes_inside_the_lines_below_and_beside_the_box() -> None:
    """The image's short side is 200, so lines are 2 wide; the name's plate is above the box."""
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    made = draw_detections(image, _found((50, 60, 150, 120)))
    np.testing.assert_array_equal(made[62:118, 52:148], image[62:118, 52:148])
    np.testing.assert_array_equal(made[120:], image[120:])
    np.testing.assert_array_equal(made[:, :50], image[:, :50])
    assert (made[61:119, [51, 148]] == class_colour(0)).all()  # the second column of either line
    assert (made[40:60] != image[40:60]).any()


def test_draw_detections_does_not_modify_its_input() -> None:
    image = _grey()
    made = draw_detections(image, _found((50, 60, 150, 120)))
    assert (image == 40).all()
    assert not np.shares_memory(image, made)
    assert (made.shape, made.dtype) == (image.shape, np.uint8)


def test_draw_detections_accepts_views_and_read_only_images() -> None:
    image = _grey()
    expected = draw_detections(image, _found((50, 60, 150, 120)))
    view = _grey((200, 600))[:, ::2][..., ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(draw_detections(view, _found((50, 60, 150, 120))), expected)


def test_no_detections_leave_a_copy_of_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype(np.uint8)
    made = draw_detections(image, Detections([], [], labels=[], class_names=("cat",)))
    np.testing.assert_array_equal(made, image)
    assert not np.shares_memory(image, made)


def test_the_best_score_is_on_top() -> None:
    box = (50, 60, 150, 120)
    made = draw_detections(_grey(), _found(box, box, labels=(1, 0)))
    assert (_border(made, box)[100:200] == class_colour(1)).all()  # the lower edge, which no plate touches


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((0, 0, 40, 30), id="upper left"),
        pytest.param((260, 0, 300, 30), id="upper right"),
        pytest.param((0, 170, 40, 200), id="lower left"),
        pytest.param((270, 180, 300, 200), id="lower right"),
        pytest.param((0, 0, 300, 200), id="whole image"),
        pytest.param((-50, -50, 400, 300), id="larger than the image"),
        pytest.param((100, 100, 100, 100), id="no area"),
        pytest.param((299.5, 199.5, 300, 200), id="part of the last pixel"),
        pytest.param((100, 3, 140, 8), id="just below the upper edge"),
    ],
)
def test_a_label_at_the_edge_stays_in_the_image(box: tuple[float, float, float, float]) -> None:
    """A plate with name and score is at least 40 wide and 15 high here: that many pixels must be seen to change."""
    made = draw_detections(_grey(), _found(box, names=("a long name", "dog")))
    assert made.shape == (200, 300, 3)
    changed = (made != 40).any(2)
    columns = changed.any(0).sum()
    assert columns >= 40
    plate = (made == class_colour(0)).all(2).sum()
    assert plate > (100 if box[1] < 190 else 10)


def test_names_of_a_known_alphabet_are_written_and_not_replaced() -> None:
    """Letters that the font lacks all look the same; then these two words of the same letters would be equal."""
    for one, other in (("кот", "ток"), ("äöü", "üöä"), ("γάτα", "ατάγ")):
        images = [draw_detections(_grey(), _found((50, 60, 150, 120), names=(name, "b"))) for name in (one, other)]
        assert (images[0] != images[1]).any()


@pytest.mark.parametrize("name", ["猫", "🐈", "", " ", "two\nlines", "x" * 300], ids=ascii)
def test_any_class_name_can_be_drawn(name: str) -> None:
    made = draw_detections(_grey(), _found((50, 60, 150, 120), names=(name, "b")))
    assert (made[119, 50:150] == class_colour(0)).all()


@pytest.mark.parametrize("hw", [(8, 8), (1, 1), (1, 100), (100, 1)], ids=str)
def test_tiny_images_can_be_drawn_on(hw: tuple[int, int]) -> None:
    made = draw_detections(_grey(hw), _found((0, 0, hw[1], hw[0])))
    assert made.shape == (*hw, 3)
    assert (made != 40).any()


def test_a_label_that_would_hide_the_image_is_left_out() -> None:
    """In 40 x 60 pixels the smallest letters make a plate of about 48 x 13, a quarter of the image."""
    made = draw_detections(_grey((40, 60)), _found((10, 10, 50, 30), names=("giraffe", "b")))
    changed = (made != 40).any(2)
    assert changed.sum() == (_border(made, (10, 10, 50, 30)) == class_colour(0)).all(1).sum() - 4  # corners count twice


def test_lines_grow_with_the_image() -> None:
    """The short side is 2000, so lines are 2000 / 200 = 10 wide."""
    made = draw_detections(_grey((2000, 2400)), _found((500, 800, 1500, 1200)))
    below = (made[1000, :] == class_colour(0)).all(1)
    np.testing.assert_array_equal(np.flatnonzero(below), [*range(500, 510), *range(1490, 1500)])


def test_every_class_has_a_colour_of_its_own() -> None:
    colours = [class_colour(label) for label in range(80)]
    assert len(set(colours)) == 80
    for one, other in zip(colours, colours[1:]):
        assert sum(abs(a - b) for a, b in zip(one, other)) > 50
    assert all(0 <= value <= 255 for colour in colours for value in colour)


COLOUR_BLIND = {  # Machado, Oliveira and Fernandes 2009, table 1, severity 1: on linear R, G, B
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("kind", COLOUR_BLIND)
def test_colour_blind_people_can_tell_the_first_classes_apart(kind: str) -> None:
    """A difference of 10 in CIE L*a*b* is seen at a glance; red and green of equal lightness would be 1 apart."""
    seen = {label: _lab(_simulated(class_colour(label), kind)) for label in range(7)}
    nearest = min(np.linalg.norm(seen[a] - seen[b]) for a in seen for b in seen if a < b)
    assert nearest > 10


def _simulated(colour: tuple[int, int, int], kind: str) -> npt.NDArray[np.float64]:
    values = np.array(colour) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return (np.array(COLOUR_BLIND[kind]) @ linear).clip(0, 1)


def _lab(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return CIE L*a*b* (white point D65) of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([{"epoch": 1, "lr": 0.1, "loss_box": 2.0, "loss_class": 1.0, "AP": 0.1, "AP50": 0.2}], id="one"),
        pytest.param(
            [
                {"epoch": 1, "lr": 0.1, "loss_box": 2.0},
                {"epoch": 2, "lr": 0.05, "loss_box": 1.0, "AP": 0.1, "AP50": 0.2, "AP75": float("nan")},
                {"epoch": 3, "lr": 0.01, "loss_box": 0.5},
            ],
            id="evaluated every second epoch",
        ),
        pytest.param([{"epoch": 1, "lr": 0.1, "loss_box": 2.0}], id="never evaluated"),
    ],
)
def test_plot_results_writes_a_png(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    path = tmp_path / "results.png"
    plot_results(rows, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10  # curves, axes, letters: not an empty sheet
