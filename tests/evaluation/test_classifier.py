"""Classify images against arithmetic in NumPy and counting by hand; what an evaluation picks, writes and draws."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tests.class_images import QUICK, draw_shape, write_class_set
from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.draw import plots
from yolo_lite.errors import InputError
from yolo_lite.evaluation.classifier import ClassEvaluation, evaluate_classifier
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.metrics.classification import classification_report
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.predict.classifier import Classifier
from yolo_lite.predict.detector import Detector
from yolo_lite.shipped import find_config
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord
from yolo_lite.structures.results import Classification
from yolo_lite.training.recipe import train_classifier

Scores = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train for two epochs, which leaves some images wrong; return (run folder, data folder with val and test)."""
    root = tmp_path_factory.mktemp("shapes")
    counts = {"train": {"disc": 24, "square": 24}, "val": {"disc": 15, "square": 9}, "test": {"disc": 3, "square": 4}}
    data = write_class_set(root / "set", counts)
    settings = {**QUICK, "train.epochs": 3, "train.lr": 0.002}
    return train_classifier(data, config="mnist_small", settings=settings, out=root / "run", device="cpu"), data


def save_untrained(path: Path, model: str, names: tuple[str, ...], **settings: object) -> Path:
    """Save a classifier as its seed drew it."""
    config = override_config(read_config(find_config(model)), {**QUICK, **settings})
    network = build_classifier(config, len(names), seed=1)
    save_checkpoint(
        path, Checkpoint(config, names, category_ids=tuple(range(len(names))), weights=network.state_dict())
    )
    return path


def scores_of(*rows: list[float]) -> Scores:
    return np.array(rows, np.float32)


def test_scores_agree_with_arithmetic_in_numpy(tmp_path: Path) -> None:
    """A multilayer perceptron on a grey image of the input's size: three matrix products and a softmax, by hand."""
    size = {"input.image_size": 8, "input.mean": [40.0, 0, 0], "input.std": [50.0, 1, 1]}
    path = save_untrained(tmp_path / "mlp.pt", "mlp", ("a", "b", "c"), **size)
    grey = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    weights = {name: value.numpy().astype(np.float64) for name, value in load_checkpoint(path).weights.items()}
    layers = sorted({name.rpartition(".")[0] for name in weights if name.startswith("backbone.")})
    x = (grey.astype(np.float64).ravel() - 40) / 50
    for layer in layers:
        x = np.maximum(weights[f"{layer}.weight"] @ x + weights[f"{layer}.bias"], 0)
    outputs = weights["head.weight"] @ x + weights["head.bias"]
    expected = np.exp(outputs - outputs.max()) / np.exp(outputs - outputs.max()).sum()
    found = Classifier(path, "cpu")(np.repeat(grey[..., None], 3, -1))
    assert len(layers) == 2
    assert np.ptp(expected) > 0.01  # the classes differ
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.class_names == ("a", "b", "c")


def test_a_path_an_array_and_a_pillow_image_are_the_same_image(shapes: tuple[Path, Path]) -> None:
    classifier, file = Classifier(shapes[0] / "best.pt", "cpu"), shapes[1] / "val" / "disc" / "disc-001.png"
    image = Image.open(file)
    results = [classifier(one) for one in (file, str(file), np.array(image.convert("RGB")), image)]
    assert all(np.array_equal(one.scores, results[0].scores) for one in results)
    assert results[0].scores.dtype == np.float32
    assert results[0].scores.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_list_gives_what_each_alone_gives(shapes: tuple[Path, Path], batch_size: int) -> None:
    classifier = Classifier(shapes[0] / "best.pt", "cpu", batch_size=batch_size)
    files = sorted((shapes[1] / "test").rglob("*.png"))
    together, alone = classifier(files), [classifier(file) for file in files]
    assert len(together) == 7
    np.testing.assert_allclose([one.scores for one in together], [one.scores for one in alone], atol=1e-6)
    assert len({one.scores.tobytes() for one in together}) == 7  # no image stands for another


def test_an_empty_list_is_empty_and_sides_may_differ(shapes: tuple[Path, Path]) -> None:
    classifier = Classifier(shapes[0] / "best.pt", "cpu")
    assert classifier([]) == []
    images = tuple(np.zeros((height, width, 3), np.uint8) for height, width in ((1, 1), (50, 20), (32, 32)))
    assert len(classifier(images)) == 3


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"an array must be uint8 \[height, width, 3\]"),
        (np.zeros((4, 4, 3)), "got float64"),
        (7, "an image must be a path"),
        ("none.png", "none.png"),
    ],
    ids=["grey array", "float array", "a number", "no file"],
)
def test_what_is_no_image_is_refused(shapes: tuple[Path, Path], image: object, message: str) -> None:
    classifier = Classifier(shapes[0] / "best.pt", "cpu")
    for given in (image, [image]):
        with pytest.raises(InputError, match=message):
            classifier(given)  # type: ignore[call-overload]


