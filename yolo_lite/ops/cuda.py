"""The CUDA kernels: NVRTC compiles them on first use for the device's architecture, and they run on torch's stream.

NVRTC and `cuda.bindings` come with torch's CUDA wheels on Linux, so nothing has to be built or installed. Importing this
module imports neither.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "kernels"
SOURCES = {"nms.cu": ("nms_keys", "nms_shared", "nms_global"), "box_iou.cu": ("box_iou",)}
NMS_THREADS = 256
IOU_THREADS, IOU_ROWS = 128, 16
KEPT_BYTES = {torch.float32: 28, torch.float64: 48}  # of a kept box in shared memory: five numbers, an int64 label
SHARED_BYTES = 40 * 1024  # of the 48 KiB that every device grants a block; the rest holds the current 64 boxes

WIDE = "_wide"  # suffix of the kernels that were compiled for boxes of float64

_Pointer, _Int, _Long, _Float = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong, ctypes.c_float
_Real = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
_devices: dict[int, Kernels | Exception] = {}
_lock = threading.Lock()


class Kernels(NamedTuple):
    """The kernels that one device has loaded."""

    driver: Any  # cuda.bindings.driver, or its replacement in a test
    context: Any
    functions: dict[str, Any]


class Compiled(NamedTuple):
    """A cubin and the compiler's log; with -v it lists the registers and spilled bytes of each kernel."""

    cubin: bytes
    log: str


