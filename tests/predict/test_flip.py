"""Test-time augmentation: an image and its mirror image give mirrored detections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import write_coco_set
from yolo_lite import Detector
from yolo_lite.cli import main
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.media.images import read_image
from yolo_lite.predict.files import sample_image
from yolo_lite.predict.flip import predict

WEIGHTS = ["yolo_lite-pico-voc5", "yolo_lite-shuffle-coco"]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_detections_of_a_mirrored_image_are_mirrored(weights: str) -> None:
    """With the flip both images are looked at either way, so that only left and right differ."""
    detector = Detector(weights, "cpu", score_threshold=0.2, tta=True)
    image = np.ascontiguousarray(read_image(sample_image())[:512])  # a square, which is no matter of rounding
    found, mirrored = detector(image), detector(np.ascontiguousarray(image[:, ::-1]))
    assert len(found) == len(mirrored) > 0
    expected = mirrored.boxes.copy()
    expected[:, [0, 2]] = image.shape[1] - mirrored.boxes[:, [2, 0]]
    np.testing.assert_allclose(np.sort(found.scores), np.sort(mirrored.scores), atol=1e-4)
    for box, label in zip(found.boxes, found.labels):
        near = expected[mirrored.labels == label]
        assert abs(near - box).max(1).min() < 0.05


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_first_half_is_the_prediction_without_the_flip(weights: str) -> None:
    detector = Detector(weights, "cpu")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 64, 96)).astype(np.uint8))
    with torch.inference_mode():
        plain, decode = predict(detector.model, images, tta=False)
        both, decoded = predict(detector.model, images, tta=True)
    count = len(plain.points)
    every = torch.arange(count).unsqueeze(0)
    assert torch.equal(both.class_logits[:, :count], plain.class_logits)
    assert torch.equal(decoded(both, every), decode(plain, every).float())
    assert len(both.points) == 2 * count


@pytest.mark.slow
def test_detect_and_eval_take_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco_set(tmp_path / "set", {"val": 2})
    assert main(["detect", "--tta", "--weights", "yolo_lite-pico-voc5", "--save-json", "rows.json"]) == 0
    rows = json.loads(Path("rows.json").read_text())
    detector = Detector("yolo_lite-pico-voc5", "cpu", tta=True)
    assert len(rows) == len(detector(sample_image()))
    names = json.loads(Path("set/annotations/instances_val.json").read_text())
    for category, name in zip(names["categories"], ("person", "car")):
        category["name"] = name
    Path("set/annotations/instances_val.json").write_text(json.dumps(names))
    assert main(["eval", "--tta", "--weights", "yolo_lite-pico-voc5", "--data", "set"]) == 0
    assert "tta True" in capsys.readouterr().out
    settings = {"evaluate.tta": True, "evaluate.score_threshold": 0.0}
    plain = evaluate("yolo_lite-pico-voc5", "set", settings={"evaluate.score_threshold": 0.0}, device="cpu")
    both = evaluate("yolo_lite-pico-voc5", "set", settings=settings, device="cpu")
    assert both.rows != plain.rows
