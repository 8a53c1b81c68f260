"""Choice of device and precision, and what is said when memory is full."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from yolo_lite import device
from yolo_lite.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yolo_lite.config.resolve import read_config
from yolo_lite.device import explain_out_of_memory, pick_device, pick_precision
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.shipped import find_config
from yolo_lite.training.recipe import train


def test_auto_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"--device {name}: no .* use --device cpu"):
        pick_device(name)


def test_precision_is_as_named_or_by_the_machine() -> None:
    cpu = torch.device("cpu")
    assert pick_precision("fp32", cpu) == "fp32"
    assert pick_precision("bf16", cpu) == "bf16"
    assert pick_precision("auto", cpu) in ("fp32", "bf16")
    assert pick_precision("auto", torch.device("mps")) == "fp32"


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", FULL, ids=["torch", "cuDNN", "cuBLAS"])
def test_out_of_memory_becomes_one_line(error: RuntimeError) -> None:
    with pytest.raises(InputError, match="the device ran out of memory; buy more"), explain_out_of_memory("buy more"):
        raise error


@pytest.mark.parametrize(("name", "chosen"), [("cuda", []), ("cuda:1", [torch.device("cuda:1")])])
def test_a_gpu_named_by_its_number_is_the_one_that_all_else_uses(
    monkeypatch: pytest.MonkeyPatch, name: str, chosen: list[torch.device]
) -> None:
    made: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    assert pick_device(name) == torch.device(name)
    assert made == chosen


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="a bug"), explain_out_of_memory("nothing"):
        raise RuntimeError("a bug")


ROUNDS = """
import resource, sys, torch
from yolo_lite.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(8):
    blocks = [torch.ones(2**20 * (1 + i % 3)) for i in range(12)]  # of 4, 8 and 12 MB
    del blocks
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_was_freed_costs_few_page_faults_when_it_is_used_again() -> None:
    faults = {}
    for choice in ("keep", "give back"):
        result = subprocess.run([sys.executable, "-c", ROUNDS, choice], capture_output=True, text=True, check=True)
        rounds = [int(line) for line in result.stdout.split()]
        faults[choice] = rounds[-1] - rounds[0]
    assert faults["keep"] < faults["give back"] / 2


def test_where_the_c_library_has_no_such_setting_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    device.keep_freed_memory()


def test_training_keeps_freed_memory_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr("yolo_lite.training.recipe.keep_freed_memory", lambda: called.append(True))
    with pytest.raises(InputError, match="nowhere"):
        train("nowhere", config="nano")
    assert called == [True]


FORKS = """
import os, signal, sys, time
import numpy as np
import torch

torch.set_num_threads(2)
from yolo_lite import Classifier, Detector

models = [Detector(device="cpu"), Classifier(sys.argv[1], device="cpu")]
image = np.random.default_rng(0).integers(0, 256, (600, 800, 3)).astype(np.uint8)


def look():
    for model in models:
        model(image)


def fork(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    for _ in range(600):
        if os.waitpid(child, os.WNOHANG)[0]:
            return "answers"
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    return "hangs"


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        look()
        return index


print(fork(look), flush=True)
look()
print(fork(look), flush=True)
print(fork(lambda: list(torch.utils.data.DataLoader(Images(), num_workers=1))), flush=True)
print(torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="a system that forks")
def test_a_forked_process_goes_on(tmp_path: Path) -> None:
    """Before the first image, after it, and in a loading process of a forked one; here all threads stay."""
    config = read_config(find_config("mnist_small"))
    network = build_classifier(config, 2, seed=1)
    save_checkpoint(
        tmp_path / "a.pt", Checkpoint(config, ("a", "b"), category_ids=(0, 1), weights=network.state_dict())
    )
    command = [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "a.pt")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert result.stdout.split() == ["answers"] * 3 + ["2"], result.stderr
