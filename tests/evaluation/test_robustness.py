"""Robustness: clean images score as in an evaluation, and each change is scored on exactly its own pixels."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.conftest import write_coco_set
from yolo_lite.data.pipeline.corrupt import CHANGES, Change, change_image
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.evaluation import robustness
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.evaluation.exported import evaluate_exported
from yolo_lite.evaluation.robustness import Subject, evaluate_robustness, score_changes
from yolo_lite.media.images import read_image
from yolo_lite.predict.files import sample_image
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections

MakeSet = Callable[..., Path]
FEW = (Change("Gaussian noise", 3), Change("pencil sketch"))


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "CHANGES", FEW)


def truth_of(record: ImageRecord, names: tuple[str, ...]) -> Detections:
    """Return what a perfect detector finds."""
    scores = np.full(len(record.boxes), 0.9, np.float32)
    return Detections(record.boxes, scores, labels=record.labels, class_names=names)


class Scripted:
    """A detector that finds everything in the images of a set, except after changes of some kinds.

    It relies on the order of the calls: a batch of images as they are, then after each change, then the next batch.
    """

    def __init__(self, truth: DetectionSet, *, blind_to: tuple[str, ...] = (), batch_size: int = 2) -> None:
        self.truth, self.blind_to, self.batch_size = truth, blind_to, batch_size
        self.calls: list[list[Image]] = []

    def subject(self) -> Subject:
        return Subject(self, self.truth, self.truth.class_names, self.batch_size, 65535)

    def __call__(self, images: list[Image]) -> list[Detections]:
        batch, number = divmod(len(self.calls), 1 + len(CHANGES))
        self.calls.append(images)
        records = self.truth.records[batch * self.batch_size :][: len(images)]
        found = [truth_of(record, self.truth.class_names) for record in records]
        blind = number > 0 and CHANGES[number - 1].kind in self.blind_to
        return [detections[:0] for detections in found] if blind else found


@pytest.mark.slow
@pytest.mark.usefixtures("few_changes")
def test_images_as_they_are_score_exactly_as_in_an_evaluation(finished_run: tuple[Path, Path]) -> None:
    weights, settings = finished_run[0] / "best.pt", {"train.workers": 0, "train.batch_size": 3}
    done: list[tuple[int, int]] = []
    result = evaluate_robustness(
        weights,
        finished_run[1],
        settings=settings,
        device="cpu",
        on_batch=lambda *progress: done.append(progress),
    )
    metrics = evaluate(weights, finished_run[1], settings=settings, device="cpu").metrics
    assert (result.ap, result.ap50) == (metrics.numbers["AP"], metrics.numbers["AP50"])
    assert result.ap > 0.5
    assert tuple(score.change for score in result.scores) == FEW
    assert all(score.relative == score.ap / result.ap for score in result.scores)
    assert result.scores[1].relative < 0.5  # these shapes are learnt by their colours
    assert done == [(number, 9) for number in range(1, 10)]  # 3 batches, as they are and after 2 changes
    assert (result.images, result.notes) == (8, ())
    assert result.examples
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.slow
@pytest.mark.usefixtures("few_changes")
@pytest.mark.parametrize(
    "settings", [{"evaluate.tiles": "2x2"}, {"evaluate.tta": True}, {"data.classes": ["disc"]}], ids=str
)
def test_settings_of_an_evaluation_hold_here_too(finished_run: tuple[Path, Path], settings: dict[str, Any]) -> None:
    weights, chosen = finished_run[0] / "best.pt", {"train.workers": 0, **settings}
    result = evaluate_robustness(weights, finished_run[1], settings=chosen, device="cpu")
    metrics = evaluate(weights, finished_run[1], settings=chosen, device="cpu").metrics
    assert (result.ap, result.ap50) == (metrics.numbers["AP"], metrics.numbers["AP50"])


def photographs(root: Path, person: str = "person", car: str = "car") -> Path:
    """Write a set of three copies of a photograph of one person, who fills it."""
    data = write_coco_set(root, {"val": 3}, hw=(96, 81), objects=1)
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text().replace('"disc"', f'"{person}"').replace('"square"', f'"{car}"'))
    for record, row in zip(read_split(data, "val").records, content["annotations"]):
        PillowImage.open(sample_image()).resize(record.hw[::-1]).save(record.path)
        row.update(category_id=content["categories"][0]["id"], bbox=[0, 0, record.hw[1], record.hw[0]])
    file.write_text(json.dumps(content))
    return data


@pytest.mark.usefixtures("few_changes")
def test_an_exported_file_is_scored_alike(pico: Path, tmp_path: Path) -> None:
    data = photographs(tmp_path / "set")
    result = evaluate_robustness(pico, data)
    metrics = evaluate_exported(pico, data).metrics
    assert metrics.numbers["AP"] > 0.1
    assert (result.ap, result.ap50) == (metrics.numbers["AP"], metrics.numbers["AP50"])


def test_an_exported_file_knows_classes_that_are_spelled_differently(pico: Path, tmp_path: Path) -> None:
    names = (("person", "car"), ("PERSON", "Car"))
    evaluations = [evaluate_exported(pico, photographs(tmp_path / pair[0], *pair)) for pair in names]
    assert evaluations[1].rows == evaluations[0].rows
    assert evaluations[0].rows
    assert evaluations[1].notes[0].endswith("PERSON (known as person), Car (known as car)")


@pytest.mark.slow
@pytest.mark.usefixtures("few_changes")
def test_classes_that_are_spelled_differently_are_scored_alike(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    """Both the checkpoint and the search for examples know the classes of the data under their own names."""
    weights, settings = finished_run[0] / "best.pt", {"train.workers": 0}
    shutil.copytree(finished_run[1], tmp_path / "renamed")
    file = tmp_path / "renamed" / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"disc"', '"Disc"').replace('"square"', '"SQUARE"'))
    results = [
        evaluate_robustness(weights, data, settings=settings, device="cpu")
        for data in (finished_run[1], tmp_path / "renamed")
    ]
    assert results[1].scores == results[0].scores
    assert [(one.image, one.lost) for one in results[1].examples] == [
        (one.image, one.lost) for one in results[0].examples
    ]
    assert results[0].examples


def test_a_change_that_hides_everything_has_no_ap(coco_set: MakeSet) -> None:
    """The detector finds everything, but nothing in the dark: 0 there, 1 elsewhere, by definition."""
    truth = read_split(coco_set({"val": 3}), "val")
    result = score_changes(Scripted(truth, blind_to=("darkness", "oil painting")).subject())
    assert result.ap == pytest.approx(1)
    for score in result.scores:
        assert score.relative == (0 if score.change.kind in ("darkness", "oil painting") else 1)
        assert score.ap == score.relative * result.ap
    assert [(example.change, example.lost) for example in result.examples] == [
        (Change("darkness", 1), 2),
        (Change("oil painting"), 2),  # another image, because the first is shown already
    ]
    assert [example.image for example in result.examples] == ["0001.png", "0002.png"]
    assert result.examples[0].text == "0001.png: 2 objects detected, 0 after darkness 1"


def test_examples_may_have_the_same_file_name_in_two_folders(coco_set: MakeSet, tmp_path: Path) -> None:
    truth = read_split(coco_set({"val": 2}), "val")
    records = []
    for folder, record in zip(("a", "b"), truth.records):
        (tmp_path / folder).mkdir()
        records.append(replace(record, path=record.path.rename(tmp_path / folder / "same.png")))
    truth = replace(truth, records=records)  # type: ignore[arg-type]
    result = score_changes(Scripted(truth, blind_to=("darkness", "oil painting")).subject())
    assert [example.image for example in result.examples] == ["a/same.png", "b/same.png"]


@pytest.mark.slow
def test_examples_are_small_jpeg_files_of_both_sides(coco_set: MakeSet) -> None:
    truth = read_split(coco_set({"val": 1}, hw=(700, 900)), "val")
    example = score_changes(Scripted(truth, blind_to=("darkness",)).subject()).to_json()["examples"][0]
    assert set(example) == {"kind", "strength", "image", "lost", "clean", "changed", "text"}
    pixels = []
    for side in ("clean", "changed"):
        start, _, content = example[side].partition(",")
        assert start == "data:image/jpeg;base64"
        image = PillowImage.open(io.BytesIO(base64.b64decode(content)))
        assert (image.format, image.size) == ("JPEG", (480, 373))
        pixels.append(np.array(image).astype(float))
    assert pixels[1].mean() == pytest.approx(pixels[0].mean() / 2, rel=0.1)  # darkness 1 halves the light


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_detector_sees_each_image_after_each_change(coco_set: MakeSet, batch_size: int) -> None:
    """Whatever the size of a batch, and although a thread makes the changes."""
    truth = read_split(coco_set({"val": 4}), "val")
    detector = Scripted(truth, batch_size=batch_size)
    score_changes(detector.subject(), seed=5)
    starts = range(0, 4, batch_size)
    calls = iter(detector.calls)
    for start in starts:
        for change in (None, *CHANGES):
            for position, image in enumerate(next(calls), start):
                original = read_image(truth.records[position].path)
                expected = original if change is None else change_image(original, change, seed=5, position=position)
                assert np.array_equal(image, expected)
    assert next(calls, None) is None


def test_a_large_split_is_sampled_and_its_images_change_as_in_the_whole(coco_set: MakeSet) -> None:
    truth = read_split(coco_set({"val": 6}), "val")
    blank = Detections([], [], labels=[], class_names=truth.class_names)
    seen: list[list[Image]] = []

    def detect(images: list[Image]) -> list[Detections]:
        seen.append(images)
        return [blank] * len(images)

    subject = Subject(detect, truth, truth.class_names, 2, 65535)
    result = score_changes(subject, most=2)
    assert (result.images, result.notes) == (2, ("2 of 6 images, drawn at random, were corrupted",))
    originals = [read_image(record.path) for record in truth.records]
    chosen = [next(i for i, image in enumerate(originals) if np.array_equal(image, clean)) for clean in seen[0]]
    assert len(set(chosen)) == 2
    assert chosen == sorted(chosen)
    for image, position in zip(seen[1], chosen):
        assert np.array_equal(image, change_image(originals[position], CHANGES[0], position=position))
    again = len(seen)
    score_changes(subject, most=2)
    assert np.array_equal(seen[again][0], seen[0][0])


def test_crowds_and_unlabelled_classes_are_not_lost(tmp_path: Path) -> None:
    PillowImage.new("RGB", (90, 90), (120, 160, 200)).save(tmp_path / "a.png")
    record = ImageRecord(
        tmp_path / "a.png",
        1,
        hw=(90, 90),
        boxes=np.array([[0, 0, 20, 20], [30, 30, 60, 60], [60, 60, 90, 90]], np.float64),
        labels=np.array([0, 0, 1]),
        crowd=np.array([False, True, False]),
        areas=np.array([400.0, 900, 900]),
        unlabelled=(1,),
    )
    truth = DetectionSet([record], ("cat", "dog"), category_ids=(1, 2), source="drawn")  # type: ignore[arg-type]
    result = score_changes(Scripted(truth, blind_to=("fog",)).subject())
    assert [example.lost for example in result.examples] == [1]


def test_without_a_correct_detection_there_is_nothing_to_compare_with(coco_set: MakeSet) -> None:
    truth = read_split(coco_set({"val": 2}), "val")
    blank = Detections([], [], labels=[], class_names=truth.class_names)
    result = score_changes(Subject(lambda images: [blank] * len(images), truth, truth.class_names, 2, 65535))
    assert (result.ap, result.examples) == (0, ())
    assert all(np.isnan(score.relative) for score in result.scores)
    assert result.to_json()["corruptions"][0] == {
        "kind": "Gaussian noise",
        "strength": 1,
        "AP": 0.0,
        "AP50": 0.0,
        "relative": None,
    }


def test_a_set_without_objects_is_refused_before_the_work(tmp_path: Path) -> None:
    """It has a crowd, and an object of a class that nobody looked for."""
    record = ImageRecord(
        tmp_path / "not_even_read.png",
        1,
        hw=(90, 90),
        boxes=np.array([[30, 30, 60, 60], [60, 60, 90, 90]], np.float64),
        labels=np.array([0, 1]),
        crowd=np.array([True, False]),
        areas=np.array([900.0, 900]),
        unlabelled=(1,),
    )
    truth = DetectionSet([record], ("cat", "dog"), category_ids=(1, 2), source="drawn")  # type: ignore[arg-type]
    detector = Scripted(truth)
    with pytest.raises(InputError, match=r"no image of drawn has an object to find, so there is no AP"):
        score_changes(detector.subject())
    assert not detector.calls
