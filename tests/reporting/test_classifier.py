"""The report of a classifier: its numbers are those of the evaluation, and two are compared image by image."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.class_images import QUICK, write_class_set
from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.errors import InputError
from yolo_lite.evaluation.classifier import ClassEvaluation, evaluate_classifier
from yolo_lite.metrics.classification import classification_report
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.reporting import classifier
from yolo_lite.reporting.classifier import classifier_report, compare_classifiers
from yolo_lite.shipped import find_config
from yolo_lite.structures.datasets import ClassRecord

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let results land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Save two classifiers as their seeds drew them; return both files and the data."""
    root = tmp_path_factory.mktemp("reported")
    data = write_class_set(root / "set", {"val": {"disc": 15, "square": 9}})
    config = override_config(read_config(find_config("mnist_small")), QUICK)
    files = []
    for seed, name in enumerate(("a", "b")):
        weights = build_classifier(config, 2, seed=seed).state_dict()
        (root / name).mkdir()
        files.append(root / name / "best.pt")
        save_checkpoint(files[-1], Checkpoint(config, ("disc", "square"), category_ids=(0, 1), weights=weights))
    return files[0], files[1], data


def made(
    scores: Sequence[Sequence[float]],
    labels: Sequence[int],
    *,
    names: tuple[str, ...] = ("cat", "dog"),
    weights: str = "a.pt",
    start: int = 0,
) -> ClassEvaluation:
    """Return an evaluation of grey images in memory."""
    records = tuple(
        ClassRecord(f"set/{names[label]}/{number}.png", np.full((30, 20), 9 * number, np.uint8), label)
        for number, label in enumerate(labels, start)
    )
    array = np.array(scores, np.float32)
    report = classification_report(labels, array.argmax(1), class_names=names)
    settings = {"weights": weights, "data": "set", "split": "val"}
    return ClassEvaluation(report, records, scores=array, class_names=names, settings=settings)


def test_report_has_the_numbers_of_the_evaluation(trained: tuple[Path, Path, Path]) -> None:
    evaluation = evaluate_classifier(trained[0], trained[2], split="val", device="cpu")
    report = classifier_report(evaluation, resamples=200)
    plain = json.loads(json.dumps(report, allow_nan=False))
    assert plain == report
    accuracy, macro = report["headline"]
    assert (accuracy["value"], macro["value"]) == (evaluation.report.accuracy, evaluation.report.macro.f1)
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert report["title"] == "a/best on set, val"
    assert report["data"]["images"] == 24
    assert [row["images"] for row in report["per_class"]] == [15, 9]
    assert report["confusion"] == {"names": ["disc", "square"], "counts": evaluation.report.confusion.tolist()}
    assert report["calibration"]["count"] == sum(part["count"] for part in report["calibration"]["bins"]) == 24
    wrong = 24 - int(np.diag(evaluation.report.confusion).sum())
    assert len(report["worst"]) == min(wrong, 12)
    assert "detector" not in report["card"]


def test_the_worst_mistakes_come_first_with_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "model_card", lambda weights: f"# {weights}")
    scores = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]]
    report = classifier_report(made(scores, [1, 1, 0, 1]))
    assert [(each["image"], each["truth"], each["called"]) for each in report["worst"]] == [
        ("dog/0.png", "dog", "cat"),
        ("cat/2.png", "cat", "dog"),
        ("dog/1.png", "dog", "cat"),
    ]
    assert [each["score"] for each in report["worst"]] == pytest.approx([0.9, 0.8, 0.6])
    content = report["worst"][1]["shown"].removeprefix("data:image/jpeg;base64,")
    image = PillowImage.open(io.BytesIO(base64.b64decode(content)))
    assert image.size == (20, 30)
    assert np.abs(np.array(image).astype(int) - 18).max() <= 2  # the third image is of that grey


def test_two_spellings_of_a_class_are_one_class() -> None:
    a = made([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]], [0, 1], names=("cat", "dog", "sea lion"))
    b = made([[0.9, 0.0, 0.1], [0.2, 0.0, 0.8]], [0, 2], names=("cat", "Sea_Lion", "dog"), weights="b.pt")
    comparison = compare_classifiers(a, b)
    assert [each["name"] for each in comparison["classes"]] == ["cat", "dog", "sea lion"]
    assert (comparison["overall"][0]["a"], comparison["overall"][0]["b"]) == (0.5, 1.0)


