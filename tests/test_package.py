"""What importing costs, what is public, and that neither needs the network or a working torchvision."""

from __future__ import annotations

import configparser
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import yolo_lite
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.shipped import find_config, shipped


def python(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    path = "".join(f"sys.path.insert(0, {str(folder)!r})\n" for folder in folders)
    return subprocess.run([sys.executable, "-c", f"import sys\n{path}{code}"], capture_output=True, text=True)


def test_public_names_are_these() -> None:
    names = ["Classification", "Classifier", "Detections", "Detector", "Tracker"]
    assert sorted(yolo_lite.__all__) == [
        *names,
        "evaluate",
        "evaluate_classifier",
        "export",
        "report",
        "train",
        "train_classifier",
    ]
    assert all(getattr(yolo_lite, name).__name__ == name for name in yolo_lite.__all__)
    with pytest.raises(
        AttributeError,
        match="offers Classification, Classifier, Detections, Detector, Tracker, evaluate, evaluate_classifier, export",
    ):
        yolo_lite.Detektor  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    result = python("import yolo_lite; print([m for m in ('torch', 'numpy', 'cv2', 'PIL') if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_importing_the_detector_imports_no_library_but_torch() -> None:
    heavy = ("torchvision", "albumentations", "matplotlib", "pycocotools", "cv2", "scipy")
    result = python(f"from yolo_lite import Detector; print([m for m in {heavy} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


NOT_FOR_DETECTION = ("training", "evaluation", "inspect", "bench", "losses", "metrics", "data", "draw", "cli")
NOT_FOR_DETECTION += ("models.darknet", "models.classifiers", "models.heads.grid", "checkpoints.convert")


def test_detecting_loads_no_module_of_training_inspection_or_other_networks() -> None:
    result = python(
        "import numpy, yolo_lite\n"
        "detector = yolo_lite.Detector(device='cpu')\n"
        "detector(numpy.zeros((64, 64, 3), numpy.uint8))\n"
        "print(*(name.removeprefix('yolo_lite.') for name in sys.modules if name.startswith('yolo_lite.')))"
    )
    loaded = result.stdout.split()
    assert {"predict.detector", "models.heads.anchor_free"} <= set(loaded), result.stderr
    unwanted = [name for name in loaded if any(f"{name}.".startswith(f"{room}.") for room in NOT_FOR_DETECTION)]
    assert unwanted == []


def test_what_draws_and_what_reads_images_loads_no_torch() -> None:
    rooms = [Path(yolo_lite.__file__).parent / room for room in ("config", "structures", "media", "draw")]
    modules = [f"yolo_lite.{path.parent.name}.{path.stem}" for room in rooms for path in room.glob("*.py")]
    assert len(modules) > 15
    code = "import importlib\nfor name in {}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    result = python(code.format([name.removesuffix(".__init__") for name in modules]))
    assert result.stdout.strip() == "False", result.stderr


@pytest.mark.slow
def test_a_broken_torchvision_does_not_stop_detection(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = "from yolo_lite.cli import main; sys.exit(main(['detect', '--device', 'cpu', '--out', 'out']))"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "annotated:" in result.stdout


def test_training_opens_no_socket(tmp_path: Path) -> None:
    """albumentations asks for its newest version when it is imported, unless it is told not to."""
    code = """
import socket
def refuse(*arguments, **options):
    raise SystemExit("reached for the network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import yolo_lite.data.pipeline.augment, yolo_lite.training.recipe
print("quiet")
"""
    result = python(code)
    assert result.stdout.strip() == "quiet", result.stderr
    assert "Warning" not in result.stderr


def test_shipped_weights_say_what_they_are() -> None:
    for name, path in shipped("weights", ".pt").items():
        checkpoint = load_checkpoint(path)
        assert path.stat().st_size < 8_000_000
        assert checkpoint.config.name in name
        if "source" in checkpoint.about:  # converted
            assert {"licence", "changed", "param_sha256", "bin_sha256"} <= checkpoint.about.keys()
            continue
        assert {"data", "train", "fingerprint", "metrics", "hardware", "versions"} <= checkpoint.about.keys()
        # no path of the machine it was made on
        assert "/" not in checkpoint.about["data"].removeprefix("$YOLO_LITE_DATA/")


def test_the_readme_of_the_weights_names_every_file_with_its_sum() -> None:
    import hashlib

    files = shipped("weights", ".pt")
    text = (next(iter(files.values())).parent / "README.md").read_text(encoding="utf-8")
    for name, path in files.items():
        assert f"{name}.pt" in text
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text


def test_shipped_configs_can_be_read() -> None:
    from yolo_lite.config.resolve import read_config
    from yolo_lite.config.schema import Config

    nano = read_config(find_config("nano"))
    assert (nano.name, nano.model) == (Config().name, Config().model)
    pico = read_config(find_config("pico"))
    assert dataclasses.replace(pico, name=nano.name, model=nano.model) == nano  # one recipe for both


def test_the_wheel_holds_every_file_beside_the_modules() -> None:
    """Sources of the extension and its built file are the wheel's own affair (tests/ops)."""
    root = Path(yolo_lite.__file__).parents[1]
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    listed = settings["options.package_data"]
    for path in sorted((root / "yolo_lite").rglob("*")):
        if path.is_dir() or path.suffix in (".py", ".pyc", ".so") or "ops" in path.parts:
            continue
        package = ".".join(path.parent.relative_to(root).parts)
        assert any(path.match(pattern) for pattern in listed.get(package, "").split(", ")), path


def test_the_wheel_holds_every_package() -> None:
    root = Path(yolo_lite.__file__).parents[1]
    section = (root / "setup.cfg").read_text(encoding="utf-8").split("\npackages =")[1].split("\npackage_dir")[0]
    listed = re.findall(r"^    (yolo_lite[.\w]*)$", section, re.MULTILINE)
    folders = [path.parent for path in (root / "yolo_lite").rglob("__init__.py")]
    assert {".".join(folder.relative_to(root).parts) for folder in folders} <= set(listed)
