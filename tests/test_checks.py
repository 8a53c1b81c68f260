"""What callers of the Python interface pass by mistake, or from NumPy and torch: it works, or one line says what to pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolo_lite import (
    Classification,
    Classifier,
    Detections,
    Detector,
    evaluate,
    evaluate_classifier,
    train,
    train_classifier,
)
from yolo_lite.errors import InputError
from yolo_lite.inspect.why import explain_object

DEVICES = ["cpu", torch.device("cpu"), torch.device("cpu", 0)]
SIDES = [
    (np.int64(320), 320),
    (np.array([96, 128]), (96, 128)),
    ([96, np.int32(128)], (96, 128)),
    (torch.tensor(64), 64),
]
BAD_SIDES = ["320", b"320", 320.0, -32, 0, True, (96,), (96, 128, 3), ("96", "128"), None.__class__, float("nan"), 33]
BAD_CLASSES: list[Any] = ["disc", [0], [np.int64(0)], {"disc": 1}, [None], 3, [["disc"]], b"disc", ["disk"]]
BAD_COUNTS = ["8", 8.0, -1, True, None, [8], float("nan")]
BAD_SHARES = ["0.5", -0.1, 1.5, True, None, float("nan"), [0.5]]
BAD_DEVICES = ["gpu", 0, None, "cpu:1", "auto:0", torch.float32]


@pytest.fixture(scope="module")
def weights(finished_run: tuple[Path, Path]) -> Path:
    return finished_run[0] / "best.pt"


def one_line(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_a_device_of_torch_works(weights: Path, device: Any) -> None:
    assert Detector(weights, device).device.type == "cpu"


@pytest.mark.parametrize(("size", "expected"), SIDES, ids=str)
def test_sides_of_numpy_and_torch_work(weights: Path, size: Any, expected: Any) -> None:
    detector = Detector(weights, "cpu", image_size=size)
    assert detector.image_size == (expected if isinstance(expected, tuple) else (expected, expected))
    assert all(type(side) is int for side in detector.image_size)


def test_numbers_and_names_of_numpy_work(weights: Path, finished_run: tuple[Path, Path]) -> None:
    given: dict[str, Any] = {"score_threshold": np.float32(0.5), "iou_threshold": np.float64(0.5)}
    given |= {"max_detections": np.int64(3), "batch_size": np.int8(2), "classes": np.array(["disc"])}
    detector = Detector(weights, "cpu", **given)
    found = detector([finished_run[1] / "images" / "0001.png", finished_run[1] / "images" / "0002.png"])
    assert {name for one in found for name in one.names} <= {"disc"}


@pytest.mark.parametrize("size", BAD_SIDES, ids=repr)
def test_sides_that_are_none_are_refused(weights: Path, finished_run: tuple[Path, Path], size: Any) -> None:
    assert "image_size must be" in one_line(lambda: Detector(weights, "cpu", image_size=size))
    given = {"input.image_size": size}
    message = one_line(lambda: evaluate(weights, finished_run[1], device="cpu", settings=given))
    assert "'input.image_size' must be" in message or "image size must be multiples of 32" in message


@pytest.mark.parametrize("classes", BAD_CLASSES, ids=repr)
def test_classes_that_are_no_names_are_refused(
    weights: Path, finished_run: tuple[Path, Path], tmp_path: Path, classes: Any
) -> None:
    data = finished_run[1]
    calls: list[Callable[[], object]] = [
        lambda: Detector(weights, "cpu", classes=classes),
        lambda: evaluate(weights, data, device="cpu", settings={"data.classes": classes}),
        lambda: train(
            data,
            weights="none",
            out=tmp_path / "run",
            device="cpu",
            settings={"train.epochs": 1, "data.classes": classes},
        ),
        lambda: train_classifier(
            data, config="lenet", out=tmp_path / "run", device="cpu", settings={"data.classes": classes}
        ),
    ]
    for call in calls:
        assert "class" in one_line(call)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [[], (), np.array([])], ids=repr)
def test_no_classes_are_all_of_them_in_settings_alone(
    weights: Path, finished_run: tuple[Path, Path], classes: Any
) -> None:
    settings = {"data.classes": classes, "train.workers": 0}
    found = evaluate(weights, finished_run[1], device="cpu", settings=settings)
    assert set(found.metrics.per_class) == {"disc", "square"}
    assert "leave it out (None)" in one_line(lambda: Detector(weights, "cpu", classes=classes))


def test_the_message_says_what_to_pass(weights: Path) -> None:
    assert one_line(lambda: Detector(weights, "cpu", classes="disc")).endswith("got the text 'disc'; pass ['disc']")
    assert "names (disc, square), got the item 0" in one_line(lambda: Detector(weights, "cpu", classes=[0]))  # type: ignore[list-item]


@pytest.mark.parametrize("count", BAD_COUNTS, ids=repr)
def test_counts_that_are_none_are_refused(weights: Path, finished_run: tuple[Path, Path], count: Any) -> None:
    data = finished_run[1]
    assert "batch_size must be" in one_line(lambda: Detector(weights, "cpu", batch_size=count))
    if count is not None:  # which stands for what the weights say
        assert "max_detections must be" in one_line(lambda: Detector(weights, "cpu", max_detections=count))
    if count == 8.0:  # the same number to a setting, which may come from YAML
        return
    for key in ("train.batch_size", "evaluate.resamples", "evaluate.max_detections"):
        given = {key: count}
        assert f"'{key}' must be" in one_line(lambda: evaluate(weights, data, device="cpu", settings=given))  # noqa: B023
    batch, most = {"train.batch_size": count}, {"data.per_class": count}
    assert "'train.batch_size' must be" in one_line(
        lambda: evaluate_classifier(weights, data, device="cpu", settings=batch)
    )
    assert "'data.per_class' must be" in one_line(
        lambda: train_classifier(data, config="lenet", device="cpu", settings=most)
    )


@pytest.mark.parametrize("share", BAD_SHARES, ids=repr)
def test_thresholds_that_are_none_are_refused(weights: Path, finished_run: tuple[Path, Path], share: Any) -> None:
    if share is not None:  # which stands for what the weights say
        assert "score_threshold must be" in one_line(lambda: Detector(weights, "cpu", score_threshold=share))
        assert "iou_threshold must be" in one_line(lambda: Detector(weights, "cpu", iou_threshold=share))
    if share == "0.5":  # a number to a setting, since YAML reads 1e-3 as text
        return
    data, threshold, fraction = finished_run[1], {"evaluate.iou_threshold": share}, {"data.fraction": share}
    assert "'evaluate.iou_threshold' must be" in one_line(
        lambda: evaluate(weights, data, device="cpu", settings=threshold)
    )
    for call in (
        lambda: train(data, weights="none", device="cpu", settings=fraction),
        lambda: train_classifier(data, config="lenet", device="cpu", settings=fraction),
    ):
        assert re.search("fraction'? must be", one_line(call))


@pytest.mark.parametrize("device", BAD_DEVICES, ids=repr)
def test_a_device_that_is_none_is_refused(weights: Path, finished_run: tuple[Path, Path], device: Any) -> None:
    assert "device must be one of auto, cpu, cuda, mps" in one_line(lambda: Detector(weights, device))
    assert "device must be one of" in one_line(lambda: evaluate(weights, finished_run[1], device=device))
    assert "device must be one of" in one_line(lambda: train(finished_run[1], weights="none", device=device))


@pytest.mark.parametrize("path", [3, b"best.pt", "", ["best.pt"], object()], ids=repr)
def test_a_path_that_is_none_is_refused(weights: Path, finished_run: tuple[Path, Path], path: Any) -> None:
    data = finished_run[1]
    for call in (
        lambda: Detector(path),
        lambda: Classifier(path),
        lambda: evaluate(path, data),
        lambda: evaluate_classifier(path, data),
        lambda: train(data, weights=path),
    ):
        assert "weights must be a path" in one_line(call)
    for call in (
        lambda: evaluate(weights, path),
        lambda: evaluate_classifier(weights, path),
        lambda: train(path, weights="none"),
        lambda: train_classifier(path, config="lenet"),
    ):
        assert "data must be a path" in one_line(call)


@pytest.mark.parametrize("settings", [["train.epochs=1"], "train.epochs=1", {1: 2}, {"train.epochs": "5"}], ids=repr)
def test_settings_that_are_none_are_refused(finished_run: tuple[Path, Path], settings: Any) -> None:
    assert one_line(lambda: train(finished_run[1], weights="none", settings=settings, device="cpu"))
    assert one_line(lambda: train_classifier(finished_run[1], config="lenet", settings=settings, device="cpu"))


def test_settings_of_numpy_work() -> None:
    from yolo_lite.config.resolve import override_config, read_config

    given = {"train.epochs": np.int64(5), "train.lr": np.float32(0.5), "input.image_size": np.array([64, 96])}
    config = override_config(
        read_config(None), {**given, "train.teacher": Path("a/b.pt"), "train.compile": np.bool_(1)}
    )
    assert (config.train.epochs, config.train.lr, config.input.image_size) == (5, 0.5, (64, 96))
    assert (config.train.teacher, config.train.compile) == ("a/b.pt", True)


FOUND = Detections([[0, 0, 1, 1]] * 3, [0.9, 0.5, 0.1], labels=[0, 1, 0], class_names=("disc", "square"))


@pytest.mark.parametrize(
    ("index", "scores"),
    [
        ([], []),
        ((0, 2), [0.9, 0.1]),
        ([0, -1], [0.9, 0.1]),
        (torch.tensor([True, False, True]), [0.9, 0.1]),
        (torch.tensor(1), [0.5]),
        (np.array(2), [0.1]),
        ([True, False, True], [0.9, 0.1]),
        (FOUND.labels == 0, [0.9, 0.1]),
        (np.array([1], np.uint8), [0.5]),
    ],
    ids=str,
)
def test_detections_are_chosen_by_positions_and_masks(index: Any, scores: list[float]) -> None:
    assert FOUND[index].scores.tolist() == pytest.approx(scores)


@pytest.mark.parametrize(
    "index",
    [True, False, np.bool_(True), None, 1.0, "disc", [1.0], ["disc"], ..., np.zeros((3, 1), int), slice("a"), slice(0.5),
     [True, False], np.ones(4, bool), np.ones((3, 1), bool), {0}, [None]],
    ids=repr,
)  # fmt: skip
def test_an_index_that_chooses_nothing_is_refused(index: Any) -> None:
    one_line(lambda: FOUND[index])


@pytest.mark.parametrize("index", [[3], [0, -4], np.array([7]), (5,)], ids=repr)
def test_a_position_outside_is_an_index_error(index: Any) -> None:
    with pytest.raises(IndexError, match="of 3"):
        FOUND[index]


def test_no_detections_can_be_masked() -> None:
    none = Detections([], [], labels=[], class_names=("disc",))
    for index in (np.zeros(0, bool), none.scores > 0.5, [], slice(None)):
        assert len(none[index]) == 0
    with pytest.raises(IndexError):
        none[0]


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "names"),
    [
        ("ab", [0.5], [0], ("a",)),
        ([[0, 0, 1, 1]], ["high"], [0], ("a",)),
        ([[0, 0, 1, 1]], [0.5], [0.7], ("a",)),
        ([[0, 0, 1, 1]], [0.5], ["a"], ("a",)),
        ([[0, 0, 1, 1]], [0.5], [0], "a"),
        ([[0, 0, 1, 1]], [0.5], [0], (0,)),
        ([[0, 0, 1]], [0.5], [0], ("a",)),
    ],
    ids=str,
)
def test_detections_of_the_wrong_kind_are_refused(boxes: Any, scores: Any, labels: Any, names: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Detections(boxes, scores, labels=labels, class_names=names)


def test_a_classification_is_checked() -> None:
    shown = Classification([0.25, 0.75], ["a", "b"])  # type: ignore[arg-type]
    assert (shown.name, shown.score, shown.top(np.int64(1))) == ("b", 0.75, [("b", 0.75)])  # type: ignore[arg-type]
    for count in (-1, 1.0, "1", True, None):
        one_line(lambda count=count: shown.top(count))  # type: ignore[misc]
    for scores, names in (([], []), ([0.5], ["a", "b"]), ([[0.5, 0.5]], ["a", "b"]), (["x"], ["a"]), ([1.0], "a")):
        one_line(lambda scores=scores, names=names: Classification(scores, names))  # type: ignore[misc]


def test_other_arguments_that_are_none_are_refused(weights: Path, finished_run: tuple[Path, Path]) -> None:
    data, detector = finished_run[1], Detector(weights, "cpu")
    other: Any = 3
    assert "split must be" in one_line(lambda: evaluate(weights, data, split=other, device="cpu"))
    assert "split must be" in one_line(lambda: evaluate(weights, data, split=None, device="cpu"))  # type: ignore[arg-type]
    assert "split must be" in one_line(lambda: evaluate_classifier(weights, data, split=other, device="cpu"))
    given: Any = ["train.batch_size=8"]
    assert "settings must be a dictionary" in one_line(lambda: evaluate(weights, data, device="cpu", settings=given))
    given = {"batch_size": 8}
    assert "the setting batch_size has no effect here" in one_line(
        lambda: evaluate(weights, data, device="cpu", settings=given)
    )
    assert "source must be a whole number" in one_line(lambda: list(detector.stream(2.5)))
    assert "cfg must be a path" in one_line(lambda: Detector.from_darknet(other, weights))
    image = data / "images" / "0001.png"
    for box in ("abcd", [1, 2, 3], [1, 2, 3, "4"], None, [1, 2, 3, float("nan")]):
        given = box
        assert "box must be" in one_line(lambda: explain_object(detector, image, box=given))  # noqa: B023
    assert explain_object(detector, image, box=np.array([1, 2, 50, 60]))


def test_names_in_a_set_have_the_same_order_every_time() -> None:
    from yolo_lite.checks import check_class_names

    assert check_class_names({"b", "a", "c"}) == ("a", "b", "c")
