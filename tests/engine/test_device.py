"""Choice of device and precision, and what is said when memory is full."""

from __future__ import annotations

import pytest
import torch

from yolo_lite.engine.device import explain_out_of_memory, pick_device, pick_precision
from yolo_lite.errors import InputError


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


def test_out_of_memory_becomes_one_line() -> None:
    with pytest.raises(InputError, match="the device ran out of memory; buy more"), explain_out_of_memory("buy more"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="a bug"), explain_out_of_memory("nothing"):
        raise RuntimeError("a bug")
