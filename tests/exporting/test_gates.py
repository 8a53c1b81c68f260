"""Files of reduced precision are written if AP stays, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.conftest import write_coco_set
from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.exporting.export import export
from yolo_lite.exporting.gates import check_accuracy, check_same_accuracy
from yolo_lite.exporting.onnx import store_float16
from yolo_lite.shipped import find_weights

PICO = "yolo_lite-pico-voc5"


@pytest.mark.parametrize(
    ("after", "accepted"), [(0.350, True), (0.344, True), (0.3411, True), (0.3409, False), (float("nan"), False)]
)
def test_a_loss_of_ap_up_to_the_limit_is_accepted(after: float, accepted: bool) -> None:
    if accepted:
        line = check_accuracy(0.344, after, source="a.onnx")
        assert line.startswith(f"accuracy: AP {after:.4f}, checkpoint 0.3440")
    else:
        with pytest.raises(InputError, match="a.onnx has AP .*, its checkpoint 0.3440: the loss is above 0.003"):
            check_accuracy(0.344, after, source="a.onnx")


@pytest.fixture
def trained(finished_run: tuple[Path, Path]) -> tuple[Path, Path]:
    """Return weights that know a data set well, and that set."""
    return finished_run[0] / "best.pt", finished_run[1]


@pytest.mark.slow
def test_float16_halves_the_file_and_keeps_ap(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data = trained
    full = export(source, tmp_path / "full.onnx")
    words = ["--weights", str(source), "--data", str(data), "--fp16", "--out", str(tmp_path / "half.onnx")]
    assert main(["export", *words]) == 0
    output = capsys.readouterr().out
    assert "accuracy: AP " in output
    assert "float16 weights" in output
    stored = {kind: _bytes(tmp_path / f"{kind}.onnx") for kind in ("full", "half")}
    assert stored["half"] < 0.55 * stored["full"]
    assert (tmp_path / "half.onnx").stat().st_size < full.stat().st_size


def _bytes(path: Path) -> int:
    return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)


@pytest.mark.slow
def test_a_file_that_loses_ap_is_not_written(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(path: Path) -> None:
        """Store weights as float16, after the largest half of them was set to zero."""
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 4 and tensor.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(tensor).copy()
                values[: len(values) // 2] = 0
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, path)
        store_float16(path)

    source, data = trained
    monkeypatch.setattr("yolo_lite.exporting.export.store_float16", spoil)
    with pytest.raises(InputError, match=r"a.onnx has AP \d\.\d+, its checkpoint \d\.\d+: .*nothing was written"):
        export(source, tmp_path / "a.onnx", precision="fp16", data=data)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_finds_nothing_proves_nothing(pico: Path, tmp_path: Path) -> None:
    """The set has discs that are called cars."""
    data = write_coco_set(tmp_path / "set", {"val": 2})
    file = data / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"disc"', '"car"'))
    with pytest.raises(
        InputError, match="the checkpoint finds nothing on the validation images of .*says nothing about a"
    ):
        check_same_accuracy(pico, find_weights(PICO), data=data, name="a", on_image=lambda done, total: None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--fp16", "--fp16 needs --data: AP on its validation images must not drop by more than 0.003"),
        ("--fp16 --data set --raw", "leave out --raw"),
        ("--fp16 --data set --format torch-export", "leave it out for torch-export"),
    ],
)
def test_what_does_not_go_with_float16(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--weights", PICO, *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_classifiers_and_unknown_precisions_are_refused(weights: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="--fp16 is for detectors, whose AP is measured"):
        export(weights("mnist_small"), precision="fp16")
    with pytest.raises(InputError, match="precision must be one of fp32, fp16, got 'int8'"):
        export(PICO, precision="int8")
