"""Exported files give the results of their checkpoints, or are not written."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.conftest import write_coco_set
from yolo_lite import Classifier, Detector, export
from yolo_lite.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.resolve import read_config
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.evaluation.exported import evaluate_exported
from yolo_lite.exporting.export import _module
from yolo_lite.exporting.parity import compare_detections
from yolo_lite.media.images import read_image
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.predict.files import sample_image
from yolo_lite.runtime import Classifier as ExportedClassifier
from yolo_lite.runtime import Detector as ExportedDetector
from yolo_lite.runtime.info import KEY, ExportInfo
from yolo_lite.runtime.session import Session
from yolo_lite.shipped import find_config


def parts() -> list[np.ndarray]:
    """Return pieces of the sample photograph of several shapes."""
    photo = read_image(sample_image())
    return [photo, np.ascontiguousarray(photo[:300]), np.ascontiguousarray(photo[:, 100:400]), photo[50:550, 20:490]]


def test_a_file_detects_what_its_checkpoint_detects(pico: Path) -> None:
    expected = Detector("yolo_lite-pico-voc5", "cpu", image_size=96, score_threshold=0.05)
    exported = ExportedDetector(pico, score_threshold=0.05)
    assert exported.class_names == expected.class_names
    assert exported.category_ids == expected.category_ids
    found = 0
    for image in parts():
        assert compare_detections(expected(image), exported(image)) is None
        found += len(expected(image))
    assert found > 3
    assert exported.score_threshold == 0.05
    assert ExportedDetector(pico).score_threshold == Detector("yolo_lite-pico-voc5", "cpu").score_threshold


def test_a_list_gives_what_its_images_give_alone(pico: Path) -> None:
    detector = ExportedDetector(pico, score_threshold=0.05, batch_size=3)
    images = parts() * 2
    for together, image in zip(detector(images), images):
        alone = detector(image)
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-6)
    assert detector([]) == []


def test_settings_of_an_exported_detector(pico: Path) -> None:
    every = ExportedDetector(pico, score_threshold=0.05)(sample_image())
    assert len(every) > 1
    assert len(ExportedDetector(pico, score_threshold=0.05, max_detections=1)(sample_image())) == 1
    middle = float(every.scores[len(every) // 2])
    above = ExportedDetector(pico, score_threshold=middle)(sample_image())
    assert above.scores.tolist() == every.scores[every.scores > middle].tolist()
    only = ExportedDetector(pico, score_threshold=0.05, classes=["person"])(sample_image())
    assert only.names == [name for name in every.names if name == "person"]
    with pytest.raises(InputError, match=r"scores above 0.05, so score_threshold must not be below it, got 0.01"):
        ExportedDetector(pico, score_threshold=0.01)
    with pytest.raises(InputError, match="has no class 'dog'"):
        ExportedDetector(pico, classes=["dog"])


def test_a_file_says_what_it_is(pico: Path) -> None:
    info = Session(pico).info
    assert (info.task, info.name, info.image_size) == ("detect", "yolo_lite-pico", (96, 96))
    assert info.class_names == ("person", "car", "cat", "bus", "train")
    assert info.about["yolo_lite"]
    assert info.raw is False


def _with_metadata(source: Path, target: Path, **changes: object) -> Path:
    model = onnx.load(source)
    for entry in model.metadata_props:
        if entry.key == KEY:
            entry.value = json.dumps({**json.loads(entry.value), **changes})
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"format_version": 2}, r"was written by a newer yolo_lite \(format 2\)", id="newer"),
        pytest.param({"format_version": None}, "has no format version", id="no version"),
        pytest.param({"image_size": [64, 64]}, r"its input is not uint8 images of \[64, 64, 3\]", id="another size"),
        pytest.param({"task": "classify"}, r"its outputs are \['boxes', 'scores', 'labels', 'counts'\]", id="task"),
        pytest.param({"class_names": []}, "values that make no sense", id="no classes"),
        pytest.param({"category_ids": [1]}, "values that make no sense", id="too few ids"),
        pytest.param({"resize": "crop"}, "values that make no sense", id="resize"),
        pytest.param({"iou_threshold": 7}, "values that make no sense", id="threshold"),
        pytest.param({"colour": "red"}, "its metadata is damaged", id="unknown key"),
    ],
)
def test_metadata_that_lies_is_refused(pico: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExportedDetector(_with_metadata(pico, tmp_path / "a.onnx", **changes))


def test_files_that_are_no_exports_are_refused(pico: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(pico.read_bytes()[:5000])
    (tmp_path / "text.onnx").write_text("hello")
    model = onnx.load(pico)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    for name, message in {
        "cut": "is not an ONNX file, or is damaged",
        "text": "is not an ONNX file, or is damaged",
        "foreign": "was not exported by yolo_lite",
        "nothing": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            ExportedDetector(tmp_path / f"{name}.onnx")
    with pytest.raises(InputError, match="is a detector, expected a classifier"):
        ExportedClassifier(pico)


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export whose NMS has another threshold is a fault that the gate must see."""

    def spoilt(model: torch.nn.Module, info: ExportInfo, **options: Any) -> torch.nn.Module:
        return _module(model, dataclasses.replace(info, iou_threshold=0.05))

    monkeypatch.setattr("yolo_lite.exporting.export._module", spoilt)
    with pytest.raises(
        InputError, match=r"a.onnx differs from its checkpoint on grace_hopper.jpg.*nothing was written"
    ):
        export("yolo_lite-pico-voc5", tmp_path / "a.onnx", image_size=96)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_raw_files_hold_boxes_and_scores_of_every_point(tmp_path: Path) -> None:
    path = export("yolo_lite-pico-voc5", tmp_path / "raw.onnx", image_size=96, raw=True, batch=1)
    session = Session(path)
    assert session.batch == 1
    detector = Detector("yolo_lite-pico-voc5", "cpu", image_size=96)
    pixels, _, raw = detector.raw(sample_image())
    boxes, scores = session.run(pixels[None])
    every = torch.arange(len(raw.points)).unsqueeze(0)
    np.testing.assert_allclose(boxes, detector.model.decode(raw, every).numpy(), atol=0.01)
    np.testing.assert_allclose(scores, raw.class_logits.sigmoid().numpy(), atol=1e-5)
    with pytest.raises(InputError, match="cannot be run on"):
        session.run(np.zeros((2, 96, 96, 3), np.uint8))
    with pytest.raises(InputError, match="without postprocessing"):
        ExportedDetector(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of a classifier of grey images with random weights."""
    config = read_config(find_config("mnist_small"))
    network = build_classifier(config, 10, seed=3)
    names = tuple("0123456789")
    path = tmp_path_factory.mktemp("digits") / "digits.pt"
    save_checkpoint(
        path, Checkpoint(config, names, tuple(range(10)), weights=network.state_dict(), about={}, training={})
    )
    return path


@pytest.mark.slow
def test_classifiers_are_exported_with_softmax(digits: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    path = export(digits, tmp_path / "digits.onnx", say=lines.append)
    assert lines[0] == "parity: 4 of 4 images agree with the checkpoint (softmax scores)"
    expected, exported = Classifier(digits, "cpu"), ExportedClassifier(path)
    for image in parts():
        np.testing.assert_allclose(exported(image).scores, expected(image).scores, atol=1e-5)
    assert exported(parts())[0].class_names == tuple("0123456789")
    with pytest.raises(InputError, match="--raw is for detectors"):
        export(digits, tmp_path / "b.onnx", raw=True)
    with pytest.raises(InputError, match="leave out --image-size"):
        export(digits, tmp_path / "b.onnx", image_size=64)
    with pytest.raises(InputError, match="is a classifier, expected a detector"):
        ExportedDetector(path)


def test_a_file_for_two_images_takes_any_number(digits: Path, tmp_path: Path) -> None:
    path = export(digits, tmp_path / "two.onnx", batch=2)
    session = Session(path)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.uint8)
    (both,), (first,) = session.run(images), session.run(images[:1])
    assert first.shape == (1, 10)
    np.testing.assert_allclose(first[0], both[0], atol=1e-6)
    classifier, expected = ExportedClassifier(path), Classifier(digits, "cpu")
    assert classifier.batch_size == 2
    for found, image in zip(classifier(parts()[:3]), parts()[:3], strict=True):
        np.testing.assert_allclose(found.scores, expected(image).scores, atol=1e-5)


def test_images_of_another_size_than_annotated_are_named(pico: Path, tmp_path: Path) -> None:
    data = write_coco_set(tmp_path / "set", {"val": 2})
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text().replace('"disc"', '"car"'))
    content["images"][0]["width"] += 40
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=content["images"][0]["file_name"]):
        evaluate_exported(pico, data)


@pytest.mark.slow
def test_an_exported_file_is_scored_like_its_checkpoint(pico: Path, tmp_path: Path) -> None:
    data = write_coco_set(tmp_path / "set", {"val": 3})
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for category, name in zip(content["categories"], ("person", "car")):
        category["name"] = name
    file.write_text(json.dumps(content))
    settings = {"evaluate.score_threshold": 0.002, "evaluate.iou_threshold": 0.6, "input.image_size": [96, 96]}
    expected = evaluate("yolo_lite-pico-voc5", data, settings=settings, device="cpu")
    low = export("yolo_lite-pico-voc5", tmp_path / "low.onnx", image_size=96, score_threshold=0.002)
    exported = evaluate_exported(low, data)
    assert len(exported.rows) == len(expected.rows) > 0
    for name, value in expected.metrics.numbers.items():
        assert exported.metrics.numbers[name] == pytest.approx(value, abs=1e-3, nan_ok=True)
    with pytest.raises(InputError, match="--tta is fixed in an exported file"):
        evaluate_exported(pico, data, settings={"evaluate.tta": True})


@pytest.mark.slow
def test_commands_take_exported_files(
    pico: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--weights", str(digits), "--out", "d.onnx", "--batch", "2"]) == 0
    assert "yolo-lite classify predict --weights d.onnx" in capsys.readouterr().out
    assert main(["classify", "predict", "--weights", "d.onnx", "--source", str(sample_image())]) == 0
    assert main(["detect", "--weights", str(pico), "--score-threshold", "0.05"]) == 0
    assert "person" in capsys.readouterr().out
    for words, message in {
        "--image-size 64": "--image-size is fixed in an exported file",
        "--tta": "--tta is fixed in an exported file",
        "--iou-threshold 0.5": "--iou-threshold is fixed in an exported file",
        "--device cuda": "runs on the CPU",
    }.items():
        assert main(["detect", "--weights", str(pico), *words.split()]) == 2
        assert message in capsys.readouterr().err
    assert main(["export", "--weights", str(digits), "--data", "set"]) == 2
    assert "--data is for detectors" in capsys.readouterr().err
    write_coco_set(tmp_path / "set", {"val": 2})
    words = ["--weights", "yolo_lite-pico-voc5", "--image-size", "64", "--data", "set", "--out", "small.onnx"]
    assert main(["export", *words]) == 0
    assert "parity: 2 of 2 images" in capsys.readouterr().out
    assert main(["export", "--out", "a.pt"]) == 2
    assert "the file must end in .onnx, got a.pt" in capsys.readouterr().err


@pytest.mark.slow
def test_openvino_files_give_the_same_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    path = export("yolo_lite-pico-voc5", format="openvino", image_size=96)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["yolo_lite-pico-voc5.bin", "yolo_lite-pico-voc5.xml"]
    expected = Detector("yolo_lite-pico-voc5", "cpu", image_size=96, score_threshold=0.05)
    exported = ExportedDetector(path, score_threshold=0.05)
    for together, image in zip(exported(parts()), parts()):
        assert compare_detections(expected(image), together) is None
    assert main(["detect", "--weights", str(path)]) == 0
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match=r"needs its weights yolo_lite-pico-voc5.bin beside it"):
        ExportedDetector(path)
    (tmp_path / "text.xml").write_text("hello")
    (tmp_path / "text.bin").write_text("hello")
    with pytest.raises(InputError, match="is not an OpenVINO file, or is damaged"):
        ExportedDetector(tmp_path / "text.xml")


@pytest.mark.slow
def test_openvino_files_that_are_no_exports_are_refused(pico: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    text = {entry.key: entry.value for entry in onnx.load(pico).metadata_props}[KEY]
    for name, description in {
        "right": text,
        "foreign": None,
        "newer": text.replace('"format_version": 1', '"format_version": 2'),
        "lies": text.replace("[96, 96]", "[64, 64]"),
    }.items():
        model = openvino.Core().read_model(str(pico))
        if description is not None:
            model.set_rt_info(description, [KEY])
        openvino.save_model(model, str(tmp_path / f"{name}.xml"), compress_to_fp16=False)
    assert ExportedDetector(tmp_path / "right.xml").image_size == (96, 96)
    for suffix in (".xml", ".bin"):
        (tmp_path / "cut").with_suffix(suffix).write_bytes((tmp_path / "right").with_suffix(suffix).read_bytes())
    (tmp_path / "cut.bin").write_bytes((tmp_path / "right.bin").read_bytes()[:5000])
    for name, message in {
        "foreign": "was not exported by yolo_lite",
        "newer": r"was written by a newer yolo_lite \(format 2\)",
        "lies": r"its input is not uint8 images of \[64, 64, 3\]",
        "cut": "is not an OpenVINO file, or is damaged",
    }.items():
        with pytest.raises(InputError, match=message):
            ExportedDetector(tmp_path / f"{name}.xml")


def test_an_old_onnx_runtime_is_named(pico: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is that of ONNX Runtime 1.17.3."""

    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError(
            "[ONNXRuntimeError] : 1 : FAIL : Unsupported model IR version: 10, max supported IR version: 9"
        )

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    with pytest.raises(
        InputError, match=r"pico.onnx needs a newer ONNX Runtime than .*: pip install 'onnxruntime>=1.18'"
    ):
        ExportedDetector(pico)


def test_openvino_is_imported_without_its_telemetry() -> None:
    pytest.importorskip("openvino")
    code = "import sys; from yolo_lite.runtime.engines import import_openvino; import_openvino(); " + (
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_onnxruntime_is_imported_without_its_telemetry(pico: Path, tmp_path: Path) -> None:
    """Its wheels have telemetry since 1.29, which keeps an identifier of the machine in the home folder."""
    code = "import sys; from yolo_lite.runtime import Detector; Detector(sys.argv[1])"
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code, str(pico)], capture_output=True, check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_unknown_formats_and_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format must be one of onnx, openvino, torch-export, got 'tflite'"):
        export("yolo_lite-pico-voc5", format="tflite")
    with pytest.raises(InputError, match=r"must end in \.xml"):
        export("yolo_lite-pico-voc5", tmp_path / "a.onnx", format="openvino")
    (tmp_path / "a.tflite").write_bytes(b"x")
    with pytest.raises(InputError, match="is not an exported file: expected .onnx or .xml"):
        ExportedDetector(tmp_path / "a.tflite")
