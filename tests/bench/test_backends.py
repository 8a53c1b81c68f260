"""Benchmarks of backends: every figure is there, and bad input is refused."""

from __future__ import annotations

import pytest

from yolo_lite.bench.backends import bench_backends
from yolo_lite.cli import main
from yolo_lite.errors import InputError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_both_backends_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--backends", "torch,onnx", "--weights", "yolo_lite-pico-voc5", "--image-size", "64"]
    assert main(["bench", "model", *words]) == 0
    *_, torch_row, onnx_row = capsys.readouterr().out.splitlines()
    for row, name in ((torch_row, "torch"), (onnx_row, "onnx")):
        words = row.split()
        assert words[0] == name
        assert words[-1] == "-"
        assert all(float(word) > 0 for word in words[1:-1])
    memory = [float(row.split()[5]) for row in (torch_row, onnx_row)]
    assert memory[1] < memory[0] / 2  # no torch


def test_unknown_backends_and_stray_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--backends must be some of torch, onnx, openvino, got 'tvm'"):
        bench_backends("yolo_lite-pico-voc5", ["tvm"])
    assert main(["bench", "model", "--weights", "yolo_lite-pico-voc5"]) == 2
    assert "--weights goes with --backends" in capsys.readouterr().err
    assert main(["bench", "model", "--backends", "torch", "--config", "nano"]) == 2
    assert "measures trained weights" in capsys.readouterr().err
