"""Which implementation runs where, what forces one, what happens where it cannot run, and what a wheel carries."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import copytree, ignore_patterns, which
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from yolo_lite.errors import InputError
from yolo_lite.losses.assign import Candidates, Targets, task_aligned
from yolo_lite.ops import backend, backends, cuda, native, nms_padded, warmup

TOP = Path(__file__).parents[2]
CPU = "torch" if native.MISSING else "native"
WORKS = (
    "from yolo_lite.ops import nms_padded; import torch; "
    "print(nms_padded(torch.ones(1, 2, 4), torch.ones(1, 2), labels=None, iou_threshold=1))"
)


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOLO_LITE_OPS", raising=False)
    monkeypatch.setattr(backends, "_warned", set())
    monkeypatch.setattr(cuda, "_devices", {})


def python(code: str, **options: Any) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("choose", [backend, warmup], ids=["backend", "warmup"])
@pytest.mark.parametrize(
    ("device", "name"),
    [("cpu", CPU), ("cpu:0", CPU), ("cuda", "torch"), ("cuda:1", "torch"), ("meta", "torch"), ("mps", "torch")],
)
def test_the_device_chooses(choose: Any, device: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "CUDA_BY_DEFAULT", False)
    assert choose(device) == choose(torch.device(device)) == name


@pytest.mark.parametrize("choose", [backend, warmup], ids=["backend", "warmup"])
def test_a_word_that_names_nothing_is_an_error(choose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_LITE_OPS", "numpy")
    for device in ("cpu", "cuda", "meta"):
        with pytest.raises(InputError, match="^YOLO_LITE_OPS must be one of cuda, native, torch, got 'numpy'$"):
            choose(device)
    with pytest.raises(InputError, match="YOLO_LITE_OPS"):
        nms_padded(torch.ones(1, 2, 4), torch.ones(1, 2), labels=None, iou_threshold=0.5)


def test_an_empty_word_forces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_LITE_OPS", "")
    assert backend("cpu") == CPU


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "meta"])
def test_torch_can_be_forced_everywhere(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_LITE_OPS", "torch")
    assert backend(device) == "torch"


def test_native_can_be_forced_on_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_LITE_OPS", "native")
    monkeypatch.setattr(native, "MISSING", "")
    assert backend("cpu") == "native"
    for device in ("cuda:0", "meta"):
        with pytest.raises(InputError, match=f"^YOLO_LITE_OPS=native cannot be used: the tensors are on {device}$"):
            backend(device)


def test_native_that_is_missing_cannot_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MISSING", "it was not built")
    monkeypatch.setenv("YOLO_LITE_OPS", "native")
    with pytest.raises(InputError, match="^YOLO_LITE_OPS=native cannot be used: it was not built$"):
        backend("cpu")
    with pytest.raises(InputError, match="it was not built"):
        nms_padded(torch.ones(1, 2, 4), torch.ones(1, 2), labels=None, iou_threshold=0.5)


def test_without_the_extension_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MISSING", "it was not built")
    monkeypatch.delattr(native, "_native", raising=False)
    assert backend("cpu") == warmup("cpu") == "torch"
    indices, counts = nms_padded(
        torch.tensor([[[0.0, 0, 1, 1]] * 2]), torch.ones(1, 2), labels=None, iou_threshold=0.5, max_detections=2
    )
    assert (indices.tolist(), counts.tolist()) == ([[0, -1]], [1])
    points, box = torch.full((1, 2), 4.0), torch.tensor([[[0.0, 0, 8, 8]]])
    targets = Targets(box, torch.zeros(1, 1, dtype=torch.int64))
    assert task_aligned(
        Candidates(torch.ones(1, 1, 1), box, points=points, strides=torch.full((1,), 8.0)), targets
    ).box_index.tolist() == [[0]]


@pytest.mark.slow
def test_an_extension_that_cannot_be_imported_is_missing() -> None:
    found = python(
        "import sys; sys.modules['yolo_lite._native'] = None\n"
        "from yolo_lite.ops import backend, native; print(backend('cpu'), native.MISSING)\n" + WORKS,
        env={**os.environ, "YOLO_LITE_OPS": ""},
    )
    assert found.startswith("torch the C extension was not built when yolo_lite was installed (")
    assert "tensor([[" in found


def test_the_extension_can_be_imported_without_torch_and_the_ops() -> None:
    if native.MISSING:
        pytest.skip(native.MISSING)
    found = python(
        "import sys, yolo_lite._native as native\n"
        "print(native.__name__, [name for name in sys.modules if name == 'torch' or name.startswith('yolo_lite.ops')])"
    )
    assert found == "yolo_lite._native []"


# CUDA, without a GPU


def test_cuda_can_be_forced_on_cuda_tensors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_LITE_OPS", "cuda")
    monkeypatch.setattr(cuda, "why_not", lambda device: "")
    assert backend("cuda:0") == backend("cuda") == "cuda"
    for device in ("cpu", "meta"):
        with pytest.raises(InputError, match=f"^YOLO_LITE_OPS=cuda cannot be used: the tensors are on {device}$"):
            backend(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_that_cannot_run_says_why(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    monkeypatch.setenv("YOLO_LITE_OPS", "cuda")
    for choose in (backend, warmup):
        with pytest.raises(InputError, match=r"^YOLO_LITE_OPS=cuda cannot be used: .*\w{3}"):
            choose(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_by_default_falls_back_where_there_is_none(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    monkeypatch.setattr(backends, "CUDA_BY_DEFAULT", True)
    with pytest.warns(UserWarning, match="plain torch does instead"):
        assert backend(device) == "torch"


def test_cuda_by_default_where_the_kernels_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(backends, "CUDA_BY_DEFAULT", True)
    monkeypatch.setattr(cuda, "why_not", lambda device: asked.append(device) or "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend("cuda:1") == warmup("cuda:1") == "cuda"
    assert asked == [torch.device("cuda:1")] * 2
    assert backend("cpu") == CPU
    assert backend("meta") == "torch"
    assert len(asked) == 2


def test_cuda_that_fails_by_default_warns_once_for_each_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {0: "RuntimeError: too old", 1: "ImportError: no cuda.bindings"}
    monkeypatch.setattr(backends, "CUDA_BY_DEFAULT", True)
    monkeypatch.setattr(cuda, "why_not", lambda device: reasons[device.index])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert backend("cuda:0") == warmup("cuda:1") == "torch"
    assert [str(warning.message) for warning in caught] == [
        f"yolo_lite's CUDA kernels cannot run, plain torch does instead: {reason}" for reason in reasons.values()
    ]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand in for a GPU whose kernels load, but for device 3; count what is loaded."""
    loaded: list[int] = []

    def load(index: int) -> cuda.Kernels:
        loaded.append(index)
        if index == 3:
            raise RuntimeError("too old")
        return cuda.Kernels(None, None, {})

    monkeypatch.setattr(cuda, "_load", load)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setenv("YOLO_LITE_OPS", "cuda")
    return loaded


