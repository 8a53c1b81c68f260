"""Measure the ops of the C extension against torchvision and plain torch, after comparing their results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.errors import InputError
from yolo_lite.losses.assign import Candidates, Targets, task_aligned, task_aligned_torch
from yolo_lite.ops import nms_padded, warmup
from yolo_lite.ops.depthwise import depthwise
from yolo_lite.ops.norm_silu import BatchNorm, norm_silu

IOU_THRESHOLD = 0.5
MAX_DETECTIONS = 300
TOTALS = (100, 300, 1000, 4096, 8400)  # boxes in an image
ASSIGNMENTS = ((16, 20, 320), (16, 20, 640), (32, 60, 640))  # images, objects in each image, side in pixels
MAPS = ((16, 16, 160, 160), (16, 32, 80, 80), (16, 64, 40, 40), (16, 128, 20, 20))  # in yolo_lite-n at 320 x 320
DEPTHWISE = (  # shape, kernel and stride of layers of yolo_lite-shuffle-1.5x at 320 x 320
    ((16, 88, 80, 80), 3, 2),
    ((16, 88, 40, 40), 3, 1),
    ((16, 176, 20, 20), 3, 1),
    ((16, 128, 40, 40), 5, 1),
    ((16, 128, 40, 40), 5, 2),
    ((16, 256, 20, 20), 5, 1),
)


@dataclass(frozen=True)
class NmsReport:
    """Median milliseconds of suppression for a whole batch, at one batch size and number of boxes."""

    batch: int
    total: int
    kept: int  # boxes of the first image that nms_padded keeps, at most MAX_DETECTIONS
    kept_uncapped: int  # the same without a limit
    torchvision_ms: float  # torchvision.ops.batched_nms, image by image
    ours_ms: float
    uncapped_ms: float  # with max_detections equal to the number of boxes
    graph_ms: float | None  # replay of a CUDA graph; None on the CPU, and without the CUDA kernel


@dataclass(frozen=True)
class AssignReport:
    """Median milliseconds of the task-aligned assignment, at one batch size, number of objects and image side."""

    batch: int
    objects: int
    side: int
    torch_ms: float
    native_ms: float


@dataclass(frozen=True)
class NormReport:
    """Median milliseconds of batch normalisation and SiLU, forward and backward, for one shape and dtype."""

    shape: tuple[int, int, int, int]
    dtype: str
    torch_ms: float
    native_ms: float


@dataclass(frozen=True)
class DepthwiseReport:
    """Median milliseconds of the gradients of a depthwise convolution, for one layer and dtype."""

    shape: tuple[int, int, int, int]
    kernel: int
    stride: int
    dtype: str
    torch_ms: float  # in float32, with copies from and to the dtype
    native_ms: float


def bench_nms(device: torch.device, classes: int = 80, *, repeats: int = 15) -> Iterator[NmsReport]:
    """Yield a report for each batch size and number of boxes; the measurements of the implementations alternate.

    Raises:
        InputError: if torchvision cannot be imported.
        RuntimeError: if the results differ from torchvision's, computed class by class on the CPU.

    Example:
        >>> report = next(bench_nms(torch.device("cpu"), repeats=1))
        >>> report.batch, report.total
        (1, 100)
    """
    try:
        from torchvision.ops import batched_nms, nms
    except (ImportError, RuntimeError) as error:
        raise InputError(f"bench ops compares with torchvision, which cannot be imported: {error}") from error
    for batch in (1, 32) if device.type == "cuda" else (1, 8):
        for total in TOTALS:
            boxes, scores, labels = _scene(batch, total, classes)
            _compare(boxes, scores, labels=labels, device=device, nms=nms)
            yield _bench_scene(
                boxes.to(device), scores.to(device), labels=labels.to(device), batched_nms=batched_nms, repeats=repeats
            )


def bench_assign(repeats: int = 7) -> Iterator[AssignReport]:
    """Yield a report for each scene of ASSIGNMENTS: plain torch against the C extension, on the CPU.

    Raises:
        RuntimeError: if the two results are not identical.

    Example:
        >>> report = next(bench_assign(repeats=1))
        >>> report.batch, report.objects, report.side
        (16, 20, 320)
    """
    for batch, objects, side in ASSIGNMENTS:
        candidates, targets = _assign_scene(batch, objects, side)
        slow = partial(task_aligned_torch, candidates, targets, top_k=10, alpha=1.0, beta=6.0)
        fast = partial(task_aligned, candidates, targets)
        if not all(torch.equal(a, b) for a, b in zip(slow(), fast())):
            raise RuntimeError("the C extension's assignment differs from plain torch's")
        torch_ms, native_ms = _medians_ms((slow, fast), torch.device("cpu"), repeats=repeats)
        yield AssignReport(batch, objects, side=side, torch_ms=torch_ms, native_ms=native_ms)


def bench_norm(repeats: int = 7) -> Iterator[NormReport]:
    """Yield a report for each of MAPS in float32 and bfloat16: torch's two layers against the C extension, on the CPU.

    Raises:
        RuntimeError: if the two gradients differ by more than rounding.

    Example:
        >>> report = next(bench_norm(repeats=1))
        >>> report.shape, report.dtype
        ((16, 16, 160, 160), 'float32')
    """
    for shape in MAPS:
        for dtype in (torch.float32, torch.bfloat16):
            x, dy = _norm_scene(shape, dtype)
            calls = [partial(_train_norm, layers, x, dy) for layers in (_torch_norm_silu, norm_silu)]
            slow, fast = (call().float() for call in calls)
            if float((slow - fast).abs().max()) > (1e-3 if dtype == torch.float32 else 0.1):
                raise RuntimeError("the C extension's gradient differs from torch's")
            torch_ms, native_ms = _medians_ms(calls, torch.device("cpu"), repeats=repeats)
            yield NormReport(shape, str(dtype)[6:], torch_ms=torch_ms, native_ms=native_ms)


def bench_depthwise(repeats: int = 7) -> Iterator[DepthwiseReport]:
    """Yield a report for each layer of DEPTHWISE in float32 and bfloat16: torch's gradients against the C extension's.

    Raises:
        RuntimeError: if the two gradients differ by more than rounding.

    Example:
        >>> from yolo_lite.ops.native import depthwise_pays
        >>> if depthwise_pays():
        ...     report = next(bench_depthwise(repeats=1))
        ...     assert (report.kernel, report.stride, report.dtype) == (3, 2, "float32")
    """
    for shape, kernel, stride in DEPTHWISE:
        for dtype in (torch.float32, torch.bfloat16):
            x = _norm_scene(shape, dtype)[0].requires_grad_()
            weight = torch.linspace(-1, 1, shape[1] * kernel**2).view(-1, 1, kernel, kernel).requires_grad_()
            calls = [
                _gradients_of(layer(x, weight, stride=stride), x, weight) for layer in (_torch_depthwise, depthwise)
            ]
            slow, fast = (call()[0].float() for call in calls)
            if float((slow - fast).abs().max()) > (1e-3 if dtype == torch.float32 else 0.2):
                raise RuntimeError("the C extension's gradient differs from torch's")
            torch_ms, native_ms = _medians_ms(calls, torch.device("cpu"), repeats=repeats)
            yield DepthwiseReport(
                shape, kernel, stride=stride, dtype=str(dtype)[6:], torch_ms=torch_ms, native_ms=native_ms
            )


def _torch_depthwise(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    padding = weight.shape[-1] // 2
    return F.conv2d(x.float(), weight, stride=stride, padding=padding, groups=len(weight)).to(x.dtype)


def _gradients_of(y: Tensor, x: Tensor, weight: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Return a function that computes the gradients with respect to x and weight, as often as it is called."""
    dy = _norm_scene(tuple(y.shape), y.dtype)[1]
    return lambda: torch.autograd.grad(y, (x, weight), dy, retain_graph=True)


