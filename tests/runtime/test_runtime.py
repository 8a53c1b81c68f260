"""The runtime needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from yolo_lite.predict.files import sample_image

CODE = """
import sys
for name in ("torch", "torchvision", "matplotlib", "albumentations", "pycocotools", "scipy", "yaml"):
    sys.modules[name] = None  # an import of it fails
from yolo_lite.runtime import Detector
found = Detector(sys.argv[1], score_threshold=0.05)(sys.argv[2])
print(*found.names)
"""


def test_detection_imports_no_torch(pico: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(pico), str(sample_image())], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "person" in result.stdout.split()


def test_without_onnx_runtime_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_lite.errors import InputError
    from yolo_lite.runtime import Detector

    (tmp_path / "a.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="exported files need ONNX Runtime: pip install onnxruntime"):
        Detector(tmp_path / "a.onnx")
