"""Why an object was found or not, on predictions laid out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from yolo_lite.cli import main
from yolo_lite.inspect.why import explain, reason_in_words
from yolo_lite.structures.batches import RawPredictions

BOXES = torch.tensor([[10, 10, 50, 50], [12, 10, 50, 50], [10, 10, 50, 45], [100, 100, 120, 120.0]])
SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.02], [0.3, 0.2], [0.7, 0.01]])
POINTS = torch.tensor([[20, 20], [28, 28], [32, 32], [110, 110.0]])


def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
    return BOXES[indices]


def predictions() -> RawPredictions:
    return RawPredictions(
        BOXES.unsqueeze(0), torch.logit(SCORES).unsqueeze(0), points=POINTS, strides=torch.tensor([8, 8, 16, 16.0])
    )


def test_each_candidate_is_followed_to_its_end() -> None:
    """The first is kept; the second overlaps it by 1520 / 1600 = 0.95 and goes; of class 1 all but none lie below 0.25."""
    _, found = explain(predictions(), decode, box=[10, 10, 50, 50], score_threshold=0.25, iou_threshold=0.6)
    told = {(round(one.score, 2), one.label): one for one in found}
    assert [round(one.score, 2) for one in found] == [0.9, 0.8, 0.3, 0.2, 0.1, 0.02]
    assert told[0.9, 0].fate == "kept"
    assert told[0.8, 0].fate == "suppressed"
    assert (told[0.8, 0].by_score, told[0.8, 0].by_iou) == (pytest.approx(0.9), pytest.approx(0.95))
    assert told[0.3, 0].fate == "suppressed"
    assert told[0.3, 0].by_iou == pytest.approx(0.875)
    assert told[0.2, 1].fate == "below"
    assert told[0.8, 0].stride == 8
    assert told[0.3, 0].point == (32, 32)


def test_levels_say_what_their_points_in_the_box_see() -> None:
    levels, _ = explain(predictions(), decode, box=[10, 10, 50, 50], score_threshold=0.25, iou_threshold=0.6)
    assert [(level.stride, level.points) for level in levels] == [(8, 2), (16, 1)]
    assert levels[0].score == pytest.approx(0.9)
    assert (levels[0].label, levels[0].iou) == (0, pytest.approx(1.0))
    assert levels[1].score == pytest.approx(0.3)
    nothing, none = explain(predictions(), decode, box=[200, 200, 210, 210], score_threshold=0.25, iou_threshold=0.6)
    assert [level.points for level in nothing] == [0, 0]
    assert none == []


def test_boxes_of_one_cell_share_a_point() -> None:
    """A YOLOv1 cell has two boxes: it is one cell."""
    raw = predictions()._replace(points=torch.tensor([[20, 20], [20, 20], [32, 32], [110, 110.0]]))
    levels, _ = explain(raw, decode, box=[10, 10, 50, 50], score_threshold=0.25, iou_threshold=0.6)
    assert [(level.stride, level.points) for level in levels] == [(8, 1), (16, 1)]


def test_a_higher_threshold_of_suppression_keeps_more() -> None:
    _, found = explain(predictions(), decode, box=[10, 10, 50, 50], score_threshold=0.25, iou_threshold=0.9)
    assert [one.fate for one in found[:3]] == ["kept", "suppressed", "kept"]


@pytest.mark.parametrize(
    ("box", "label", "threshold", "expected"),
    [
        ([10, 10, 50, 50], -1, 0.25, "the network does not know its class"),
        ([200, 200, 210, 210], 0, 0.25, "no cell has its centre inside the object, which is too small for the input"),
        ([24, 24, 36, 36], 0, 0.25, "no prediction overlaps it with an IoU of 0.5 or more"),
        ([10, 10, 50, 50], 1, 0.25, "it was detected as cat 0.90"),
        ([10, 10, 50, 50], 0, 0.25, "its detection, cat 0.90, belongs to another object that it fits better"),
        (
            [10, 10, 50, 50],
            0,
            0.95,
            "the best prediction for it, cat 0.90 with IoU 1.00, is not above the score threshold 0.95",
        ),
        (
            [10, 10, 50, 50],
            1,
            0.95,
            "the best prediction for it, dog 0.20 with IoU 0.88, is not above the score threshold 0.95",
        ),
    ],
)
def test_the_reason_why_an_object_is_missed(box: list[float], label: int, threshold: float, expected: str) -> None:
    levels, candidates = explain(predictions(), decode, box=box, score_threshold=threshold, iou_threshold=0.6)
    names = ("cat", "dog")
    said = reason_in_words(levels, candidates, label=label, class_names=names, score_threshold=threshold)
    assert said == expected


def test_a_suppressed_prediction_is_a_reason() -> None:
    raw = predictions()._replace(points=torch.tensor([[200, 200], [28, 28], [32, 32], [110, 110.0]]))
    levels, candidates = explain(raw, decode, box=[13, 10, 50, 50], score_threshold=0.25, iou_threshold=0.6)
    own = [seen for seen in candidates if seen.fate != "kept"]  # as if the winner were another object's
    said = reason_in_words(levels, own, label=0, class_names=("cat", "dog"), score_threshold=0.25)
    assert said.startswith(
        "its prediction, cat 0.80 with IoU 0.97, was suppressed by one of score 0.90 that overlaps it"
    )


def test_the_command_tells_of_the_person_in_the_sample(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The sample photograph shows one person who fills it."""
    assert main(["inspect", "why", "--box", "0,0,512,600"]) == 0
    printed = capsys.readouterr().out
    assert "person" in printed
    assert "kept" in printed
    assert main(["inspect", "why", "--box", "0,0,512"]) == 2
    assert main(["inspect", "why", "--box", "9,0,5,10"]) == 2