def _torch_norm_silu(x: Tensor, norm: BatchNorm) -> Tensor:
    mean, variance = norm.running_mean, norm.running_var
    normalised = F.batch_norm(
        x, mean, variance, weight=norm.weight, bias=norm.bias, training=True, momentum=norm.momentum, eps=norm.eps
    )
    return F.silu(normalised, inplace=True)


def _norm_scene(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Draw a random feature map and a gradient, with channels last in memory."""
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    return x.contiguous(memory_format=torch.channels_last), dy.contiguous(memory_format=torch.channels_last)


def _train_norm(layers: Callable[..., Tensor], x: Tensor, dy: Tensor) -> Tensor:
    """Run one forward and backward pass, and return the gradient with respect to x."""
    channels = x.shape[1]
    x = x.detach().requires_grad_()
    weight, bias = torch.ones(channels, requires_grad=True), torch.zeros(channels, requires_grad=True)
    mean, var = torch.zeros(channels), torch.ones(channels)
    y = layers(x, BatchNorm(weight, bias, running_mean=mean, running_var=var, momentum=0.1, eps=1e-5))
    torch.autograd.backward(y, dy)
    assert x.grad is not None
    return x.grad


def _bench_scene(boxes: Tensor, scores: Tensor, *, labels: Tensor, batched_nms: Any, repeats: int) -> NmsReport:
    def torchvision() -> list[Tensor]:
        return [batched_nms(b, s, label, IOU_THRESHOLD) for b, s, label in zip(boxes, scores, labels)]

    batch, total = scores.shape
    suppress = partial(nms_padded, boxes, scores, labels=labels, iou_threshold=IOU_THRESHOLD)
    capped = partial(suppress, max_detections=MAX_DETECTIONS)
    uncapped = partial(suppress, max_detections=total)
    calls: list[Callable[[], object]] = [torchvision, capped, uncapped]
    if warmup(boxes.device) == "cuda":
        calls.append(_captured(capped).replay)
    theirs_ms, ours_ms, uncapped_ms, *graph_ms = _medians_ms(calls, boxes.device, repeats)
    return NmsReport(
        batch,
        total,
        kept=int(capped()[1][0]),
        kept_uncapped=int(uncapped()[1][0]),
        torchvision_ms=theirs_ms,
        ours_ms=ours_ms,
        uncapped_ms=uncapped_ms,
        graph_ms=graph_ms[0] if graph_ms else None,
    )


def _scene(batch: int, total: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw boxes [B, N, 4], half of them in tight clusters of ten of one class, and scores and labels [B, N]."""
    generator = torch.Generator().manual_seed(0)
    clustered = total // 20 * 10
    centres = torch.rand(batch, total - clustered + clustered // 10, 2, generator=generator) * 640
    sizes = torch.rand(centres.shape, generator=generator) * 80 + 10
    labels = torch.randint(0, classes, centres.shape[:2], generator=generator)
    source = torch.arange(total).clamp(max=total - clustered - 1)
    source[total - clustered :] = total - clustered + torch.arange(clustered) // 10
    jitter = torch.randn(batch, total, 4, generator=generator) * 3
    boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], -1)[:, source] + jitter
    return boxes, torch.rand(batch, total, generator=generator), labels[:, source].contiguous()


