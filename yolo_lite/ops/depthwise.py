"""Depthwise convolution whose gradients the C extension computes, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops.backends import backend
from yolo_lite.ops.gradients import is_transformed
from yolo_lite.ops.native import depthwise_backward_native, depthwise_pays

_KERNELS, _STRIDES = ((3, 3), (5, 5)), (1, 2)
_MOST_PIXELS = (
    12_000  # of a float32 map and a 3x3 kernel; larger ones leave the second-level cache, and torch is faster
)


def depthwise(x: Tensor, weight: Tensor, *, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Convolve each channel with its own kernel, padded by half of it; torch computes the result, the extension gradients.

    The gradients of weight and bias are float32 and do not depend on the number of threads. Gradients of gradients raise
    an error.

    Args:
        x: float32 or bfloat16 [B, C, H, W] on a CPU, of a kind that `depthwise_fits` accepts.
        weight: float32 [C, 1, k, k]; rounded to the type of x.
        bias: float32 [C]; rounded to the type of x.
        stride: 1 or 2.

    Returns:
        [B, C, ceil(H / stride), ceil(W / stride)] in the dtype of x.

    Example:
        >>> x, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
        >>> if depthwise_fits(x, weight):
        ...     assert depthwise(x, weight).flatten().tolist() == [4, 6, 4, 6, 9, 6, 4, 6, 4]  # neighbours inside the map
    """
    result: Tensor = _Depthwise.apply(x, weight, bias, stride)
    return result


def depthwise_fits(x: Tensor, weight: Tensor, *, stride: int = 1) -> bool:
    """Return whether `depthwise` takes these tensors here, and computes their gradients faster than torch.

    The map has to lie in memory with its channels last. torch.compile, torch.export and the transforms of torch.func
    need torch's own convolution.

    Example:
        >>> x = torch.ones(1, 8, 4, 4)
        >>> depthwise_fits(x, torch.ones(8, 1, 7, 7)), depthwise_fits(x.double(), torch.ones(8, 1, 3, 3).double())
        (False, False)
    """
    return (
        not is_transformed()
        and backend(x.device) == "native"
        and depthwise_pays()
        and x.dtype in (torch.float32, torch.bfloat16)
        and weight.dtype == torch.float32
        and weight.shape[:2] == (x.shape[1], 1)
        and weight.shape[2:] in _KERNELS
        and stride in _STRIDES
        and x.numel() > 0
        and (x.dtype == torch.bfloat16 or weight.shape[-1] > 3 or x.shape[2] * x.shape[3] <= _MOST_PIXELS)
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.has_bias = stride, bias is not None
        kernel, shift = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x, kernel, shift, stride=stride, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        used = weight.to(x.dtype).float()
        dx, d_weight, d_bias = depthwise_backward_native(x, dy, weight=used, stride=ctx.stride)
        return dx, d_weight, d_bias if ctx.has_bias else None, None