def why_not(device: torch.device) -> str:
    """Compile and load the kernels for a CUDA device, once; return why they cannot run, or "" if they can.

    Raises:
        RuntimeError: while a CUDA graph is captured, since nothing may be loaded then.

    Example:
        >>> reason = why_not(torch.device("cuda"))  # without a GPU, torch's own message
        >>> bool(reason) or torch.cuda.is_available()
        True
    """
    try:
        index = torch.cuda.current_device() if device.index is None else device.index
        capturing = index not in _devices and torch.cuda.is_current_stream_capturing()
    except (AssertionError, RuntimeError) as error:  # no driver, or torch built without CUDA
        return _in_words(error)
    if capturing:
        raise RuntimeError("a CUDA graph is being captured: call yolo_lite.ops.warmup(device) first")
    with _lock:
        if index not in _devices:
            try:
                _devices[index] = _load(index)
            except Exception as error:  # a driver, a compiler or an import may raise anything; it becomes the reason
                _devices[index] = error
    loaded = _devices[index]
    return _in_words(loaded) if isinstance(loaded, Exception) else ""


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def nms_padded_cuda(
    boxes: Tensor,
    scores: Tensor,
    *,
    labels: Tensor | None,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> tuple[Tensor, Tensor]:
    """Suppress over a batch on a GPU, without waiting for it: a kernel for the sort keys, a sort, a kernel for the rest.

    Arguments and result are those of nms_padded_torch, with labels int64 or None.

    Example:
        >>> boxes, scores = torch.tensor([[[0.0, 0, 9, 9], [0, 0, 9, 10]]]), torch.tensor([[0.8, 0.9]])
        >>> thresholds = {"iou_threshold": 0.5, "score_threshold": 0.0}
        >>> indices, counts = nms_padded_cuda(  # doctest: +SKIP
        ...     boxes.cuda(), scores.cuda(), labels=None, max_detections=2, **thresholds
        ... )
        >>> indices.tolist(), counts.tolist()  # doctest: +SKIP
        ([[1, -1]], [1])
    """
    batch, total = scores.shape
    boxes = boxes.contiguous()
    labels = None if labels is None else labels.contiguous()
    keys, order = torch.sort(_nms_keys(scores.contiguous(), score_threshold), dim=1, descending=True, stable=True)
    indices = torch.empty(batch, max_detections, dtype=torch.int64, device=boxes.device)
    counts = torch.empty(batch, dtype=torch.int32, device=boxes.device)
    room = min(max_detections, total)
    arguments: list[tuple[Any, Any]] = [(tensor, _Pointer) for tensor in (boxes, labels, keys, order, indices, counts)]
    arguments += [(total, _Int), (max_detections, _Int), (iou_threshold, _Real[boxes.dtype]), (room, _Int)]
    kept_bytes = KEPT_BYTES[boxes.dtype]
    if kept_bytes * room <= SHARED_BYTES:
        name, shared_bytes = "nms_shared", kept_bytes * room
    else:
        name, shared_bytes = "nms_global", 0
        words = -(-kept_bytes // 8)
        arguments.append((torch.empty(batch, room, words, dtype=torch.int64, device=boxes.device), _Pointer))
    _launch(
        name + _suffix(boxes),
        (batch, 1, 1),
        threads=NMS_THREADS,
        shared_bytes=shared_bytes,
        arguments=arguments,
        device=boxes.device,
    )
    return indices, counts


def _nms_keys(scores: Tensor, score_threshold: float) -> Tensor:
    """Return the keys that boxes are sorted by: scores above the threshold, -inf for the others."""
    keys, count = torch.empty_like(scores), scores.numel()
    _launch(
        "nms_keys",
        (-(-count // NMS_THREADS), 1, 1),
        threads=NMS_THREADS,
        shared_bytes=0,
        arguments=[(scores, _Pointer), (keys, _Pointer), (count, _Long), (score_threshold, _Float)],
        device=scores.device,
    )
    return keys


def box_iou_cuda(
    boxes1: Tensor, boxes2: Tensor, *, angles1: Tensor | None, angles2: Tensor | None, kind: int, eps: float
) -> Tensor:
    """Return the overlap of every pair of boxes on a GPU.

    Args:
        boxes1: float32 or float64 [B, N, 4]; boxes2: [B, M, 4] of the same dtype, in which everything is computed.
        angles1: [B, N], atan2(w, h) of each box; angles2: [B, M], both in that dtype. Only ciou needs them.
        kind: the position in ops.iou.KINDS.
        eps: as for ops.iou.box_iou.

    Returns:
        float32 [B, N, M].

    Example:
        >>> a, b = torch.tensor([[[0.0, 0, 2, 2]]]), torch.tensor([[[1.0, 0, 3, 2]]])  # IoU 1/3
        >>> box_iou_cuda(a.cuda(), b.cuda(), angles1=None, angles2=None, kind=0, eps=1e-7).tolist()  # doctest: +SKIP
        [[[0.3333333432674408]]]
    """
    batch, rows, columns = len(boxes1), boxes1.shape[1], boxes2.shape[1]
    result = torch.empty(batch, rows, columns, dtype=torch.float32, device=boxes1.device)
    if result.numel() == 0:
        return result
    tensors = [None if tensor is None else tensor.contiguous() for tensor in (boxes1, boxes2, angles1, angles2)]
    arguments: list[tuple[Any, Any]] = [(tensor, _Pointer) for tensor in (*tensors, result)]
    arguments += [(batch, _Int), (rows, _Int), (columns, _Int), (kind, _Int), (eps, _Real[boxes1.dtype])]
    grid = (-(-columns // IOU_THREADS), min(-(-rows // IOU_ROWS), 65535), min(batch, 65535))
    _launch(
        "box_iou" + _suffix(boxes1),
        grid,
        threads=IOU_THREADS,
        shared_bytes=0,
        arguments=arguments,
        device=boxes1.device,
    )
    return result


def _suffix(boxes: Tensor) -> str:
    return WIDE if boxes.dtype == torch.float64 else ""


@lru_cache
def compile_source(name: str, architecture: str, *, verbose: bool = False, wide: bool = False) -> Compiled:
    """Compile one of SOURCES with NVRTC, which needs no GPU.

    Args:
        name: the file in kernels/.
        architecture: sm_75, sm_90 ...
        verbose: let the assembler report registers and spills in the log.
        wide: compile for boxes of float64.

    Raises:
        RuntimeError: with the compiler's log.
        ImportError: if cuda.bindings is not installed.

    Example:
        >>> compile_source("nms.cu", "sm_90").cubin[:4]  # doctest: +SKIP
        b'\\x7fELF'
    """
    from cuda.bindings import nvrtc

    header = (FOLDER / "overlap.h").read_bytes()
    program = _checked(
        nvrtc.nvrtcCreateProgram((FOLDER / name).read_bytes(), name.encode(), 1, [header], [b"overlap.h"])
    )
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--fmad=false"]
    options += ["--ptxas-options=-v"] if verbose else []
    options += ["--define-macro=WIDE"] if wide else []
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        # NVRTC writes into these: never fewer than two bytes, as Python shares its objects of one byte
        log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)) + 1)
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        text = log.decode(errors="replace").strip("\0 \n")
        if int(status):
            raise RuntimeError(f"NVRTC could not compile {name} for {architecture}: {text}")
        size = _checked(nvrtc.nvrtcGetCUBINSize(program))
        cubin = bytes(size + 1)
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
        return Compiled(cubin[:size], text)
    finally:
        _checked(nvrtc.nvrtcDestroyProgram(program))


def _load(index: int) -> Kernels:
    from cuda.bindings import driver

    torch.cuda.init()  # type: ignore[no-untyped-call]
    major, minor = torch.cuda.get_device_capability(index)
    context = _checked(
        driver.cuDevicePrimaryCtxRetain(_checked(driver.cuDeviceGet(index)))
    )  # torch's own, kept for good
    functions: dict[str, Any] = {}
    with _current(driver, context):
        for source, wide in itertools.product(SOURCES, (False, True)):
            compiled = compile_source(source, f"sm_{major}{minor}", wide=wide)
            module = _checked(driver.cuModuleLoadData(compiled.cubin))
            for name in SOURCES[source]:
                function = _checked(driver.cuModuleGetFunction(module, name.encode()))
                functions[name + WIDE * wide] = function
    return Kernels(driver, context, functions)


def _launch(
    name: str,
    grid: tuple[int, int, int],
    *,
    threads: int,
    shared_bytes: int,
    arguments: Sequence[tuple[Any, Any]],
    device: torch.device,
) -> None:
    """Launch a kernel on torch's current stream of the device; a tensor is passed as its address, None as null."""
    kernels = _devices[torch.cuda.current_device() if device.index is None else device.index]
    if isinstance(kernels, Exception):
        raise RuntimeError(f"the CUDA kernels could not be loaded: {kernels}") from kernels
    values = tuple(value.data_ptr() if isinstance(value, Tensor) else value or 0 for value, _ in arguments)
    types = tuple(kind for _, kind in arguments)
    stream = torch.cuda.current_stream(device).cuda_stream
    function = kernels.functions[name]
    with _current(kernels.driver, kernels.context):
        _checked(
            kernels.driver.cuLaunchKernel(function, *grid, threads, 1, 1, shared_bytes, stream, (values, types), 0)
        )


@contextlib.contextmanager
def _current(driver: Any, context: Any) -> Iterator[None]:
    """Make a device's context the current one in this thread."""
    _checked(driver.cuCtxPushCurrent(context))
    try:
        yield
    finally:
        _checked(driver.cuCtxPopCurrent())


def _checked(answer: tuple[Any, ...]) -> Any:
    """Return the value of a cuda.bindings call, raising RuntimeError on its status."""
    status, *values = answer
    if int(status):
        raise RuntimeError(f"CUDA error {status!r}")
    return values[0] if values else None
