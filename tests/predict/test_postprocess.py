"""Choosing detections, against a slow loop and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import yolo_lite.predict.postprocess as module
from yolo_lite.predict.postprocess import postprocess, to_detections
from yolo_lite.structures.batches import RawPredictions

Row = tuple[float, ...]


def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
    """Take the head's four outputs as the box itself: a decoder of these tests' own."""
    return raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4))


def make_raw(seed: int, batch: int = 3, points: int = 120, classes: int = 4) -> RawPredictions:
    """Draw overlapping boxes and logits that all differ."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, points, 2, generator=generator) * 80 - 10
    size = torch.rand(batch, points, 2, generator=generator) * 40 + 5
    logits = torch.randn(batch, points, classes, generator=generator) * 2
    boxes = torch.cat([corner, corner + size], -1)
    return RawPredictions(boxes, logits, points=torch.zeros(points, 2), strides=torch.ones(points))


def raw_of(boxes: list[Row], logits: list[Row]) -> RawPredictions:
    """Make one image's predictions from rows."""
    count = len(boxes)
    return RawPredictions(
        torch.tensor([boxes], dtype=torch.float32),
        torch.tensor([logits], dtype=torch.float32),
        points=torch.zeros(count, 2),
        strides=torch.ones(count),
    )


def overlap(a: list[float], b: list[float]) -> float:
    """Return the intersection over union of two boxes."""
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area - width * height)


def slow(
    raw: RawPredictions,
    score_threshold: float,
    iou_threshold: float,
    most: int = 300,
    allowed: list[bool] | None = None,
    candidates: int = 2000,
) -> list[list[Row]]:
    """Choose each image's detections one after the other."""
    found = []
    for boxes, logits in zip(raw.box_outputs.tolist(), raw.class_logits.tolist()):
        pairs = [
            (-logit, point, label)
            for point, row in enumerate(logits)
            for label, logit in enumerate(row)
            if allowed is None or allowed[label]
        ]
        kept: list[Row] = []
        for negative, point, label in sorted(pairs)[:candidates]:
            score = 1 / (1 + math.exp(negative))
            rivals = [row for row in kept if row[5] == label]
            free = not any(overlap(list(row[:4]), boxes[point]) > iou_threshold for row in rivals)
            if free and len(kept) < most and score > score_threshold:
                kept.append((*boxes[point], score, float(label)))
        found.append(kept)
    return found


def check(found: tuple[Tensor, Tensor], wanted: list[list[Row]], most: int) -> None:
    """Compare the padded result with lists of rows."""
    rows, counts = found
    assert rows.shape == (len(wanted), most, 6)
    assert rows.dtype == torch.float32
    assert counts.dtype == torch.int32
    assert counts.tolist() == [len(kept) for kept in wanted]
    for image, kept in zip(rows, wanted):
        torch.testing.assert_close(image[: len(kept)], torch.tensor(kept).view(-1, 6), rtol=1e-6, atol=1e-6)
        assert bool((image[len(kept) :] == 0).all())