def test_kernels_are_loaded_once_for_each_device(loads: list[int]) -> None:
    for device in ("cuda:0", "cuda:1", "cuda", "cuda:2", "cuda:0", "cuda:1"):
        assert warmup(device) == backend(device) == "cuda"
    assert loads == [0, 1, 2]


def test_kernels_that_failed_to_load_are_not_tried_again(loads: list[int]) -> None:
    for _ in range(3):
        with pytest.raises(InputError, match="^YOLO_LITE_OPS=cuda cannot be used: RuntimeError: too old$"):
            backend("cuda:3")
    assert loads == [3]


def test_two_threads_load_the_kernels_once(loads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    both, load = threading.Barrier(2), cuda._load
    inside = threading.Event()

    def slow(index: int) -> cuda.Kernels:
        inside.wait(0.2)  # time for the other thread to come to the lock
        return load(index)

    monkeypatch.setattr(cuda, "_load", slow)

    def ask() -> None:
        both.wait()
        backend("cuda:0")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [0]


def test_nothing_is_loaded_while_a_graph_is_captured(loads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert warmup("cuda:0") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert backend("cuda:0") == "cuda"
    for forced in (True, False):
        if not forced:
            monkeypatch.delenv("YOLO_LITE_OPS")
            monkeypatch.setattr(backends, "CUDA_BY_DEFAULT", True)
        with pytest.raises(RuntimeError, match=r"graph is being captured: call yolo_lite\.ops\.warmup\(device\) first"):
            backend("cuda:1")
    assert loads == [0]


def test_importing_the_ops_touches_nothing_of_cuda() -> None:
    """Newer torch imports cuda.bindings by itself."""
    code = """
import sys, torch
def of_cuda(): return {m for m in sys.modules if m.split(".")[0] in ("cuda", "pynvml", "cupy", "triton", "numba")}
before = of_cuda()
import yolo_lite.ops, yolo_lite.losses.assign
yolo_lite.ops.backend("cpu"), yolo_lite.ops.backend("cuda")
print(of_cuda() - before, torch.cuda.is_initialized())
"""
    assert python(code, env={**os.environ, "YOLO_LITE_OPS": ""}) == "set() False"


# Wheels


def installed_version(name: str) -> list[int]:
    try:
        return [int(part) for part in version(name).split(".")[:2]]
    except PackageNotFoundError:
        return []


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a wheel is built from, without the weights."""
    have = {name: installed_version(name) for name in ("pip", "setuptools")}
    if not have["pip"] or have["setuptools"] < [70, 1]:  # the first that makes wheels by itself
        pytest.skip("building a wheel without the network needs pip and setuptools >= 70.1")
    folder = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        (folder / name).write_bytes((TOP / name).read_bytes())
    for name in ("yolo_lite", "configs", "weights"):
        copytree(TOP / name, folder / name, ignore=ignore_patterns("*.so", "*.pyd", "__pycache__", "*.pt"))
    return folder


def wheel(sources: Path, folder: Path, **environment: str) -> tuple[Path, list[str]]:
    """Build a wheel; return it unpacked, and what is in it."""
    copytree(sources, folder / "sources")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-build-isolation", "--no-deps"]
    result = subprocess.run(
        [*command, "-w", str(folder), str(folder / "sources")],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("*.whl")
    with ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
        return built, archive.namelist()


def ask_unpacked(folder: Path, code: str) -> str:
    """Run code against an unpacked wheel, from an empty folder."""
    (folder / "empty").mkdir()
    check = (  # an editable installation would lend its own extension to a wheel without one
        "import sys; sys.meta_path[:] = [item for item in sys.meta_path if not item.__module__.startswith('__editable__')]\n"
        f"import yolo_lite; assert yolo_lite.__file__.startswith({str(folder)!r}), yolo_lite.__file__\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder / "unpacked"), "YOLO_LITE_OPS": ""}
    return python(check + code, cwd=folder / "empty", env=environment)


ASK = "from yolo_lite.ops import backend, native; print(backend('cpu'), [native.MISSING])\n" + WORKS
KERNELS = {path.name for path in (TOP / "yolo_lite" / "ops" / "kernels").iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_wheel_can_be_built_without_a_compiler(sources: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "no-compiler")
    _, names = wheel(sources, tmp_path, CC=nowhere, CXX=nowhere, LDSHARED=nowhere)
    assert [name for name in names if name.endswith((".so", ".pyd"))] == []
    found = ask_unpacked(tmp_path, ASK)
    assert found.startswith("torch [")
    assert "the C extension was not built when yolo_lite was installed (" in found
    assert "tensor([[" in found


@pytest.mark.slow
def test_a_wheel_carries_the_extension_and_every_kernel(sources: Path, tmp_path: Path) -> None:
    if which("gcc") is None and which("cc") is None:
        pytest.skip("no compiler")
    built, names = wheel(sources, tmp_path)
    assert {f"yolo_lite/ops/kernels/{name}" for name in KERNELS} <= set(names)
    extensions = [name for name in names if name.endswith((".so", ".pyd"))]
    assert len(extensions) == 1
    assert extensions[0].startswith("yolo_lite/_native.")
    assert "yolo_lite/_native.pyi" in names
    if sys.version_info >= (3, 11):
        assert "-cp311-abi3-" in built.name
        assert sys.platform == "win32" or extensions[0] == "yolo_lite/_native.abi3.so"
    found = ask_unpacked(tmp_path, ASK + "\nfrom yolo_lite.ops import cuda; print(cuda.FOLDER.is_dir())")
    assert found.startswith("native ['']")
    assert "tensor([[" in found
    assert found.endswith("True")