def _assign_scene(batch: int, objects: int, side: int) -> tuple[Candidates, Targets]:
    """Draw predictions near their points at strides 8, 16 and 32, and objects of 80 classes, for `task_aligned`."""
    generator = torch.Generator().manual_seed(0)
    grids, strides = [], []
    for stride in (8, 16, 32):
        axis = (torch.arange(side // stride) + 0.5) * stride
        grids.append(torch.cartesian_prod(axis, axis).flip(-1))
        strides.append(torch.full((len(grids[-1]),), float(stride)))
    points, step = torch.cat(grids), torch.cat(strides)
    shape = (batch, len(points), 2)
    centres = points + torch.randn(shape, generator=generator) * step[:, None]
    half = (torch.rand(shape, generator=generator) * 3 + 1) * step[:, None]
    corners = torch.rand(batch, objects, 2, generator=generator) * side * 0.8
    sizes = torch.rand(batch, objects, 2, generator=generator) ** 2 * side * 0.4 + 4
    labels = torch.randint(0, 80, (batch, objects), generator=generator)
    scores = torch.rand(batch, len(points), 80, generator=generator)
    targets = Targets(torch.cat([corners, corners + sizes], -1), labels)
    boxes = torch.cat([centres - half, centres + half], -1)
    return Candidates(scores, boxes, points=points, strides=step), targets


def _compare(boxes: Tensor, scores: Tensor, *, labels: Tensor, device: torch.device, nms: Any) -> None:
    """Raise RuntimeError unless nms_padded keeps the same boxes as torchvision does on the CPU, class by class."""
    result = nms_padded(
        boxes.to(device),
        scores.to(device),
        labels=labels.to(device),
        iou_threshold=IOU_THRESHOLD,
        max_detections=scores.shape[1],
    )
    indices, counts = (tensor.cpu() for tensor in result)
    for image, count in enumerate(counts.tolist()):
        kept = []
        for label in set(labels[image].tolist()):
            own = (labels[image] == label).nonzero()[:, 0]
            kept.append(own[nms(boxes[image, own], scores[image, own], iou_threshold=IOU_THRESHOLD)])
        wanted = torch.cat(kept)
        wanted = wanted[scores[image, wanted].argsort(descending=True, stable=True)]
        if not torch.equal(scores[image, wanted], scores[image, indices[image, :count]]):
            raise RuntimeError(f"nms_padded keeps other boxes than torchvision in image {image} of {len(counts)}")


def _captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _medians_ms(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[float]:
    """Time the calls alternately, each repeated until the clock is accurate, and return the median milliseconds of one."""

    def seconds(call: Callable[[], object], times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) / times

    rounds = [max(1, round(0.005 / max(min(seconds(call, 3) for _ in range(3)), 1e-6))) for call in calls]
    taken = [[seconds(call, times) for call, times in zip(calls, rounds)] for _ in range(repeats)]
    return [1000 * statistics.median(column) for column in zip(*taken)]