@pytest.mark.parametrize(
    ("score_threshold", "iou_threshold", "most", "allowed"),
    [
        pytest.param(0.25, 0.5, 300, None, id="usual"),
        pytest.param(0.001, 0.7, 300, None, id="evaluation"),
        pytest.param(0.5, 0.1, 20, None, id="few detections"),
        pytest.param(0.25, 0.5, 300, [True, False, True, False], id="some classes"),
        pytest.param(0.25, 0.5, 300, [False] * 4, id="no class"),
        pytest.param(0.9999, 0.5, 10, None, id="nothing"),
        pytest.param(0.25, 1.0, 600, None, id="more room than candidates"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_postprocess_agrees_with_a_slow_loop(
    seed: int, score_threshold: float, iou_threshold: float, most: int, allowed: list[bool] | None
) -> None:
    raw = make_raw(seed)
    mask = None if allowed is None else torch.tensor(allowed)
    found = postprocess(
        raw, decode, score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=most, allowed=mask
    )
    check(found, slow(raw, score_threshold, iou_threshold, most, allowed), most)


def test_the_drawn_predictions_are_hard() -> None:
    """Suppression happens, some points give several classes, scores all differ."""
    raw = make_raw(0)
    everything, kept = slow(raw, 0.25, 1.0), slow(raw, 0.25, 0.5)
    for all_rows, rows in zip(everything, kept):
        assert 0 < len(rows) < len(all_rows)
        assert len({row[:4] for row in rows}) < len(rows)
        assert len({np.float32(row[4]) for row in all_rows}) == len(all_rows)


# Score sigmoid(0) = 1/2, sigmoid(log 3) = 3/4. Boxes (0,0)-(10,10) and (0,0)-(10,9) overlap by 9/10.
def test_an_image_worked_by_hand() -> None:
    log3 = math.log(3)
    raw = raw_of(
        [(0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60)],
        [(0, -9), (log3, -9), (-9, log3 / 2)],
    )
    rows, counts = postprocess(raw, decode, score_threshold=0.4, iou_threshold=0.5, max_detections=4)
    assert counts.tolist() == [2]
    third = 1 / (1 + 1 / math.sqrt(3))
    wanted = [[0, 0, 10, 9, 0.75, 0], [50, 50, 60, 60, third, 1], [0.0] * 6, [0.0] * 6]
    torch.testing.assert_close(rows[0], torch.tensor(wanted))


def test_a_point_may_give_two_classes() -> None:
    rows, counts = postprocess(
        raw_of([(0, 0, 10, 10)], [(1, 2, -9)]), decode, score_threshold=0.5, iou_threshold=0.5, max_detections=3
    )
    assert counts.tolist() == [2]
    assert rows[0, :2, 5].tolist() == [1, 0]
    assert rows[0, 0, :4].tolist() == rows[0, 1, :4].tolist() == [0, 0, 10, 10]


def test_a_score_at_the_threshold_is_left_out() -> None:
    raw = raw_of([(0, 0, 10, 10)], [(0.0,)])  # its score is 1/2
    assert postprocess(raw, decode, score_threshold=0.5, iou_threshold=0.5)[1].tolist() == [0]
    assert postprocess(raw, decode, score_threshold=0.499, iou_threshold=0.5)[1].tolist() == [1]


@pytest.mark.parametrize("score_threshold", [0.5, 0.001, 0.0])
def test_masked_classes_never_appear(score_threshold: float) -> None:
    raw = make_raw(2)
    raw.class_logits[..., 2] = 20  # by far the surest
    allowed = torch.tensor([True, True, False, True])
    rows, counts = postprocess(
        raw, decode, score_threshold=score_threshold, iou_threshold=0.9, max_detections=480, allowed=allowed
    )
    labels = [label for row, count in zip(rows, counts.tolist()) for label in row[:count, 5].tolist()]
    assert set(labels) == {0, 1, 3}
    free, free_counts = postprocess(raw, decode, score_threshold=score_threshold, iou_threshold=0.9, max_detections=480)
    assert all(2 in row[:count, 5].tolist() for row, count in zip(free, free_counts.tolist()))


def test_masked_classes_never_appear_below_threshold_zero() -> None:
    """Every real score is above -1; a class that is left out before ranking has no score at all."""
    raw = raw_of([(0, 0, 10, 10)], [(1, 2)])
    rows, counts = postprocess(
        raw, decode, score_threshold=-1.0, iou_threshold=0.5, max_detections=4, allowed=torch.tensor([True, False])
    )
    assert rows[0, : int(counts[0]), 5].tolist() == [0]


def test_masked_classes_take_no_place_among_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANDIDATES", 5)
    raw = make_raw(3)
    raw.class_logits[..., 1] += 20
    allowed = [True, False, True, True]
    found = postprocess(
        raw, decode, score_threshold=0.01, iou_threshold=1.0, max_detections=8, allowed=torch.tensor(allowed)
    )
    assert found[1].tolist() == [5, 5, 5]
    check(found, slow(raw, 0.01, 1.0, 8, allowed, 5), 8)


@pytest.mark.parametrize("candidates", [1, 7, 100])
def test_only_the_first_candidates_by_logit_are_used(monkeypatch: pytest.MonkeyPatch, candidates: int) -> None:
    monkeypatch.setattr(module, "CANDIDATES", candidates)
    raw = make_raw(4)
    asked: list[tuple[int, ...]] = []

    def spy(raw: RawPredictions, indices: Tensor) -> Tensor:
        asked.append(tuple(indices.shape))
        return decode(raw, indices)

    found = postprocess(raw, spy, score_threshold=0.01, iou_threshold=0.5, max_detections=480)
    assert asked == [(3, candidates)]  # nothing else is decoded
    check(found, slow(raw, 0.01, 0.5, 480, candidates=candidates), 480)
    without_limit = [len(kept) for kept in slow(raw, 0.01, 0.5, 480)]
    assert all(count < more for count, more in zip(found[1].tolist(), without_limit))  # the limit mattered


def test_scores_descend_and_stay_above_the_threshold() -> None:
    rows, counts = postprocess(make_raw(5), decode, score_threshold=0.3, iou_threshold=0.6)
    for row, count in zip(rows, counts.tolist()):
        assert count > 10
        assert bool((row[:count, 4].diff() <= 0).all())
        assert float(row[:count, 4].min()) > 0.3


def test_an_image_of_a_batch_is_as_if_alone() -> None:
    raw = make_raw(6)
    rows, counts = postprocess(raw, decode, score_threshold=0.2, iou_threshold=0.5, max_detections=50)
    for b in range(3):
        item = raw._replace(box_outputs=raw.box_outputs[b : b + 1], class_logits=raw.class_logits[b : b + 1])
        alone, count = postprocess(item, decode, score_threshold=0.2, iou_threshold=0.5, max_detections=50)
        assert torch.equal(alone[0], rows[b])
        assert torch.equal(count[0], counts[b])


@pytest.mark.parametrize(
    ("batch", "points", "most"),
    [(2, 1, 300), (0, 5, 4), (2, 0, 4), (2, 5, 0)],
    ids=["one point", "B = 0", "A = 0", "K = 0"],
)
def test_the_shape_is_fixed_by_the_arguments(batch: int, points: int, most: int) -> None:
    raw = RawPredictions(
        torch.zeros(batch, points, 4),
        torch.zeros(batch, points, 3),
        points=torch.zeros(points, 2),
        strides=torch.ones(points),
    )
    rows, counts = postprocess(raw, decode, score_threshold=0.9, iou_threshold=0.5, max_detections=most)
    assert rows.shape == (batch, most, 6)
    assert counts.shape == (batch,)
    assert not rows.any()
    assert not counts.any()


@pytest.mark.parametrize("wild", [float("nan"), float("inf")], ids=["NaN", "inf"])
def test_rows_after_the_last_detection_are_zero_even_beside_a_wild_box(wild: float) -> None:
    """The surest candidate's box is not finite; it is kept, and the padding is still zeros."""
    rows, counts = postprocess(
        raw_of([(0, 0, wild, 10), (50, 50, 60, 60)], [(3,), (2,)]),
        decode,
        score_threshold=0.5,
        iou_threshold=0.5,
        max_detections=4,
    )
    assert counts.tolist() == [2]
    assert rows[0, 1, :4].tolist() == [50, 50, 60, 60]
    assert rows[0, 2:].tolist() == [[0.0] * 6] * 2


def test_a_nan_logit_gives_no_detection() -> None:
    rows, counts = postprocess(
        raw_of([(0, 0, 5, 5), (50, 50, 60, 60)], [(float("nan"),), (2,)]),
        decode,
        score_threshold=0.5,
        iou_threshold=0.5,
        max_detections=2,
    )
    assert counts.tolist() == [1]
    assert rows[0, 0, :4].tolist() == [50, 50, 60, 60]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_gives_float32_rows(dtype: torch.dtype) -> None:
    raw = raw_of([(0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60)], [(0, -9), (1, -9), (-9, 2)])
    half = raw._replace(box_outputs=raw.box_outputs.to(dtype), class_logits=raw.class_logits.to(dtype))
    rows, counts = postprocess(half, decode, score_threshold=0.4, iou_threshold=0.5, max_detections=4)
    assert rows.dtype == torch.float32
    assert torch.equal(
        rows, postprocess(raw, decode, score_threshold=0.4, iou_threshold=0.5, max_detections=4)[0]
    )  # these numbers are exact in both dtypes
    assert counts.tolist() == [2]


def test_the_predictions_are_not_modified() -> None:
    raw = make_raw(7)
    before = [part.clone() for part in raw]
    postprocess(
        raw,
        decode,
        score_threshold=0.2,
        iou_threshold=0.5,
        max_detections=50,
        allowed=torch.tensor([True, False, True, True]),
    )
    assert all(torch.equal(part, copy) for part, copy in zip(raw, before))


def test_to_detections_drops_the_padding() -> None:
    rows = torch.tensor([[[1.0, 2, 3, 4, 0.9, 1], [5, 6, 7, 8, 0.5, 0], [0] * 6], [[0] * 6, [0] * 6, [0] * 6]])
    first, second = to_detections(rows, torch.tensor([2, 0], dtype=torch.int32), class_names=["cat", "dog"])
    assert first.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    np.testing.assert_array_equal(first.scores, np.array([0.9, 0.5], np.float32))
    assert first.labels.tolist() == [1, 0]
    assert first.labels.dtype == np.int64
    assert first.class_names == second.class_names == ("cat", "dog")
    assert len(second) == 0
    assert second.boxes.shape == (0, 4)


def test_to_detections_takes_what_postprocess_gives() -> None:
    raw = make_raw(8)
    rows, counts = postprocess(raw, decode, score_threshold=0.2, iou_threshold=0.5, max_detections=50)
    found = to_detections(rows, counts, class_names=["a", "b", "c", "d"])
    assert [len(item) for item in found] == counts.tolist()
    assert to_detections(rows[:0], counts[:0], class_names=["a"]) == []