def test_classes_that_are_spelled_differently_are_scored_alike(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(shapes[1] / split / "disc", tmp_path / "set" / split / "the-Disc")
        shutil.copytree(shapes[1] / split / "square", tmp_path / "set" / split / "Square")
    stored = load_checkpoint(shapes[0] / "best.pt")
    renamed = dataclasses.replace(stored, class_names=("The disc", "square"))
    save_checkpoint(tmp_path / "best.pt", renamed)
    same = evaluate_classifier(shapes[0] / "best.pt", shapes[1], device="cpu")
    result = evaluate_classifier(tmp_path / "best.pt", tmp_path / "set", device="cpu")
    order = [[record.name.rpartition("/")[2] for record in each.records] for each in (result, same)]
    assert sorted(order[0]) == sorted(order[1])
    assert result.class_names == ("the-Disc", "Square")
    assert result.report.confusion.tolist() == same.report.confusion.tolist()
    assert result.notes[-1].endswith("the-Disc (known as The disc), Square (known as square)")


def test_no_batch_is_refused(shapes: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        Classifier(shapes[0] / "best.pt", "cpu", batch_size=0)


def test_detectors_and_classifiers_are_told_apart_by_file_name(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    config = override_config(read_config(None), {"model.widths": [8, 8, 8, 8], "model.stem_width": 8})
    found = Checkpoint(config, ("disc",), category_ids=(1,), weights=build_detector(config, 1).state_dict())
    save_checkpoint(tmp_path / "boxes.pt", found)
    told = r"boxes\.pt is a detector \(yolo_lite-n\), not a classifier"
    with pytest.raises(InputError, match=told):
        Classifier(tmp_path / "boxes.pt", "cpu")
    with pytest.raises(InputError, match=told):
        evaluate_classifier(tmp_path / "boxes.pt", shapes[1], device="cpu")
    with pytest.raises(InputError, match=r"best\.pt is a classifier \(mnist_small\), which finds no boxes"):
        Detector(shapes[0] / "best.pt", device="cpu")
    with pytest.raises(InputError, match=r"best\.pt is a classifier"):
        evaluate(str(shapes[0] / "best.pt"), str(shapes[1]))


def test_evaluation_agrees_with_asking_for_each_image(shapes: tuple[Path, Path]) -> None:
    """Count by hand: an image is what its folder says, and is called what the classifier says of its file alone."""
    folder, data = shapes
    result = evaluate_classifier(
        folder / "best.pt", data, split="val", device="cpu", settings={"train.batch_size": 5, "train.workers": 0}
    )
    classifier = Classifier(folder / "best.pt", "cpu")
    files = sorted((data / "val").rglob("*.png"))
    answers = [(file.parent.name, classifier(file).name) for file in files]
    names = ("disc", "square")
    counted = [[answers.count((truth, called)) for called in names] for truth in names]
    assert result.report.confusion.tolist() == counted
    assert result.report.accuracy == pytest.approx((counted[0][0] + counted[1][1]) / 24)
    assert 0 < result.report.accuracy < 1  # else a mix-up of rows would hide
    assert [record.name for record in result.records] == [str(file) for file in files]
    assert result.settings["split"] == "val"
    assert result.settings["images"] == 24


def test_evaluation_repeats_the_best_epoch_of_the_log(shapes: tuple[Path, Path]) -> None:
    folder, data = shapes
    rows = list(csv.DictReader((folder / "results.csv").open()))
    best = max(float(row["accuracy"]) for row in rows)
    result = evaluate_classifier(folder / "best.pt", data, split="val", device="cpu", settings={"train.workers": 0})
    assert result.report.accuracy == pytest.approx(best, abs=1e-5)
    assert load_checkpoint(folder / "best.pt").about["metrics"]["accuracy"] == pytest.approx(best, abs=1e-5)


def test_test_is_scored_where_there_is_one(shapes: tuple[Path, Path]) -> None:
    result = evaluate_classifier(shapes[0] / "best.pt", shapes[1], device="cpu", settings={"train.workers": 0})
    assert (result.settings["split"], len(result.records)) == ("test", 7)
    assert result.to_json()["settings"]["images"] == 7


def test_classes_are_matched_by_name_not_by_position(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    """A set without discs: its squares have label 0 there, but 1 in the weights."""
    shutil.copytree(shapes[1] / "val" / "square", tmp_path / "set" / "train" / "square")
    shutil.copytree(shapes[1] / "val" / "square", tmp_path / "set" / "val" / "square")
    alone = evaluate_classifier(
        shapes[0] / "best.pt", tmp_path / "set", split="val", device="cpu", settings={"train.workers": 0}
    )
    both = evaluate_classifier(
        shapes[0] / "best.pt", shapes[1], split="val", device="cpu", settings={"train.workers": 0}
    )
    chosen = evaluate_classifier(
        shapes[0] / "best.pt",
        shapes[1],
        split="val",
        device="cpu",
        settings={"data.classes": ["square"], "train.workers": 0},
    )
    assert alone.class_names == ("disc", "square")
    assert alone.report.confusion.tolist() == chosen.report.confusion.tolist()
    assert alone.report.confusion.tolist() == [[0, 0], both.report.confusion[1].tolist()]


def test_a_class_that_the_weights_do_not_know_is_named(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_class_set(tmp_path / "set", {"train": {"bar": 1}, "val": {"bar": 2, "disc": 2}})
    with pytest.raises(InputError, match=r"has the class bar, but the weights know only disc, square; .*--classes"):
        evaluate_classifier(shapes[0] / "best.pt", data, split="val", device="cpu", settings={"train.workers": 0})
    result = evaluate_classifier(
        shapes[0] / "best.pt", data, split="val", device="cpu", settings={"data.classes": ["disc"], "train.workers": 0}
    )
    assert len(result.records) == 2


def test_a_folder_without_splits_is_divided_as_in_training(tmp_path: Path) -> None:
    data = write_class_set(tmp_path / "set", {"": {"disc": 20, "square": 10}})
    settings = {**QUICK, "train.epochs": 1, "train.seed": 5}
    out = train_classifier(
        data, config="lenet", settings={**settings, "data.shares": "60/20/20"}, out=tmp_path / "run", device="cpu"
    )
    parts = {
        split: evaluate_classifier(out / "best.pt", data, split=split, device="cpu", settings={"train.workers": 0})
        for split in ("train", "val", "test")
    }
    about = load_checkpoint(out / "best.pt").about
    found = {split: ClassificationSet(one.records, one.class_names, "") for split, one in parts.items()}
    assert fingerprint(found["val"]) == about["val_fingerprint"]
    assert fingerprint(found["train"]) == about["fingerprint"]
    assert {split: len(one.records) for split, one in parts.items()} == {"train": 18, "val": 6, "test": 6}
    names = [record.name for one in parts.values() for record in one.records]
    assert len(set(names)) == len(names) == 30
    other = evaluate_classifier(
        out / "best.pt", data, split="test", device="cpu", settings={"data.shares": "80/10/10", "train.workers": 0}
    )
    assert len(other.records) == 3


def test_a_class_scored_alone_is_scored_on_no_image_of_training(tmp_path: Path) -> None:
    """A tenth of the training images is set aside by the seed; naming one class must set aside the same of it."""
    data = write_class_set(tmp_path / "set", {"train": {"bar": 20, "disc": 30, "square": 40}})
    out = train_classifier(
        data, config="lenet", settings={**QUICK, "train.epochs": 1}, out=tmp_path / "run", device="cpu"
    )
    whole = evaluate_classifier(out / "best.pt", data, split="val", device="cpu", settings={"train.workers": 0})
    for name in ("bar", "square"):
        alone = evaluate_classifier(
            out / "best.pt", data, split="val", device="cpu", settings={"data.classes": [name], "train.workers": 0}
        )
        held = {record.name for record in whole.records if Path(record.name).parent.name == name}
        assert {record.name for record in alone.records} == held


def evaluation_of(truth: list[int], scores: Scores) -> ClassEvaluation:
    """Make a result by hand; image i is one pixel of grey i."""
    names = ("a", "b", "c")
    report = classification_report(truth, scores.argmax(1), class_names=names)
    pixels = [np.full((1, 1, 3), index, np.uint8) for index in range(len(truth))]
    records = tuple(ClassRecord(str(i), image, label) for i, (image, label) in enumerate(zip(pixels, truth)))
    return ClassEvaluation(report, records, scores=scores, class_names=names, settings={})


HAND = evaluation_of(
    [0, 1, 2, 0, 1, 2, 0],
    scores_of(
        [0.8, 0.1, 0.1],  # right
        [0.6, 0.4, 0.0],  # wrong
        [0.9, 0.1, 0.0],  # wrong, and the surest
        [0.5, 0.3, 0.2],  # right
        [0.0, 0.4, 0.6],  # wrong, as sure as the first
        [0.1, 0.1, 0.8],  # right
        [0.4, 0.3, 0.3],  # right
    ),
)


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (0, []),
        (2, [2, 0]),
        (4, [2, 1, 0, 3]),
        (6, [2, 1, 4, 0, 3, 5]),
        (7, [2, 1, 4, 0, 3, 5, 6]),
        (99, [2, 1, 4, 0, 3, 5, 6]),
    ],
)
def test_examples_are_half_wrong_with_the_surest_first(count: int, chosen: list[int]) -> None:
    """Picked by hand from the table above."""
    found = list(HAND.examples(count))
    assert [int(image[0, 0, 0]) for image, _, _ in found] == chosen
    assert [truth for _, _, truth in found] == ["abcabca"[index] for index in chosen]
    assert [one.name for _, one, _ in found] == ["aaaacca"[index] for index in chosen]


def test_examples_are_filled_up_where_one_kind_is_short() -> None:
    right = evaluation_of([0, 0, 0], scores_of([1, 0, 0], [1, 0, 0], [1, 0, 0]))
    assert [int(image[0, 0, 0]) for image, _, _ in right.examples(2)] == [0, 1]
    wrong = evaluation_of([1, 1, 1], scores_of([0.5, 0, 0], [0.7, 0, 0], [0.6, 0, 0]))
    assert [int(image[0, 0, 0]) for image, _, _ in wrong.examples(2)] == [1, 2]


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([0.02, 0.98], "dog 98%, cat 2%"),
        ([0.5, 0.5], "cat 50%, dog 50%"),  # of equals the lower label comes first
        ([0.001, 0.999], "dog 100%"),  # what rounds to nothing is left out
        ([1.0, 0.0], "cat 100%"),
    ],
)
def test_a_classification_reads_as_a_line(scores: list[float], text: str) -> None:
    assert str(Classification(scores_of(scores)[0], ("cat", "dog"))) == text


def test_the_highest_score_wins_and_ties_keep_the_lower_label() -> None:
    one = Classification(scores_of([0.1, 0.3, 0.3, 0.3])[0], ("a", "b", "c", "d"))
    assert (one.label, one.name, one.score) == (1, "b", pytest.approx(0.3))
    assert [name for name, _ in one.top(3)] == ["b", "c", "d"]
    assert [name for name, _ in one.top(99)] == ["b", "c", "d", "a"]
    assert one.top(0) == []


def test_a_line_names_five_classes_at_most_and_always_one() -> None:
    many = Classification(np.full(10, 0.1, np.float32), tuple("abcdefghij"))
    assert str(many) == "a 10%, b 10%, c 10%, d 10%, e 10%"
    flat = Classification(np.full(1000, 0.001, np.float32), tuple(str(label) for label in range(1000)))
    assert str(flat) == "0 0%"


def pixels_of(path: Path) -> npt.NDArray[np.int64]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image.convert("RGB")).astype(np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10, 60])
def test_a_confusion_matrix_is_drawn_for_few_and_many_classes(tmp_path: Path, classes: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 2000, (classes, classes))
    matrix[0] = 0  # no such image: no division by nothing
    before = matrix.copy()
    names = [f"class {label}" for label in range(classes)]
    plots.plot_confusion(matrix, names, path=tmp_path / "confusion.png")
    image = pixels_of(tmp_path / "confusion.png")
    assert min(image.shape[:2]) >= 300
    assert np.array_equal(matrix, before)