def test_images_that_only_one_gets_right_are_listed() -> None:
    a = made([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]], [0, 1, 1, 0])  # right: 0 and 2
    b = made([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]], [0, 1, 1, 0], weights="runs/x/best.pt")  # right: 0 and 1
    comparison = compare_classifiers(a, b)
    assert comparison["better"] == [{"image": "dog/1.png", "truth": "dog", "a": "cat", "b": "dog"}]
    assert comparison["worse"] == [{"image": "dog/2.png", "truth": "dog", "a": "dog", "b": "cat"}]
    assert (comparison["a"], comparison["b"], comparison["images"]) == ("a", "x/best", 4)
    assert comparison["overall"][0]["difference"] == 0
    assert [row["name"] for row in comparison["classes"]] == ["cat", "dog"]


def test_the_largest_changes_are_listed_first() -> None:
    a = made([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2]], [1, 1, 1])
    b = made([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7]], [1, 1, 1])
    names = ["dog/1.png", "dog/2.png", "dog/0.png"]  # the score for dog rises by 0.8, 0.5, 0.2
    assert [each["image"] for each in compare_classifiers(a, b)["better"]] == names
    assert [each["image"] for each in compare_classifiers(b, a)["worse"]] == names


def test_order_of_classes_and_images_does_not_matter() -> None:
    a = made([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]], [0, 1, 0])
    turned = ClassEvaluation(
        classification_report([0, 0, 1], [1, 0, 0], class_names=("dog", "cat")),
        tuple(
            ClassRecord(record.name, record.content, 1 - record.label) for record in (a.records[i] for i in (2, 1, 0))
        ),
        scores=a.scores[::-1, ::-1],
        class_names=("dog", "cat"),
        settings=a.settings,
    )
    comparison = compare_classifiers(a, turned)
    assert (comparison["better"], comparison["worse"]) == ([], [])
    assert all(row["difference"] == 0 for row in (*comparison["overall"], *comparison["classes"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ("cat", "owl")}, r"the same classes, but a\.pt lacks owl and b\.pt lacks dog; compare"),
        ({"start": 1}, "scored on different images: 4 images are not in both splits"),
    ],
    ids=["classes", "images"],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, Any], words: str) -> None:
    scores = [[0.9, 0.1], [0.1, 0.9]]
    with pytest.raises(InputError, match=words):
        compare_classifiers(made(scores, [0, 1]), made(scores, [0, 1], weights="b.pt", **change))


def test_classify_eval_writes_a_report_with_a_comparison(trained: tuple[Path, Path, Path], capsys: Capture) -> None:
    a, b, data = map(str, trained)
    command = ["classify", "eval", "--weights", a, "--data", data, "--split", "val", "--out", "e"]
    assert main([*command, "--against", b, "--report", "page"]) == 0
    lines = capsys.readouterr().out.splitlines()
    report, metrics = (json.loads(Path(name).read_text()) for name in ("page/report.json", "e/metrics.json"))
    assert report["comparison"] == metrics["comparison"]
    assert report["headline"][0]["value"] == metrics["accuracy"] == report["comparison"]["overall"][0]["a"]
    row = report["comparison"]["overall"][0]
    shown = next(line for line in lines if line.startswith("accuracy ") and line.endswith(f"{row['p']:.3f}"))
    assert shown.split()[1:4] == [f"{row['a']:.3f}", f"{row['b']:.3f}", f"{row['difference']:+.3f}"]
    page = Path("page/report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Comparison" in page
    assert lines[-1] == "report: page/report.html"


def test_classifiers_of_other_classes_are_refused_before_the_work(
    trained: tuple[Path, Path, Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo_lite.evaluation.classifier.evaluate_classifier", None)
    stored = load_checkpoint(trained[1])
    save_checkpoint(Path("other.pt"), dataclasses.replace(stored, class_names=("Disc", "star")))
    command = ["classify", "eval", "--weights", str(trained[0]), "--data", str(trained[2]), "--against", "other.pt"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"{trained[0]} lacks star and other.pt lacks square" in error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--report", "file/page"], "cannot create the folder file/page: file is a file; choose another output path"),
        (["--against", "missing.pt"], "missing.pt does not exist"),
        (["--classes", "owl"], "owl"),
    ],
    ids=["report", "against", "classes"],
)
def test_bad_flags_get_one_line(
    trained: tuple[Path, Path, Path], capsys: Capture, flags: list[str], words: str
) -> None:
    Path("file").write_text("")
    command = ["classify", "eval", "--weights", str(trained[0]), "--data", str(trained[2]), "--split", "val"]
    assert main([*command, *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not Path("runs").exists()


def test_what_is_no_classifier_is_refused_before_the_work(
    trained: tuple[Path, Path, Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo_lite.evaluation.classifier.evaluate_classifier", None)
    command = ["classify", "eval", "--weights", str(trained[0]), "--data", str(trained[2])]
    assert main([*command, "--against", "yolo_lite-pico-voc5"]) == 2
    assert "yolo_lite-pico-voc5.pt is a detector (yolo_lite-pico), not a classifier" in capsys.readouterr().err
