"""The runtime needs neither torch nor OpenCV."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from yolo_lite.predict.files import sample_image

CODE = """
import sys
for name in ("torch", "torchvision", "matplotlib", "albumentations", "pycocotools", "scipy", "yaml", "cv2", "tqdm"):
    sys.modules[name] = None  # an import of it fails
from yolo_lite.runtime import Detector
found = Detector(sys.argv[1], score_threshold=0.05)(sys.argv[2])
print(*found.names)
"""


def test_detection_imports_neither_torch_nor_opencv(pico: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(pico), str(sample_image())], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "person" in result.stdout.split()


MEMORY = """
import os, sys
from pathlib import Path
import numpy as np
from yolo_lite.runtime.session import Session
session, images, resident = Session(Path(sys.argv[1]), threads=1), np.zeros((128, 96, 96, 3), np.uint8), []
for _ in range(3):
    session.run(images)
    words = Path(f"/proc/{os.getpid()}/statm").read_text().split()
    resident.append(int(words[1]))
print(resident[-1] / resident[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell the memory of a process")
def test_the_same_batch_again_needs_no_more_memory(pico: Path) -> None:
    """With ONNX Runtime's own choice of settings the second batch takes a fifth more."""
    command = [sys.executable, "-c", MEMORY, str(pico)]
    assert float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 1.05


def test_without_onnx_runtime_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_lite.errors import InputError
    from yolo_lite.runtime import Detector

    (tmp_path / "a.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="exported files need ONNX Runtime: pip install onnxruntime"):
        Detector(tmp_path / "a.onnx")


def test_without_a_file_one_line_says_what_to_do() -> None:
    from yolo_lite.errors import InputError
    from yolo_lite.runtime import Detector

    with pytest.raises(
        InputError, match="no exported network is shipped here: write one with yolo-lite export, and pass"
    ):
        Detector()


def test_a_shipped_file_is_the_default_and_goes_by_its_name(pico: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_lite import shipped
    from yolo_lite.runtime import Detector

    monkeypatch.setattr(shipped, "shipped", lambda kind, suffix: {shipped.DEFAULT_WEIGHTS: pico})
    assert Detector().weights == Detector(shipped.DEFAULT_WEIGHTS).weights == pico


CLASSIFY = """
import sys
for name in ("torch", "torchvision", "matplotlib", "albumentations", "pycocotools", "scipy", "yaml", "cv2", "tqdm"):
    sys.modules[name] = None
from yolo_lite.cli import main
sys.exit(main(["classify", "predict", "--weights", sys.argv[1], "--source", sys.argv[2], sys.argv[3], "--out", "a.csv"]))
"""


@pytest.mark.slow
def test_classify_predict_imports_neither_torch_nor_opencv(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from yolo_lite import export
    from yolo_lite.checkpoints.checkpoint import Checkpoint, save_checkpoint
    from yolo_lite.config.resolve import read_config
    from yolo_lite.models.classifiers.build import build_classifier
    from yolo_lite.shipped import find_config

    config, names = read_config(find_config("mnist_small")), tuple("0123456789")
    network = build_classifier(config, 10, seed=3).state_dict()
    checkpoint = Checkpoint(config, names, tuple(range(10)), weights=network, about={}, training={})
    save_checkpoint(tmp_path / "digits.pt", checkpoint)
    weights = export(tmp_path / "digits.pt", tmp_path / "digits.onnx", check=False)
    Image.new("RGB", (30, 40)).save(tmp_path / "grey.png")
    command = [sys.executable, "-c", CLASSIFY, str(weights), str(sample_image()), str(tmp_path / "grey.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_tiles_give_what_they_give_with_the_checkpoint(pico: Path) -> None:
    from yolo_lite.predict.detector import Detector as Trained
    from yolo_lite.runtime import Detector

    settings: Any = {"tiles": "2x3", "score_threshold": 0.05, "batch_size": 4}
    exported = Detector(pico, threads=1, **settings)(sample_image())
    trained = Trained("yolo_lite-pico-voc5", "cpu", image_size=96, **settings)(sample_image())
    assert len(exported) == len(trained) > 3
    assert exported.names == trained.names
    assert abs(exported.boxes - trained.boxes).max() < 0.5
