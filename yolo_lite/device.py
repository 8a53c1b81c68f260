"""Choose the device and the precision of the computation, and explain errors of full memory."""

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

from yolo_lite.cores import core_limit
from yolo_lite.errors import InputError, counted, is_memory_full
from yolo_lite.ranks import local_count, local_rank

Model = TypeVar("Model", bound=nn.Module)
DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str | torch.device) -> torch.device:
    """Return the torch device of a given name; auto is the first available of cuda, mps and cpu.

    Of several processes that torchrun started on this machine, each gets the GPU of its number; none gets mps.

    Raises:
        InputError: if the device is unknown or not available; the message gives the reason, as far as torch reports it.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    name = str(name)
    if name == "auto":
        has_mps = torch.backends.mps.is_available() and local_count() == 1
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if local_count() > 1 and name != "cpu":
        name = _of_this_rank(name)
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
        torch.cuda.set_device(device)  # or calls that name no device, such as pinning memory, would use the first one
    return device


def _of_this_rank(name: str) -> str:
    """Return the device of this process among those of this machine."""
    if name != "cuda":
        raise InputError(
            f"--device {name} cannot be divided among the {local_count()} processes that torchrun started; use cuda or cpu"
        )
    return f"cuda:{local_rank()}"


def pick_precision(name: str, device: torch.device) -> str:
    """Return "fp32" or "bf16"; auto is bf16 if the device supports it natively (for a CPU: if it has avx512_bf16).

    Raises:
        InputError: if the name is not auto, fp32 or bf16.

    Example:
        >>> pick_precision("fp32", torch.device("cpu"))
        'fp32'
    """
    if name not in ("auto", "fp32", "bf16"):
        raise InputError(f"train.precision must be auto, fp32 or bf16, got {name!r}")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def be_deterministic() -> None:
    """Make this process refuse operations whose results may differ from run to run on the same machine.

    Example:
        >>> be_deterministic()
        >>> torch.are_deterministic_algorithms_enabled()
        True
        >>> torch.use_deterministic_algorithms(False)  # allow them again
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def place(model: Model, device: torch.device) -> Model:
    """Move a model to a device, with channels last in memory, which makes convolutions faster almost everywhere.

    Raises:
        InputError: if the memory of the device is full.

    Example:
        >>> model = place(nn.Conv2d(3, 8, 3), torch.device("cpu"))
        >>> model.weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    survive_forks()
    limit_threads()
    with explain_out_of_memory("close what else uses it, or use --device cpu"):
        return model.to(device).to(memory_format=torch.channels_last)


@functools.cache
def limit_threads() -> None:
    """Make torch use no more threads than the container has cores, unless OMP_NUM_THREADS says how many.

    Example:
        >>> limit_threads()  # a second call does nothing
    """
    cores = core_limit()
    if 0 < cores < torch.get_num_threads() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores)


@functools.cache
def survive_forks() -> None:
    """Make every process that is forked from this one compute on a single thread.

    A forked process has none of this process's worker threads, and OpenMP would wait for them for ever.

    Example:
        >>> survive_forks()  # a second call does nothing
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees for later use, if its C library is glibc.

    Otherwise glibc returns large blocks to the system, which clears all their pages when they are requested again. In
    training on a CPU, that is some 200 MB in every step. The peak memory stays about the same.

    Example:
        >>> keep_freed_memory()  # with another C library, this does nothing
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another library; Windows
        return
    mallopt(_M_MMAP_MAX, 0)  # no block gets a mapping of its own
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # the end of the heap is never returned


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the device, or main memory, is full.

    Example:
        >>> is_out_of_memory(torch.OutOfMemoryError("full")), is_out_of_memory(ValueError("bad value"))
        (True, False)
    """
    return _is_device_full(error) or is_memory_full(error)


def _is_device_full(error: BaseException) -> bool:
    """Return whether an error means that the device's memory is full; cuDNN and cuBLAS have their own messages for it."""
    full = isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
    return full or isinstance(error, torch.OutOfMemoryError)


_FULL = ("unable to find an engine to execute", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


@contextlib.contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Turn an error about full memory into an InputError that ends with a remedy.

    Example:
        >>> with explain_out_of_memory("use a smaller --batch-size"):
        ...     raise torch.OutOfMemoryError("full")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: the device ran out of memory; use a smaller --batch-size
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        what = "the device ran out of memory" if _is_device_full(error) else "main memory is full"
        raise InputError(f"{what}; {remedy}") from error


@contextlib.contextmanager
def explain_compiler() -> Iterator[None]:
    """Turn an error of torch.compile, such as a missing C++ compiler, into an InputError with a remedy.

    Example:
        >>> with explain_compiler():
        ...     result = torch.compile(torch.neg, backend="eager")(torch.tensor(2.0))
        >>> result
        tensor(-2.)
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        text = str(getattr(error, "inner_exception", error))
        line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"torch.compile failed ({line}); leave train.compile out") from error


def now(device: torch.device) -> float:
    """Return a time in seconds, after the device has finished all its work; only differences are meaningful.

    Example:
        >>> started = now(torch.device("cpu"))
        >>> now(torch.device("cpu")) >= started
        True
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def describe_hardware(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU with its number of threads, for checkpoints and reports.

    Example:
        >>> "thread" in describe_hardware(torch.device("cpu"))
        True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {counted(torch.get_num_threads(), 'thread')}"


def _cpu_has_bf16() -> bool:
    return "avx512_bf16" in _cpu_info().get("flags", "").split()


def _cpu_name() -> str:
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def _cpu_info() -> dict[str, str]:
    """Return the entries of the first CPU in Linux's /proc/cpuinfo; on other systems, an empty dictionary."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            text = file.read().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