def test_right_answers_are_dark_on_the_diagonal(tmp_path: Path) -> None:
    """Matplotlib's darkest blue is 8, 48, 107; of a diagonal matrix half of four squares have it, of an even one none."""
    dark = []
    for number, matrix in enumerate((np.eye(2, dtype=np.int64), np.ones((2, 2), np.int64))):
        plots.plot_confusion(matrix, ["a", "b"], path=tmp_path / f"{number}.png")
        dark.append(int((pixels_of(tmp_path / f"{number}.png") == (8, 48, 107)).all(-1).sum()))
    assert dark[0] > 5000
    assert dark[1] == 0


@pytest.mark.parametrize("count", [1, 6, 7])
def test_examples_are_drawn_and_wrong_ones_in_red(tmp_path: Path, count: int) -> None:
    """On grey images nothing but letters has a colour: red where an answer is wrong, none where all are right."""
    generator = np.random.default_rng(0)
    images = [np.array(draw_shape(generator, "disc")) for _ in range(count)]
    said = Classification(scores_of([0.9, 0.1])[0], ("disc", "square"))
    red = []
    for truth in ("disc", "square"):
        plots.draw_classifications(((image, said, truth) for image in images), tmp_path / f"{truth}.png")
        image = pixels_of(tmp_path / f"{truth}.png")
        red.append(int(((image[..., 0] - image[..., 1] > 100) & (image[..., 0] - image[..., 2] > 100)).sum()))
    assert red[0] == 0
    assert red[1] >= 20 * count


