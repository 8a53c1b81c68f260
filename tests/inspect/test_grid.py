"""Grids laid out cell by cell, checked against loops over points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yolo_lite.cli import main
from yolo_lite.config.resolve import config_from_dict
from yolo_lite.inspect.fit import crowded_out
from yolo_lite.inspect.grid import grids_of, view_grids
from yolo_lite.models.build import build_detector
from yolo_lite.ops import box_iou
from yolo_lite.predict.detector import Detector
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import GridView

NAMES = ("cat", "dog", "cow")


def views(name: str, threshold: float) -> tuple[list[GridView], RawPredictions, torch.Tensor]:
    """Return the views of a network of random weights, its predictions and all boxes."""
    torch.manual_seed(1)
    model = {"v1": {"neck": "none", "head": "grid"}, "nano": {}}[name]
    net = build_detector(config_from_dict({"model": model}, "test"), 3).eval()
    with torch.inference_mode():
        raw = net(torch.randint(0, 256, (1, 3, 96, 64), dtype=torch.uint8))
        noise = torch.randn(raw.class_logits.shape)
        raw = raw._replace(class_logits=raw.class_logits * 0 + 2 * noise - 2)
        boxes = net.decode(raw, torch.arange(len(raw.points)).unsqueeze(0))[0]
    return view_grids(net, raw, class_names=NAMES, score_threshold=threshold, iou_threshold=0.5), raw, boxes


@pytest.mark.parametrize("name", ["v1", "nano"])
def test_every_cell_holds_what_its_points_say(name: str) -> None:
    found, raw, _ = views(name, 0.3)
    assert [view.stride for view in found] == ([32] if name == "v1" else [8, 16, 32])
    for view in found:
        assert view.labels.shape == (96 // view.stride, 64 // view.stride)
        for row, column in np.ndindex(*view.labels.shape):
            inside = [
                i
                for i, (x, y) in enumerate(raw.points.tolist())
                if raw.strides[i] == view.stride
                and column * view.stride <= x < (column + 1) * view.stride
                and row * view.stride <= y < (row + 1) * view.stride
            ]
            assert len(inside) == (2 if name == "v1" else 1)
            each = raw.box_outputs[0, inside, 5:].clamp(0, 1) if name == "v1" else raw.class_logits[0, inside].sigmoid()
            best = each.amax(0)
            assert view.scores[row, column] == pytest.approx(float(best.max()))
            assert best[view.labels[row, column]] == best.max()


@pytest.mark.parametrize("name", ["v1", "nano"])
def test_what_stays_is_what_greedy_suppression_leaves(name: str) -> None:
    found, raw, boxes = views(name, 0.3)
    scores = raw.class_logits[0].sigmoid()
    kept: list[tuple[int, int]] = []
    order = sorted(((float(scores[p, c]), p, c) for p in range(len(scores)) for c in range(3)), reverse=True)
    for score, point, label in order:
        mine = [boxes[p] for p, c in kept if c == label]
        if score > 0.3 and not any(float(box_iou(boxes[point][None], one[None])) > 0.5 for one in mine):
            kept.append((point, label))
    assert len(kept) > 5
    for view in found:
        wanted = [(p, c) for p, c in kept if raw.strides[p] == view.stride]
        assert len(view.after) == len(wanted)
        np.testing.assert_allclose(view.after.scores, [float(scores[p, c]) for p, c in wanted], rtol=1e-6)
        cells = {(int(raw.points[p, 1]) // view.stride, int(raw.points[p, 0]) // view.stride) for p, _ in wanted}
        assert {(int(r), int(c)) for r, c in zip(*view.responsible.nonzero())} == cells
        assert len(view.before) == int((scores[raw.strides == view.stride] > 0.06).sum())


def test_a_threshold_that_nothing_reaches_leaves_empty_views() -> None:
    found, _, _ = views("nano", 1.0)
    assert all(len(view.after) == 0 and not view.responsible.any() for view in found)


def test_after_suppression_are_the_detections(tmp_path: Path) -> None:
    """All grids together hold what the detector reports, in input pixels."""
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    detector = Detector(device="cpu", image_size=224, score_threshold=0.05)
    pixels, grids = grids_of(detector, photo)
    assert pixels.shape == (224, 224, 3)
    mine = sorted(score for view in grids for score in view.after.scores.tolist())
    assert mine == pytest.approx(sorted(detector(photo).scores.tolist()), abs=1e-5)


def test_boxes_that_share_a_cell_are_counted() -> None:
    """Cells of 32: centres (10, 10), (20, 20) and (31.9, 5) share one, (32, 10) is in the next, (64, 64) in the last."""
    centres = [(10, 10), (20, 20), (31.9, 5), (32, 10), (64, 64)]
    boxes = np.array([[x - 2, y - 2, x + 2, y + 2] for x, y in centres], np.float64)
    crowd = np.zeros(5, bool)
    record = ImageRecord(
        Path("x"), 1, hw=(64, 64), boxes=boxes, labels=np.zeros(5, np.int64), crowd=crowd, areas=np.ones(5)
    )
    assert (
        crowded_out(
            DetectionSet((record,), ("a",), category_ids=(1,), source="drawn"), (64, 64), resize="letterbox", stride=32
        )
        == 2
    )
    empty = ImageRecord(
        Path("x"), 1, hw=(64, 64), boxes=boxes[:0], labels=np.zeros(0, np.int64), crowd=crowd[:0], areas=np.ones(0)
    )
    assert (
        crowded_out(
            DetectionSet((empty,), ("a",), category_ids=(1,), source="drawn"), (64, 64), resize="letterbox", stride=32
        )
        == 0
    )


@pytest.mark.slow
def test_the_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "grid.png"
    assert main(["inspect", "grid", "--image-size", "160", "--out", str(out)]) == 0
    assert Image.open(out).width > 800
    told = capsys.readouterr().out
    assert "20 x 20 cells of 8 pixels" in told
    assert "5 x 5 cells of 32 pixels" in told
    assert main(["inspect", "grid", "--out", str(tmp_path / "grid.txt")]) == 2
    assert main(["inspect", "grid", "--image-size", "100", "--out", str(out)]) == 2
