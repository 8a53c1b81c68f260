"""Which device computes, in which precision, and what to say when its memory is full."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import time
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from yolo_lite.errors import InputError, counted, is_memory_full

Model = TypeVar("Model", bound=nn.Module)
DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of that name, or one of torch's; auto is the first of cuda, mps and cpu that is there.

    Raises:
        InputError: where the device is not there, saying why as far as torch tells.
    """
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    is_known = kind in DEVICES and (not number or number == "0" or (kind == "cuda" and number.isdecimal()))
    if not is_known or name == "auto:0":
        raise InputError(f"the device must be one of {', '.join(DEVICES)} (or cuda:1 ...), got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda or "none: this is a CPU-only torch"
        raise InputError(
            f"--device {name}: no CUDA device is available (torch is built for CUDA {built}); use --device cpu"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"--device {name}: no Apple GPU is available to torch; use --device cpu")
    device = torch.device(name)
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name}: this machine has {counted(torch.cuda.device_count(), 'CUDA device')}, counted from 0"
        )
    if kind == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # or what names no device, such as pinning memory, would use the first
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """Return "fp32" or "bf16"; auto is bf16 on a device that computes in it (a GPU or a CPU with avx512_bf16).

    Raises:
        InputError: for another name.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise InputError(f"train.precision must be auto, fp32 or bf16, got {name!r}")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def be_deterministic() -> None:
    """Refuse, from now on in this process, operations whose result may differ from run to run on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def place(model: Model, device: torch.device) -> Model:
    """Move a model to a device, channels last in memory, in which convolutions are faster almost everywhere."""
    survive_forks()
    with explain_out_of_memory("close what else uses it, or use --device cpu"):
        return model.to(device).to(memory_format=torch.channels_last)


@functools.cache
def survive_forks() -> None:
    """Let every process that is forked from this one, from now on, compute on one thread.

    A forked process has none of the threads that compute here, and OpenMP would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, from now on, for its own next use; where the C library is glibc.

    By itself glibc hands large blocks back to the system, which clears each of their pages when they are asked for anew: in
    training on a CPU some 200 MB in every step. The most that is held at any time stays about the same.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another library; Windows
        return
    mallopt(_M_MMAP_MAX, 0)  # no block gets a mapping of its own
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # nor is the end of the heap cut off


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device's memory is full, or main memory."""
    return _is_device_full(error) or is_memory_full(error)


def _is_device_full(error: BaseException) -> bool:
    """cuDNN and cuBLAS have words of their own for it."""
    full = isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
    return full or isinstance(error, torch.OutOfMemoryError)


_FULL = ("unable to find an engine to execute", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


@contextlib.contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Turn an error of full memory into an InputError that says what to do."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = "the device ran out of memory" if _is_device_full(error) else "main memory is full"
        raise InputError(f"{what}; {remedy}") from error


@contextlib.contextmanager
def explain_compiler() -> Iterator[None]:
    """Turn an error of torch.compile, such as a missing C++ compiler, into an InputError that says what to do."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        said = str(getattr(error, "inner_exception", error))
        line = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"torch.compile failed ({line}); leave train.compile out") from error


def now(device: torch.device) -> float:
    """Return a time in seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def describe_hardware(device: torch.device) -> str:
    """Name the processor or GPU, for checkpoints and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {counted(torch.get_num_threads(), 'thread')}"


def _cpu_has_bf16() -> bool:
    return "avx512_bf16" in _cpu_info().get("flags", "").split()


def _cpu_name() -> str:
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def _cpu_info() -> dict[str, str]:
    """Return the first processor's entries of Linux' /proc/cpuinfo; elsewhere nothing."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            text = file.read().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
