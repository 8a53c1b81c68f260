"""Files of torch.export run with torch alone, and hold no pickled weights."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.exporting.export import export
from yolo_lite.exporting.program import Program
from yolo_lite.predict.detector import Detector
from yolo_lite.predict.files import sample_image

BLOCKED = """
import sys
sys.modules["yolo_lite"] = None  # an import of it fails
"""


@pytest.fixture(scope="module")
def pico_program(exported: Callable[..., Path]) -> Path:
    return exported("yolo_lite-pico-voc5", "torch-export", image_size=96)


def documented_lines() -> str:
    """Return the Python of docs/export.md that runs a .pt2 file."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (block,) = [part.split("```")[0] for part in text.split("```python\n")[1:] if "torch.export.load" in part]
    return block


@pytest.mark.slow
def test_the_lines_of_the_docs_run_without_this_package(pico_program: Path, tmp_path: Path) -> None:
    detector = Detector("yolo_lite-pico-voc5", "cpu", image_size=96, score_threshold=0.05)
    inputs = detector.raw(sample_image())[0][None]
    np.save(tmp_path / "images.npy", inputs)
    lines = documented_lines().replace("yolo_lite-shuffle-1.5x-coco.pt2", str(pico_program))
    code = f"{BLOCKED}\nimport numpy as np\nimages = np.load('images.npy')\n{lines}\n" + (
        "print(json.dumps([info['class_names'], results['counts'].tolist(), results['scores'][0].tolist()]))\n"
        "assert not [name for name in sys.modules if name.startswith('yolo_lite.')]\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    names, (count,), scores = json.loads(result.stdout)
    expected = detector(sample_image())
    assert names == list(detector.class_names)
    assert count == len(expected) > 1
    np.testing.assert_allclose(scores[:count], expected.scores, atol=1e-6)
    assert not any(scores[count:])


def test_weights_are_stored_as_plain_bytes(pico_program: Path) -> None:
    """A pickle would run code at loading; the sample input, which torch stores as one, is the only entry of its kind."""
    with zipfile.ZipFile(pico_program) as archive:
        entries = [
            name for name in archive.namelist() if name.endswith(("weights_config.json", "constants_config.json"))
        ]
        assert len(entries) == 2
        for name in entries:
            config = json.loads(archive.read(name))["config"].values()
            assert config or "constants" in name
            assert not any(entry["use_pickle"] for entry in config)
        assert [name for name in archive.namelist() if name.endswith(".pt")] == [
            f"{archive.namelist()[0].split('/')[0]}/data/sample_inputs/model.pt"
        ]


def test_a_file_uses_no_operators_but_those_of_torch(pico_program: Path) -> None:
    program = torch.export.load(pico_program)
    targets = {
        node.target
        for module in program.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if node.op == "call_function"
    }
    assert len(targets) > 10
    spaces = {getattr(target, "namespace", "python") for target in targets}
    assert spaces == {"aten", "higher_order", "python"}


@pytest.mark.slow
def test_batches_give_what_their_images_give_alone(pico_program: Path) -> None:
    program = Program(pico_program)
    pixels = Detector("yolo_lite-pico-voc5", "cpu", image_size=96).raw(sample_image())[0]
    images = np.stack([pixels, pixels[::-1], pixels[:, ::-1], np.zeros_like(pixels), pixels])
    together = program.run(images)
    assert together[3][0] > 0
    for i in range(len(images)):
        for whole, alone in zip(together, program.run(images[i : i + 1])):
            np.testing.assert_allclose(whole[i], alone[0], atol=1e-3)
    assert len(program.run(np.repeat(images[:1], 64, 0))[3].nonzero()[0]) == 64


@pytest.mark.slow
def test_raw_files_and_a_fixed_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--weights", "yolo_lite-pico-voc5", "--image-size", "64", "--format", "torch-export"]
    assert main(["export", *words, "--raw", "--batch", "1", "--out", str(tmp_path / "raw.pt2")]) == 0
    assert "parity: 4 of 4 images agree with the checkpoint (336 points)" in capsys.readouterr().out
    program = Program(tmp_path / "raw.pt2")
    assert program.inputs == [("images", [1, 64, 64, 3])]
    boxes, scores = program.run(np.zeros((1, 64, 64, 3), np.uint8))
    assert (boxes.shape, scores.shape) == ((1, 84, 4), (1, 84, 5))
    assert main(["detect", "--weights", str(tmp_path / "raw.pt2")]) == 2
    assert "is an exported file, expected a checkpoint" in capsys.readouterr().err


def test_a_classifier_returns_softmax_scores(weights: Callable[[str], Path], tmp_path: Path) -> None:
    lines: list[str] = []
    path = export(weights("mnist_small"), tmp_path / "a.pt2", format="torch-export", say=lines.append)
    assert lines[0] == "parity: 4 of 4 images agree with the checkpoint (softmax scores)"
    results = torch.export.load(path).module()(torch.zeros(3, 28, 28, 1, dtype=torch.uint8))
    assert results["scores"].sum(1).tolist() == pytest.approx([1, 1, 1])


def test_a_file_needs_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the file must end in .pt2, got .*a\.onnx"):
        export("yolo_lite-pico-voc5", tmp_path / "a.onnx", format="torch-export")
