"""Resizing and greying, against OpenCV's own bytes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite.structures.geometry import resize_image
from yolo_lite.structures.resize import resize_bilinearly, resize_by_area, to_grey

Pixels = npt.NDArray[np.uint8]


def _image(generator: np.random.Generator, hw: tuple[int, int], *, is_hard: bool) -> Pixels:
    """Return noise, or noise of black and white only, whose sums are farthest from each other."""
    pixels = generator.integers(0, 256, (*hw, 3)).astype(np.uint8)
    return np.where(pixels > 127, 255, 0).astype(np.uint8) if is_hard else pixels


def _by_opencv(image: Pixels, hw: tuple[int, int], method: int) -> Pixels:
    return np.asarray(cv2.resize(image, hw[::-1], interpolation=method), np.uint8)


SHRINKING = [
    pytest.param((480, 640), (312, 416), id="a letterbox"),
    pytest.param((427, 640), (278, 416), id="an odd side"),
    pytest.param((64, 96), (32, 48), id="blocks of 2 x 2"),
    pytest.param((60, 96), (20, 48), id="blocks of 3 x 2"),
    pytest.param((99, 77), (9, 7), id="blocks of 11 x 11"),
    pytest.param((60, 97), (20, 48), id="whole in height only"),
    pytest.param((50, 97), (50, 48), id="one side stays"),
    pytest.param((300, 200), (1, 1), id="to one pixel"),
    pytest.param((1, 200), (1, 33), id="from one row"),
    pytest.param((200, 1), (33, 1), id="from one column"),
    pytest.param((700, 33), (699, 32), id="by one pixel"),
    pytest.param((67, 33), (64, 17), id="more rows than are computed at a time"),
]
GROWING = [
    pytest.param((60, 90), (277, 416), id="both sides"),
    pytest.param((90, 60), (80, 61), id="one side shrinks"),
    pytest.param((20, 30), (40, 60), id="twice"),
    pytest.param((1, 1), (5, 7), id="from one pixel"),
    pytest.param((1, 50), (9, 8), id="from one row"),
    pytest.param((50, 1), (8, 9), id="from one column"),
    pytest.param((2, 2), (64, 65), id="from four pixels"),
]


@pytest.mark.parametrize("is_hard", [False, True], ids=["noise", "black and white"])
@pytest.mark.parametrize(("old", "new"), SHRINKING)
def test_shrinking_gives_the_bytes_of_opencv(old: tuple[int, int], new: tuple[int, int], is_hard: bool) -> None:
    image = _image(np.random.default_rng(0), old, is_hard=is_hard)
    np.testing.assert_array_equal(resize_by_area(image, new), _by_opencv(image, new, cv2.INTER_AREA))


@pytest.mark.parametrize("is_hard", [False, True], ids=["noise", "black and white"])
@pytest.mark.parametrize(("old", "new"), GROWING)
def test_growing_gives_the_bytes_of_opencv(old: tuple[int, int], new: tuple[int, int], is_hard: bool) -> None:
    image = _image(np.random.default_rng(0), old, is_hard=is_hard)
    np.testing.assert_array_equal(resize_bilinearly(image, new), _by_opencv(image, new, cv2.INTER_LINEAR))


def test_any_size_gives_the_bytes_of_opencv() -> None:
    generator = np.random.default_rng(0)
    shrunk = 0
    for number in range(400):
        old, new = tuple(generator.integers(1, 120, 2).tolist()), tuple(generator.integers(1, 120, 2).tolist())
        image = _image(generator, old, is_hard=number % 3 == 0)
        shrinks = new[0] <= old[0] and new[1] <= old[1]
        shrunk += shrinks
        expected = _by_opencv(image, new, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        np.testing.assert_array_equal(resize_image(image, new), expected, err_msg=f"{old} to {new}")
    assert 50 < shrunk < 350


def test_views_are_resized_like_copies() -> None:
    image = _image(np.random.default_rng(0), (40, 50), is_hard=False)
    for view in (image[::-1], image[:, ::-1], image[..., ::-1], image[3:33, 7:47], image.transpose(1, 0, 2)):
        for hw in ((9, 13), (100, 90), (view.shape[0] // 2, view.shape[1] // 2)):
            np.testing.assert_array_equal(resize_image(view, hw), resize_image(view.copy(), hw))


def test_a_very_long_row_needs_little_memory() -> None:
    """An average has as many weights as pixels, and each of them is as large as four pixels."""
    for width in (400_001, 400_000):
        row = np.full((1, width, 3), 7, np.uint8)
        tracemalloc.start()
        small = resize_image(row, (1, 400))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (small == 7).all()
        assert peak < 16 * width


def test_sums_of_many_pixels_do_not_overflow() -> None:
    """256 x 65,800 pixels of 255 sum to 2 ** 32 + 456,704."""
    image = np.broadcast_to(np.uint8(255), (256, 65_800, 3))
    assert resize_by_area(image, (1, 1)).tolist() == [[[255, 255, 255]]]


def test_grey_gives_the_bytes_of_opencv_for_every_colour() -> None:
    """All 256 values of red, with every fifth of green and blue."""
    some = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(np.arange(256, dtype=np.uint8), some, some), -1).reshape(256, -1, 3)
    np.testing.assert_array_equal(to_grey(colours), cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY))


def test_resizing_imports_no_opencv() -> None:
    code = """
import sys, numpy
sys.modules["cv2"] = None
from yolo_lite.media.inputs import to_input
print(to_input(numpy.zeros((30, 40, 3), numpy.uint8), (16, 16), channels=1, resize="letterbox").shape)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(16, 16, 1)", result.stderr