def test_class_names_are_letters_not_formulas(tmp_path: Path) -> None:
    """Between two dollar signs matplotlib would read a formula, and fail on this one."""
    names = ["$_$", "a_b"]
    said = Classification(scores_of([0.9, 0.1])[0], tuple(names))
    plots.plot_confusion(np.eye(2, dtype=np.int64), names, path=tmp_path / "a.png")
    plots.draw_classifications([(np.zeros((9, 9, 3), np.uint8), said, "a_b")], tmp_path / "b.png")
    assert pixels_of(tmp_path / "a.png").size
    assert pixels_of(tmp_path / "b.png").size


def test_weights_that_do_not_fit_name_the_file(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    stored = load_checkpoint(shapes[0] / "best.pt")
    weights = {**stored.weights, "head.1.bias": torch.zeros(9)}
    save_checkpoint(
        tmp_path / "odd.pt", Checkpoint(stored.config, stored.class_names, category_ids=(0, 1), weights=weights)
    )
    with pytest.raises(InputError, match=r"odd\.pt: the weights do not fit"):
        Classifier(tmp_path / "odd.pt", "cpu")


def test_a_classifier_reads_16_bits_as_its_training_did(tmp_path: Path) -> None:
    """A grey image in 8 bits and its twin from a 12-bit camera, from Python and from the command line."""
    path = save_untrained(tmp_path / "deep.pt", "mnist_small", ("a", "b", "c"), **{"input.max_16bit": 4095})
    grey = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    files = [tmp_path / "images" / "8.png", tmp_path / "images" / "12.png"]
    files[0].parent.mkdir()
    for file, pixels in zip(files, (grey, grey.astype(np.uint16) * 16)):
        cv2.imwrite(str(file), pixels)
    classifier = Classifier(path, device="cpu")
    assert np.array_equal(classifier(files[0]).scores, classifier(files[1]).scores)
    assert np.array_equal(*(one.scores for one in classifier(files)))
    out = tmp_path / "rows.csv"
    command = ["classify", "predict", "--weights", str(path), "--source", str(files[0].parent), "--out", str(out)]
    assert main([*command, "--device", "cpu"]) == 0
    with out.open() as rows:
        first, second = list(csv.reader(rows))[1:]
    assert first[1:] == second[1:]
    records = tuple(ClassRecord(file.name, file, 0) for file in files)
    truth = np.full((2, 3), 1 / 3, np.float32)
    report = classification_report(np.array([0, 0]), np.array([0, 0]), class_names=("a", "b", "c"))
    shown = [
        image
        for image, _, _ in ClassEvaluation(
            report, records, scores=truth, class_names=("a", "b", "c"), settings={}, max_16bit=4095
        ).examples(2)
    ]
    assert np.array_equal(*shown)


def test_a_very_long_name_leaves_room_for_the_drawing(tmp_path: Path) -> None:
    """matplotlib warns if labels leave no room for the matrix."""
    names = ("x" * 200, "\u732b" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_confusion(np.eye(2, dtype=np.int64), names, path=tmp_path / "a.png")
        called = Classification(np.array([0.9, 0.1], np.float32), names)
        plots.draw_classifications([(np.zeros((8, 8, 3), np.uint8), called, names[1])], tmp_path / "b.png")
    assert Image.open(tmp_path / "a.png").size[0] < 1000


def test_titles_of_examples_fit_above_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, *_, **__: figures.append(figure))
    called = Classification(np.array([0.9, 0.1], np.float32), ("x" * 200, "\u732b" * 100))
    plots.draw_classifications([(np.zeros((8, 8, 3), np.uint8), called, "\u732b" * 100)], tmp_path / "b.png")
    lines = figures[0].axes[0].get_title().splitlines()
    assert [line.count("\N{HORIZONTAL ELLIPSIS}") for line in lines] == [1, 1]
    assert [line.count(letter) for line, letter in zip(lines, "x\u732b")] == [23, 11]
