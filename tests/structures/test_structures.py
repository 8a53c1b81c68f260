"""Letterbox, Detections and the light imports, against hand-worked mappings and plain loops."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import yolo_lite
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import PAD_VALUE, Letterbox, resize_image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections, with_area

NAMES = ("cat", "dog", "owl")


def _noise(hw: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)


def _bright_box(image: npt.NDArray[np.uint8]) -> list[int]:
    """Return the xyxy box around every pixel that is more white than black, found by looking at each row and column."""
    bright = image.min(2) > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


# Letterbox: worked by hand


def test_letterbox_of_100_by_200_in_320_is_as_worked_by_hand() -> None:
    """The factor is min(320 / 100, 320 / 200) = 1.6, so 160 x 320 pixels, and (320 - 160) / 2 = 80 of grey above."""
    letterbox = Letterbox.fit((100, 200), (320, 320))
    assert letterbox.content_hw == (160, 320)
    assert letterbox.offset_xy == (0, 80)
    assert letterbox.scale_xy == (1.6, 1.6)
    # x * 1.6 and y * 1.6 + 80
    np.testing.assert_allclose(letterbox.boxes_to_input([[10, 20, 110, 70]]), [[16, 112, 176, 192]], atol=1e-4)
    np.testing.assert_allclose(letterbox.boxes_to_original([[16, 112, 176, 192]]), [[10, 20, 110, 70]], atol=1e-4)


@pytest.mark.parametrize(
    ("original_hw", "content_hw", "before", "after"),
    [
        # 103 * 1.6 = 164.8, so 165 pixels; of the 155 that remain 77 are before and 78 after
        pytest.param((103, 200), (165, 320), (77, 0), (78, 0), id="wide"),
        pytest.param((200, 103), (320, 165), (0, 77), (0, 78), id="tall"),
        # 101 * 1.6 = 161.6, so 162 pixels; 158 remain, 79 on either side
        pytest.param((101, 200), (162, 320), (79, 0), (79, 0), id="even border"),
        # 0.32 * 1 rounds to 0 pixels, which is raised to 1; of the 319 that remain 159 are before
        pytest.param((1, 1000), (1, 320), (159, 0), (160, 0), id="a line"),
        pytest.param((1, 1), (320, 320), (0, 0), (0, 0), id="one pixel"),
    ],
)
def test_letterbox_gives_the_odd_pixel_to_the_bottom_and_right(
    original_hw: tuple[int, int], content_hw: tuple[int, int], before: tuple[int, int], after: tuple[int, int]
) -> None:
    letterbox = Letterbox.fit(original_hw, (320, 320))
    assert letterbox.content_hw == content_hw
    assert letterbox.offset_xy == before[::-1]
    white = letterbox.apply(np.full((*original_hw, 3), 255, np.uint8))
    assert white.shape == (320, 320, 3)
    expected = np.full((320, 320, 3), 114, np.uint8)
    expected[before[0] : 320 - after[0], before[1] : 320 - after[1]] = 255
    np.testing.assert_array_equal(white, expected)


def test_stretch_fills_the_input_with_a_factor_for_each_side() -> None:
    letterbox = Letterbox.fit((100, 200), (320, 320), resize="stretch")
    assert letterbox.content_hw == (320, 320)
    assert letterbox.offset_xy == (0, 0)
    assert letterbox.scale_xy == (1.6, 3.2)  # 320 / 200 and 320 / 100
    np.testing.assert_allclose(letterbox.boxes_to_input([[10, 20, 110, 70]]), [[16, 64, 176, 224]], atol=1e-4)
    assert (letterbox.apply(np.full((100, 200, 3), 255, np.uint8)) == 255).all()


def test_boxes_to_original_clips_to_the_image() -> None:
    """Input -8 is 5 pixels left of the image; input row 0 is in the border, 50 original pixels above it."""
    letterbox = Letterbox.fit((100, 200), (320, 320))
    np.testing.assert_array_equal(letterbox.boxes_to_original([[-8, 0, 400, 320]]), [[0, 0, 200, 100]])
    np.testing.assert_array_equal(letterbox.boxes_to_original([[0, 0, 10, 10]])[:, [1, 3]], [[0, 0]])


def test_boxes_to_input_does_not_clip() -> None:
    letterbox = Letterbox.fit((100, 200), (320, 320))
    np.testing.assert_allclose(letterbox.boxes_to_input([[-10, -60, 0, 0]]), [[-16, -16, 0, 80]], atol=1e-4)


# Letterbox: pixels


PAINTED = [
    pytest.param((100, 200), (320, 320), "letterbox", id="grows, wide"),
    pytest.param((200, 101), (320, 320), "letterbox", id="grows, tall"),
    pytest.param((480, 640), (96, 96), "letterbox", id="shrinks"),
    pytest.param((333, 500), (320, 416), "letterbox", id="shrinks, not square"),
    pytest.param((320, 320), (320, 320), "letterbox", id="same size"),
    pytest.param((160, 320), (320, 320), "letterbox", id="only bordered"),
    pytest.param((100, 200), (320, 320), "stretch", id="stretch, grows"),
    pytest.param((500, 333), (96, 160), "stretch", id="stretch, shrinks"),
    pytest.param((50, 700), (320, 320), "stretch", id="stretch, grows and shrinks"),
]


@pytest.mark.parametrize(("original_hw", "input_hw", "resize"), PAINTED)
def test_a_painted_rectangle_lands_where_boxes_to_input_says(
    original_hw: tuple[int, int], input_hw: tuple[int, int], resize: str
) -> None:
    """Count bright pixels of the resized image: an oracle that knows neither factor nor offset."""
    height, width = original_hw
    x1, y1, x2, y2 = width // 5, height // 4, width // 2, height - height // 10
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    letterbox = Letterbox.fit(original_hw, input_hw, resize=resize)
    made = letterbox.apply(image)
    assert made.shape == (*input_hw, 3)
    assert made.dtype == np.uint8
    mapped = letterbox.boxes_to_input([[x1, y1, x2, y2]])
    # an edge inside a pixel can be counted to either side, and where 255 meets the 0 beside it half of the way is 127
    np.testing.assert_allclose(mapped[0], _bright_box(made), atol=1.0)


def test_pixels_are_bilinear_with_half_pixel_centres_where_the_image_grows() -> None:
    """Interpolate every pixel in a plain loop: the centre of output pixel i lies at (i + 0.5) / factor - 0.5."""
    image = _noise((5, 7))
    made = resize_image(image, (12, 21)).astype(np.float64)
    for row in range(12):
        for column in range(21):
            y = min(max((row + 0.5) * 5 / 12 - 0.5, 0), 4)
            x = min(max((column + 0.5) * 7 / 21 - 0.5, 0), 6)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, 4), min(left + 1, 6)
            across = [
                (1 - x + left) * image[r, left] + (x - left) * image[r, right].astype(float) for r in (top, bottom)
            ]
            expected = (1 - y + top) * across[0] + (y - top) * across[1]
            np.testing.assert_allclose(made[row, column], expected, atol=1.0)  # OpenCV computes in fixed point


def test_pixels_are_means_of_areas_where_the_image_shrinks() -> None:
    image = _noise((12, 20))
    made = resize_image(image, (3, 5)).astype(np.float64)
    for row in range(3):
        for column in range(5):
            block = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(made[row, column], block.mean((0, 1)), atol=0.51)  # rounded


def test_a_one_pixel_image_fills_the_content_with_its_colour() -> None:
    made = Letterbox.fit((1, 1), (32, 64)).apply(np.array([[[10, 20, 30]]], np.uint8))
    assert (made[:, 16:48] == [10, 20, 30]).all()
    assert (made[:, :16] == PAD_VALUE).all()
    assert (made[:, 48:] == PAD_VALUE).all()


# Letterbox: properties


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("input_hw", [(320, 320), (32, 32), (320, 416), (640, 96)], ids=str)
@pytest.mark.parametrize(
    "original_hw", [(1, 1), (1, 500), (7, 3), (33, 65), (320, 320), (375, 500), (1080, 1920), (3001, 77)], ids=str
)
def test_letterbox_undo_returns_the_original_boxes(
    original_hw: tuple[int, int], input_hw: tuple[int, int], resize: str
) -> None:
    height, width = original_hw
    letterbox = Letterbox.fit(original_hw, input_hw, resize=resize)
    corners = np.random.default_rng(height).uniform(0, 1, (20, 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    mapped = letterbox.boxes_to_input(boxes)
    assert mapped.dtype == np.float32
    # float32 keeps 24 bits: half a step at 640 is 3e-5, which one over the factor makes larger in original pixels
    tolerance = 1e-4 / min(letterbox.scale_xy) + 1e-4
    detections = Detections(mapped, np.linspace(1, 0, 20), labels=np.zeros(20, int), class_names=NAMES)
    undone = letterbox.undo(detections)
    np.testing.assert_allclose(undone.boxes, boxes, atol=tolerance)
    np.testing.assert_array_equal(undone.scores, detections.scores)
    np.testing.assert_array_equal(undone.labels, detections.labels)
    assert undone.class_names == NAMES
    inside = [letterbox.offset_xy[0], letterbox.offset_xy[1]] * 2
    assert (mapped >= np.array(inside) - 1e-3).all()
    assert (mapped[:, 2:] <= np.array(inside[:2]) + np.array(letterbox.content_hw[::-1]) + 1e-3).all()


@pytest.mark.parametrize(
    "original_hw", [(h, w) for h in (1, 31, 97, 320, 481) for w in (1, 64, 319, 640)], ids=lambda hw: f"{hw[0]}x{hw[1]}"
)
def test_letterbox_touches_one_pair_of_sides_and_shares_the_rest(original_hw: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(original_hw, (320, 416))
    (height, width), (x, y) = letterbox.content_hw, letterbox.offset_xy
    assert height == 320 or width == 416
    assert height <= 320
    assert width <= 416
    below, right = 320 - height - y, 416 - width - x
    assert below - y in (0, 1)
    assert right - x in (0, 1)


@pytest.mark.parametrize(("original_hw", "input_hw", "resize"), PAINTED)
def test_apply_does_not_modify_its_input(original_hw: tuple[int, int], input_hw: tuple[int, int], resize: str) -> None:
    image = _noise(original_hw)
    before = image.copy()
    image.flags.writeable = False
    Letterbox.fit(original_hw, input_hw, resize=resize).apply(image)
    np.testing.assert_array_equal(image, before)


def test_box_mappings_do_not_modify_their_input_and_keep_empty_empty() -> None:
    letterbox = Letterbox.fit((100, 200), (320, 320))
    boxes = np.array([[10.0, 20, 110, 70]])
    letterbox.boxes_to_input(boxes)
    letterbox.boxes_to_original(boxes)
    np.testing.assert_array_equal(boxes, [[10, 20, 110, 70]])
    for mapping in (letterbox.boxes_to_input, letterbox.boxes_to_original):
        assert mapping([]).shape == (0, 4)
        assert mapping([]).dtype == np.float32
    assert len(letterbox.undo(Detections([], [], labels=[], class_names=NAMES))) == 0


@pytest.mark.parametrize(
    ("original_hw", "input_hw", "resize", "message"),
    [
        pytest.param((0, 10), (32, 32), "letterbox", "positive", id="no height"),
        pytest.param((10, -1), (32, 32), "stretch", "positive", id="negative width"),
        pytest.param((10, 10), (0, 32), "letterbox", "positive", id="no input"),
        pytest.param((10, 10), (32, 32), "crop", "'letterbox', 'corner' or 'stretch', got 'crop'", id="unknown rule"),
    ],
)
def test_letterbox_fit_refuses(
    original_hw: tuple[int, int], input_hw: tuple[int, int], resize: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Letterbox.fit(original_hw, input_hw, resize=resize)


def test_apply_refuses_an_image_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"must be \(100, 200\).*got \(200, 100\)"):
        Letterbox.fit((100, 200), (320, 320)).apply(_noise((200, 100)))


# Detections


def _three() -> Detections:
    boxes = [[0, 0, 10, 10], [5, 5, 20, 30], [1, 2, 3, 4]]
    return Detections(np.array(boxes), np.array([0.75, 0.5, 0.25]), labels=np.array([2, 0, 1]), class_names=NAMES)


BOX = [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        pytest.param([[0, 0, 1]], [0.5], [0], r"boxes must be \[N, 4\], got \[1, 3\]", id="three numbers"),
        pytest.param(BOX, [0.5] * 4, [0] * 4, r"boxes must be \[N, 4\], got \[4\]", id="one flat box"),
        pytest.param([[BOX]], [0.5], [0], r"boxes must be \[N, 4\]", id="three dimensions"),
        pytest.param([BOX, BOX], [0.5], [0, 0], r"must be \[2\] like boxes, got \[1\] and \[2\]", id="too few scores"),
        pytest.param([BOX], [0.5], [0, 1], r"must be \[1\] like boxes, got \[1\] and \[2\]", id="too many labels"),
        pytest.param([BOX], [[0.5]], [0], "must be", id="scores in two dimensions"),
        pytest.param([], [0.5], [], "must be", id="a score without box"),
        pytest.param([BOX, BOX], [0.4, 0.5], [0, 0], "descending", id="unsorted"),
        pytest.param([[0, 0, float("nan"), 1]], [0.5], [0], "finite", id="NaN in a box"),
        pytest.param([[0, 0, float("inf"), 1]], [0.5], [0], "finite", id="infinite box"),
        pytest.param([BOX], [float("nan")], [0], "finite", id="NaN score"),
        pytest.param([BOX], [0.5], [3], r"labels must be in 0\.\.2, got 3\.\.3", id="label too high"),
        pytest.param([BOX], [0.5], [-1], r"labels must be in 0\.\.2, got -1", id="negative label"),
        pytest.param([BOX], [1.5], [0], "score", id="score above 1"),
        pytest.param([BOX], [-0.5], [0], "score", id="score below 0"),
    ],
)
def test_detections_refuse(boxes: Any, scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels=labels, class_names=NAMES)


def test_detections_accept_equal_scores_and_the_ends_of_the_range() -> None:
    assert len(Detections([BOX] * 4, [1.0, 0.5, 0.5, 0.0], labels=[0, 1, 2, 0], class_names=NAMES)) == 4


@pytest.mark.parametrize(
    "boxes", [[], np.zeros((0, 4)), np.zeros((0, 4), np.float64), np.zeros(0)], ids=["list", "array", "float64", "flat"]
)
def test_no_detections_are_arrays_of_length_0(boxes: Any) -> None:
    empty = Detections(boxes, [], labels=[], class_names=NAMES)
    assert (empty.boxes.shape, empty.scores.shape, empty.labels.shape) == ((0, 4), (0,), (0,))
    assert (empty.boxes.dtype, empty.scores.dtype, empty.labels.dtype) == (np.float32, np.float32, np.int64)
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.names == []
    assert empty.to_dict() == {"detections": []}
    assert len(empty[:]) == 0


def test_detections_have_the_stated_dtypes() -> None:
    found = _three()
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
    assert found.class_names == NAMES
    assert len(found) == 3
    assert found.names == ["owl", "cat", "dog"]


def test_iteration_gives_one_box_detections_in_order() -> None:
    parts = list(_three())
    assert all(isinstance(part, Detections) and len(part) == 1 for part in parts)
    assert [part.names[0] for part in parts] == ["owl", "cat", "dog"]
    assert [part.scores.tolist() for part in parts] == [[0.75], [0.5], [0.25]]
    assert parts[1].boxes.tolist() == [[5, 5, 20, 30]]


@pytest.mark.parametrize(
    ("index", "positions"),
    [
        pytest.param(0, [0], id="first"),
        pytest.param(-1, [2], id="negative"),
        pytest.param(-3, [0], id="most negative"),
        pytest.param(np.int64(1), [1], id="numpy number"),
        pytest.param(slice(1, None), [1, 2], id="slice"),
        pytest.param(slice(0, 0), [], id="empty slice"),
        pytest.param(slice(None, None, 2), [0, 2], id="step"),
        pytest.param(np.array([True, False, True]), [0, 2], id="boolean"),
        pytest.param(np.array([False] * 3), [], id="all false"),
        pytest.param(np.array([0, 2]), [0, 2], id="positions"),
        pytest.param([1, 2], [1, 2], id="list of positions"),
    ],
)
def test_indexing_picks(index: Any, positions: list[int]) -> None:
    found = _three()
    picked = found[index]
    assert isinstance(picked, Detections)
    assert picked.boxes.shape == (len(positions), 4)
    assert picked.boxes.tolist() == [found.boxes[i].tolist() for i in positions]
    assert picked.scores.tolist() == [float(found.scores[i]) for i in positions]
    assert picked.labels.tolist() == [int(found.labels[i]) for i in positions]
    assert picked.class_names == NAMES


@pytest.mark.parametrize("index", [3, -4, 100])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match=f"detection {index} of 3"):
        _three()[index]


def test_an_index_that_breaks_the_order_of_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="descending"):
        _three()[[2, 0]]


def test_to_dict_is_plain_values() -> None:
    rows = _three().to_dict()["detections"]
    assert rows[0] == {"class_name": "owl", "label": 2, "score": 0.75, "box": [0, 0, 10, 10]}
    assert json.loads(json.dumps(rows)) == rows


# What a set says of itself


def _record(boxes: int, crowd: int = 0, unlabelled: tuple[int, ...] = ()) -> ImageRecord:
    total = boxes + crowd
    marks = np.array([False] * boxes + [True] * crowd, bool)
    return ImageRecord(
        Path("a.jpg"),
        1,
        hw=(10, 10),
        boxes=np.ones((total, 4)),
        labels=np.zeros(total, np.int64),
        crowd=marks,
        areas=np.ones(total),
        unlabelled=unlabelled,
    )


@pytest.mark.parametrize(
    ("records", "names", "dropped", "text"),
    [
        pytest.param([_record(1)], ("cat",), 0, "1 image, 1 box, 1 class", id="one of each"),
        pytest.param([_record(2), _record(1)], ("cat", "dog"), 0, "2 images, 3 boxes, 2 classes", id="several"),
        pytest.param(
            [_record(1), _record(0)],
            ("cat",),
            2,
            "2 images, 1 box, 1 class; 1 image without objects kept as background; 2 boxes without area dropped",
            id="background and dropped",
        ),
        pytest.param(
            [_record(1, 1)], ("cat",), 0, "1 image, 2 boxes, 1 class; 1 crowd box ignored in training", id="crowd"
        ),
        pytest.param(
            [_record(1, 0, (1,)), _record(0, 0, (0,)), _record(0, 0, (0, 1)), _record(1, 0, (0, 1))],
            ("cat", "dog"),
            0,
            "4 images, 2 boxes, 2 classes; 1 image without objects kept as background; "
            "3 images labelled for some classes only; 1 image without labels",
            id="in part and not at all labelled",
        ),
    ],
)
def test_summary_counts(records: list[ImageRecord], names: tuple[str, ...], dropped: int, text: str) -> None:
    assert (
        DetectionSet(
            tuple(records), names, category_ids=tuple(range(len(names))), source="here", dropped=dropped
        ).summary()
        == text
    )


# Track ids


def _tracked() -> Detections:
    boxes = [[0, 0, 9, 9], [5, 5, 9, 9], [1, 1, 4, 4]]
    return Detections(boxes, [0.9, 0.5, 0.4], labels=[0, 1, 0], class_names=NAMES, track_ids=[4, 1, 7])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "ids"),
    [(1, [1]), (slice(0, 2), [4, 1]), ([0, 2], [4, 7]), ([True, False, True], [4, 7]), ([], [])],
    ids=["number", "slice", "list", "mask", "nothing"],
)
def test_indexing_keeps_track_ids(index: Any, ids: list[int]) -> None:
    chosen = _tracked()[np.array(index, bool) if ids == [4, 7] and True in index else index]
    assert chosen.track_ids is not None
    assert chosen.track_ids.dtype == np.int64
    assert chosen.track_ids.tolist() == ids


def test_helpers_keep_track_ids() -> None:
    flat = Detections([[0, 0, 9, 9], [5, 0, 5, 9]], [0.9, 0.8], labels=[0, 0], class_names=NAMES, track_ids=[3, 2])  # type: ignore[arg-type]
    kept = with_area(flat).track_ids
    assert kept is not None
    assert kept.tolist() == [3]
    undone = Letterbox.fit((20, 20), (20, 20)).undo(_tracked()).track_ids
    assert undone is not None
    assert undone.tolist() == [4, 1, 7]


def test_json_has_track_ids_only_where_objects_are_tracked() -> None:
    assert [row["track_id"] for row in _tracked().to_dict()["detections"]] == [4, 1, 7]
    assert all(type(row["track_id"]) is int for row in _tracked().to_dict()["detections"])
    plain = Detections([[0, 0, 9, 9]], [0.9], labels=[0], class_names=NAMES)  # type: ignore[arg-type]
    assert "track_id" not in plain.to_dict()["detections"][0]
    assert plain[0].track_ids is None


@pytest.mark.parametrize("ids", [[1, 2], [1.5, 2, 3], "abc", [[1, 2, 3]]])
def test_wrong_track_ids_are_refused(ids: Any) -> None:
    with pytest.raises(InputError, match="track_ids must be 3 whole numbers"):
        replace(_tracked(), track_ids=ids)


# Imports


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        pytest.param("yolo_lite", ["torch", "numpy", "cv2", "PIL", "albumentations", "matplotlib"], id="package"),
        pytest.param("yolo_lite.structures.results", ["torch", "cv2", "albumentations", "matplotlib"], id="structures"),
        pytest.param("yolo_lite.tracking.video", ["torch", "cv2", "scipy", "matplotlib"], id="tracking"),
        pytest.param("yolo_lite.draw.boxes", ["torch", "albumentations", "matplotlib"], id="draw"),
        pytest.param("yolo_lite.config.resolve", ["torch", "numpy"], id="config"),
    ],
)
def test_import_stays_light(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    root = Path(yolo_lite.__file__).parents[1]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
