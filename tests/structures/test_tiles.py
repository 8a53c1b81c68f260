"""Tiles: what they cover, and that objects seen in several of them are found once and where they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from yolo_lite.errors import InputError
from yolo_lite.ops.nms import batched_nms
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections
from yolo_lite.structures.tiles import Tiling, check_tiling, detect_in_tiles, suppress, tiling_of

TILINGS = [Tiling("2x2"), Tiling("3x1", overlap=0), Tiling("4x5", overlap=0.9), Tiling(640), Tiling(100, overlap=0.5)]
SIZES = [(480, 640), (33, 900), (1, 1), (31, 31), (641, 640), (101, 7)]


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("hw", SIZES, ids=str)
def test_tiles_are_equal_and_cover_the_image(tiling: Tiling, hw: tuple[int, int]) -> None:
    """An oracle that counts how many tiles hold each pixel."""
    whole, *tiles = tiling.places(hw)
    assert whole == (0, 0, hw[1], hw[0])
    assert len(set(tiles)) == len(tiles)
    counts = np.zeros(hw, int)
    for x1, y1, x2, y2 in tiles or [whole]:
        assert 0 <= x1 < x2 <= hw[1]
        assert 0 <= y1 < y2 <= hw[0]
        counts[y1:y2, x1:x2] += 1
    assert counts.min() >= 1
    assert len({(x2 - x1, y2 - y1) for x1, y1, x2, y2 in tiles}) <= 1
    assert all(min(x2 - x1, y2 - y1) >= min(32, *hw) for x1, y1, x2, y2 in tiles)
    assert tiling.count(hw) == 1 + len(tiles)


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("hw", [(480, 640), (1000, 3001), (777, 778)], ids=str)
def test_neighbours_overlap_at_least_as_asked(tiling: Tiling, hw: tuple[int, int]) -> None:
    tiles = tiling.places(hw)[1:]
    for axis in (0, 1):
        spans = sorted({(tile[axis], tile[axis + 2]) for tile in tiles})
        for (_, end), (start, _) in zip(spans, spans[1:]):
            assert end - start >= tiling.overlap * (spans[0][1] - spans[0][0]) - 1


def test_tiles_of_a_side_keep_it() -> None:
    """4000 x 3000 pixels in tiles of 640 with 128 in common: 1 + ceil(3360 / 512) columns, 1 + ceil(2360 / 512) rows."""
    tiles = Tiling(640).places((3000, 4000))[1:]
    assert len(tiles) == 8 * 6
    assert {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in tiles} == {(640, 640)}


@pytest.mark.parametrize("tiling", [Tiling("1x1"), Tiling(640)], ids=str)
def test_a_single_tile_is_the_whole_image(tiling: Tiling) -> None:
    assert tiling.places((480, 640)) == [(0, 0, 640, 480)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0x2", "1 to 64 rows and columns, got 0x2"),
        ("65x1", "1 to 64 rows and columns"),
        ("2", "at least 32 pixels, got 2; a grid is written as 2x2"),
        (0, "at least 32 pixels, got 0"),
        (-640, "at least 32 pixels, got -640"),
        ("2*2", r"rows and columns such as 2x2, or the side of a tile in pixels, got '2\*2'"),
        ("", "rows and columns such as 2x2"),
        ("²x²", "rows and columns such as 2x2"),
        (640.5, "got 640.5"),
        (True, "got True"),
        ((2, 2), r"got \(2, 2\)"),
    ],
)
def test_tiles_without_sense_are_refused(value: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_tiling(value)


@pytest.mark.parametrize("overlap", [-0.1, 0.91, 1, float("nan"), "wide"])
def test_an_overlap_without_sense_is_refused(overlap: object) -> None:
    with pytest.raises(InputError, match="overlap must be"):
        Tiling("2x2", overlap=overlap)  # type: ignore[arg-type]


def test_a_grid_and_a_side_exclude_each_other() -> None:
    with pytest.raises(InputError, match="not both"):
        tiling_of("2x2", 640)


def see_colours(images: list[Image]) -> list[Detections]:
    """Detect without a network: the box around the pixels of each colour above 0."""
    results = []
    for image in images:
        boxes = []
        for colour in np.unique(image[..., 0]):
            if colour:
                ys, xs = np.nonzero(image[..., 0] == colour)
                boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        results.append(Detections(boxes, [0.9] * len(boxes), labels=[0] * len(boxes), class_names=("box",)))
    return results


def drawn(generator: np.random.Generator, hw: tuple[int, int], count: int) -> tuple[Image, list[list[int]]]:
    """Draw separate rectangles, each in a colour of its own; return them as xyxy."""
    image: Image = np.zeros((*hw, 3), np.uint8)
    boxes: list[list[int]] = []
    while len(boxes) < count:
        height, width = generator.integers(3, 60, 2).tolist()
        x, y = int(generator.integers(0, hw[1] - width)), int(generator.integers(0, hw[0] - height))
        if not image[y : y + height, x : x + width].any():
            boxes.append([x, y, x + width, y + height])
            image[y : y + height, x : x + width] = len(boxes)
    return image, boxes


def several(tilings: list[Tiling]) -> Iterator[tuple[Tiling, int]]:
    for seed, tiling in enumerate(tilings * 3):
        yield tiling, seed


@pytest.mark.parametrize(("tiling", "seed"), list(several([Tiling("2x2"), Tiling("3x4", overlap=0.4), Tiling(96)])))
def test_every_object_is_found_once_and_exactly_where_it_is(tiling: Tiling, seed: int) -> None:
    """Objects in one tile, in several, across borders and larger than an overlap: each has one box, to the pixel."""
    image, boxes = drawn(np.random.default_rng(seed), (200 + seed, 300 - seed), 12)
    (found,) = detect_in_tiles([image], see_colours, tiling=tiling, batch_size=3, iou_threshold=0.6, max_detections=300)
    cut = sum(
        any(tile[0] > x1 or tile[2] < x2 or tile[1] > y1 or tile[3] < y2 for tile in tiling.places(image.shape[:2])[1:])
        for x1, y1, x2, y2 in boxes
    )
    assert cut > 3  # the hard case is there
    assert sorted(found.boxes.tolist()) == sorted(boxes)


def test_images_of_different_sizes_share_batches() -> None:
    """The detector never gets more than a batch, and results stay with their images."""
    generator = np.random.default_rng(5)
    images, boxes = zip(*(drawn(generator, hw, 4) for hw in ((90, 200), (64, 64), (200, 90))))
    sizes: list[int] = []

    def detect(crops: list[Image]) -> list[Detections]:
        sizes.append(len(crops))
        return see_colours(crops)

    settings = {"batch_size": 4, "iou_threshold": 0.6, "max_detections": 300}
    results = detect_in_tiles(images, detect, tiling=Tiling("1x2"), **settings)
    assert sizes == [4, 4, 1]
    assert [sorted(found.boxes.tolist()) for found in results] == [sorted(each) for each in boxes]


def test_a_single_tile_changes_nothing() -> None:
    """Not even boxes that NMS would drop, and no more than one image is looked at."""
    twice = Detections([[0, 0, 9, 9], [0, 0, 9, 9]], [0.9, 0.8], labels=[0, 0], class_names=("cat",))
    image = np.zeros((40, 40, 3), np.uint8)
    settings = {"batch_size": 8, "iou_threshold": 0.5, "max_detections": 1}
    for tiling in (None, Tiling(640), Tiling("1x1")):
        calls: list[int] = []

        def detect(images: list[Image], calls: list[int] = calls) -> list[Detections]:
            calls.append(len(images))
            return [twice]

        assert detect_in_tiles([image], detect, tiling=tiling, **settings) == [twice]
        assert calls == [1]


def test_no_images_and_no_detections() -> None:
    settings = {"tiling": Tiling("2x2"), "batch_size": 8, "iou_threshold": 0.5, "max_detections": 9}
    assert detect_in_tiles([], see_colours, **settings) == []
    assert len(detect_in_tiles([np.zeros((99, 99, 3), np.uint8)], see_colours, **settings)[0]) == 0


def random_boxes(generator: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Overlapping boxes with many equal scores, some without area."""
    corners = generator.integers(0, 30, (count, 2))
    boxes = np.concatenate([corners, corners + generator.integers(0, 20, (count, 2))], 1).astype(np.float32)
    scores = generator.integers(1, 9, count).astype(np.float32) / 10
    return torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(generator.integers(0, 3, count))


@pytest.mark.parametrize("iou_threshold", [0.0, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_suppress_agrees_with_the_op(seed: int, iou_threshold: float) -> None:
    """The op of the network's own NMS, in C: the same boxes in the same order, at equal scores and IoU 3/5 too."""
    boxes, scores, labels = random_boxes(np.random.default_rng(seed), 200)
    expected = batched_nms(boxes, scores, labels, iou_threshold).tolist()
    found = suppress(boxes.numpy(), scores.numpy(), labels=labels.numpy(), iou_threshold=iou_threshold)
    assert found.tolist() == expected
