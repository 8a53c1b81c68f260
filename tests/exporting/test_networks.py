"""Every kind of network that the package has, in every format, on real images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exporting.conftest import CLASSIFIERS, CONVERTED, RANDOM, SHIPPED
from yolo_lite.data.splits import read_split
from yolo_lite.exporting.gates import check_same_results, open_session

IMAGES = 60
FORMATS = ["onnx", "openvino", "torch-export"]


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", [*SHIPPED, *RANDOM, *CONVERTED, *CLASSIFIERS])
@pytest.mark.parametrize("format", FORMATS)
def test_files_give_the_results_of_their_checkpoints(
    name: str,
    format: str,
    weights: Callable[[str], Path],
    exported: Callable[..., Path],
    shared_data: Path,
) -> None:
    if format == "openvino":
        pytest.importorskip("openvino")
    source = weights(name)
    options = {"score_threshold": 5e-4} if name in RANDOM else {}
    file = exported(source, format, **options)
    count = IMAGES // 5 if name == "yolov1_faithful" else IMAGES  # whose 24 convolutions see 448 x 448 pixels
    images = [record.path for record in read_split(shared_data / "coco_mini", "val").records[:count]]
    line = check_same_results(file, source, images=images, name=name, on_image=lambda done, total: None)
    assert line.startswith(f"parity: {count} of {count} images agree")
    if name not in CLASSIFIERS:
        assert int(line.split("(")[1].split()[0].replace(",", "")) > count
    assert open_session(file).batch is None


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM)
def test_heads_of_yolov1_are_exported(name: str, weights: Callable[[str], Path], exported: Callable[..., Path]) -> None:
    """Their scores are often clipped to the same value, so that the order of NMS is not fixed."""
    source = weights(name)
    file = exported(source, "torch-export", score_threshold=5e-4)
    line = check_same_results(file, source, images=None, name=name, on_image=lambda done, total: None)
    assert line.startswith("parity: 4 of 4 images agree")
