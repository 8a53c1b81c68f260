"""The runtime wheel: what is in it, and that it works where the full package's libraries are missing."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tools import build_runtime
from yolo_lite.predict.files import sample_image
from yolo_lite.shipped import DEFAULT_WEIGHTS

BLOCKED = (
    *("torch", "torchvision", "cv2", "matplotlib", "pycocotools", "albumentations", "scipy", "yaml", "tqdm"),
    *("onnx", "onnxscript", "openvino", "optuna", "captum"),
)
BLOCK = f"import sys\nfor name in {BLOCKED}: sys.modules[name] = None\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, pico: Path) -> Path:
    """Return a runtime wheel with a network that is quick to export in the place of the default one."""
    return build_runtime.write_wheel(build_runtime.contents(pico), tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def _run(unpacked: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code with the unpacked wheel before everything else, and heavy libraries missing."""
    path = f"sys.path.insert(0, {str(unpacked)!r})\nimport yolo_lite; assert yolo_lite.__file__.startswith({str(unpacked)!r})\n"
    command = [sys.executable, "-c", BLOCK + path + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def _main(unpacked: Path, words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return _run(unpacked, f"from yolo_lite.cli import main; sys.exit(main({words!r}))", cwd)


def test_every_module_can_be_imported_without_heavy_libraries(unpacked: Path, tmp_path: Path) -> None:
    files = [file.relative_to(unpacked) for file in sorted((unpacked / "yolo_lite").rglob("*.py"))]
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert {"yolo_lite.runtime.detector", "yolo_lite.cli.commands.detect", "yolo_lite.predict.files"} <= set(names)
    assert len(names) < 115
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    result = _run(unpacked, code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_detect_without_arguments_uses_the_network_and_the_image_inside(unpacked: Path, tmp_path: Path) -> None:
    result = _main(unpacked, ["detect", "--score-threshold", "0.05", "--save-json", "rows.json"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "grace_hopper.jpg: person" in result.stdout
    assert Image.open(tmp_path / "runs" / "detect-1" / "grace_hopper.jpg").size == (512, 600)
    assert {"image_id", "category_id", "bbox", "score", "file_name"} == json.loads(
        (tmp_path / "rows.json").read_text()
    )[0].keys()


def test_python_uses_the_network_inside(unpacked: Path, tmp_path: Path) -> None:
    code = "from yolo_lite.runtime import Detector; print(*Detector(score_threshold=0.05)(sys.argv[1]).names)"
    result = _run(unpacked, code.replace("sys.argv[1]", repr(str(sample_image()))), tmp_path)
    assert "person" in result.stdout.split(), result.stderr


SERVE = """
import http.client, json, threading
from yolo_lite.predict.files import sample_image
from yolo_lite.serve.application import Application
from yolo_lite.serve.models import Choices, open_models
from yolo_lite.serve.server import bind, serve
application = Application(open_models([], Choices(score_threshold=0.05)), samples=[sample_image()])
bound = bind("127.0.0.1", 0)
started = threading.Event()
thread = threading.Thread(target=serve, args=(application, bound), kwargs={"on_start": started.set}, daemon=True)
thread.start()
assert started.wait(30)
def ask(method, path, body=None):
    connection = http.client.HTTPConnection(*bound.getsockname())
    connection.request(method, path, body=body)
    answer = connection.getresponse()
    return answer.status, answer.read()
photo = ask("GET", "/samples/grace_hopper.jpg")[1]
print(*[row["class_name"] for row in json.loads(ask("POST", "/v1/detect", photo)[1])["detections"]])
status, content = ask("POST", "/v1/why?box=1,2,300,400", photo)
print(status, json.loads(content)["error"])
print(ask("GET", "/")[0], "torch" in {name for name, module in sys.modules.items() if module})
application.engine.stop()
thread.join(30)
"""


def test_serve_answers_without_torch(unpacked: Path, tmp_path: Path) -> None:
    result = _run(unpacked, SERVE, tmp_path)
    lines = result.stdout.splitlines()
    assert len(lines) == 3, result.stderr
    assert "person" in lines[0].split()
    assert lines[1].startswith("422 Explanations need a checkpoint; ")
    assert lines[2] == "200 False"


NEEDS = "needs the full package: uninstall yolo-lite-runtime, then install yolo-lite (docs/install.md)"
REFUSED = [
    pytest.param(["train", "--data", "x"], f"error: train {NEEDS}", id="a command that is not there"),
    pytest.param(["classify", "train", "--data", "x"], f"error: classify train {NEEDS}", id="a part of a command"),
    pytest.param(
        ["detect", "--weights", "best.pt"],
        f"error: best.pt is not an exported file (.onnx or .xml), and detect with a checkpoint {NEEDS}",
        id="a checkpoint",
    ),
    pytest.param(
        ["detect", "--source", "film.mp4"],
        "error: OpenCV is not installed, and videos need it: pip install opencv-python-headless",
        id="a video",
    ),
    pytest.param(
        ["detect", "--show"],
        "error: OpenCV is not installed, and --show needs it: pip install opencv-python-headless",
        id="a window",
    ),
    pytest.param(
        ["classify", "predict", "--weights", DEFAULT_WEIGHTS, "--source", "film.mp4"],
        "error: OpenCV is not installed, and videos need it: pip install opencv-python-headless",
        id="a video for a classifier",
    ),
    pytest.param(
        ["detect", "--weights", "yolo_lite-n-voc5"],
        f"error: yolo_lite-n-voc5 does not exist; shipped weights: {DEFAULT_WEIGHTS}; did you mean '{DEFAULT_WEIGHTS}'?",
        id="weights that the full package ships",
    ),
    pytest.param(
        ["serve", "--port", "0", "--weights", "best.pt"],
        "error: best.pt is not an exported file: expected .onnx or .xml",
        id="a checkpoint to serve",
    ),
]


@pytest.mark.parametrize(("words", "line"), REFUSED)
def test_what_needs_more_is_refused_in_one_line(unpacked: Path, tmp_path: Path, words: list[str], line: str) -> None:
    for name in ("best.pt", "film.mp4"):
        (tmp_path / name).write_bytes(b"any content")
    result = _main(unpacked, words, tmp_path)
    assert (result.returncode, result.stderr.strip()) == (2, line)


def test_the_public_names_say_where_detection_without_torch_is(unpacked: Path, tmp_path: Path) -> None:
    result = _run(unpacked, "from yolo_lite import Detections\nfrom yolo_lite import Detector", tmp_path)
    line = "ImportError: yolo_lite.Detector needs the full package yolo-lite; without torch, use yolo_lite.runtime.Detector"
    assert result.stderr.strip().splitlines()[-1] == line


def test_help_marks_what_the_full_package_has_and_version_names_this_package(unpacked: Path, tmp_path: Path) -> None:
    lines = " ".join(_main(unpacked, ["--help"], tmp_path).stdout.split())
    assert "train a detector on labelled images (full package only)" in lines
    assert "find objects in images, videos and live streams (full" not in lines
    shown = _main(unpacked, ["--version"], tmp_path).stdout
    assert shown.startswith("yolo-lite-runtime ")
    assert "torch" not in shown


def test_the_list_of_files_has_their_sums(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (place,) = (name for name in file.namelist() if name.endswith(".dist-info/RECORD"))
        rows = [row.split(",") for row in file.read(place).decode().splitlines()]
        assert {name for name, _, _ in rows} == set(file.namelist())
        for name, sha256, size in rows:
            if name != place:
                digest = hashlib.sha256(file.read(name)).digest()
                assert sha256 == "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
                assert int(size) == len(file.read(name))


def test_the_wheel_asks_for_no_torch_and_for_opencv_only_as_an_extra() -> None:
    needed = [line for line in build_runtime.metadata().splitlines() if line.startswith("Requires-Dist")]
    assert sum("opencv" in line for line in needed) == 1
    extra = {line.split()[1].partition(">")[0] for line in needed if "extra == 'serve'" in line}
    assert extra == {"starlette", "uvicorn", "h11", "python-multipart"}
    assert all(line.endswith("; extra == 'video'") for line in needed if "opencv" in line)
    required = {line.split()[1].partition(">")[0] for line in needed if "extra" not in line}
    assert required == {"numpy", "Pillow", "onnxruntime"}


def test_equal_sources_give_an_equal_wheel(wheel: Path, pico: Path, tmp_path: Path) -> None:
    again = build_runtime.write_wheel(build_runtime.contents(pico), tmp_path)
    assert again.read_bytes() == wheel.read_bytes()


def test_no_module_of_the_wheel_needs_torch_at_its_top() -> None:
    assert not build_runtime.is_light("yolo_lite.predict.detector")  # imports torch
    assert not build_runtime.is_light("yolo_lite.config.read")  # imports yaml
    assert build_runtime.is_light("yolo_lite.draw.figures")  # imports matplotlib in its functions only
