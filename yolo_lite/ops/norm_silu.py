"""Batch normalisation and SiLU as one operation for training on a CPU; on other devices torch's own two."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops.backends import backend
from yolo_lite.ops.native import Statistics, norm_silu_backward_native, norm_silu_forward_native, norm_silu_pays


class BatchNorm(NamedTuple):
    """The parameters of a batch normalisation of C channels.

    Attributes:
        weight, bias: float32 [C].
        running_mean, running_var: float32 [C]; each batch moves them, in place, towards its mean and unbiased variance.
        momentum: fraction of the way that they move, between 0 and 1.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float


def norm_silu(x: Tensor, norm: BatchNorm) -> Tensor:
    """Normalise x by the batch's statistics (Ioffe and Szegedy 2015), then apply SiLU (Elfwing et al. 2018).

    On a CPU the C extension reads the feature map twice and writes it once; torch's own layers take about ten passes. It
    is used if it was built with OpenMP, or if torch runs on one thread. Results differ from torch's in rounding only, and
    do not depend on the number of threads.

    Args:
        x: float32 or bfloat16 [B, C, H, W], with more than one value per channel.
        norm: the normalisation; its running statistics are updated.

    Returns:
        [B, C, H, W] in the dtype of x.

    Example:
        >>> one, zero = torch.ones(1), torch.zeros(1)
        >>> norm = BatchNorm(one, zero, running_mean=zero.clone(), running_var=one.clone(), momentum=0.1, eps=0.0)
        >>> norm_silu(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), norm).flatten()  # SiLU of -1 and 1
        tensor([-0.2689,  0.7311])
    """
    if not _fits(x, norm.weight):
        mean, variance = norm.running_mean, norm.running_var
        normalised = F.batch_norm(
            x, mean, variance, weight=norm.weight, bias=norm.bias, training=True, momentum=norm.momentum, eps=norm.eps
        )
        return F.silu(normalised)
    # Weight and bias are passed once more by themselves, since gradients reach only tensors that are arguments.
    result: Tensor = _NormSiLU.apply(x, norm.weight, norm.bias, norm)
    return result


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # torch.compile fuses the layers by itself
        and backend(x.device) == "native"
        and norm_silu_pays()
        and x.dtype in (torch.float32, torch.bfloat16)
        and weight.dtype == torch.float32
        and x.numel() > x.shape[1]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _NormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: BatchNorm,
    ) -> Tensor:
        y = torch.empty_like(x)
        statistics = norm_silu_forward_native(x, weight, bias=bias, eps=norm.eps, y=y)
        count = x.numel() // x.shape[1]
        norm.running_mean.lerp_(statistics.mean, norm.momentum)
        norm.running_var.lerp_(statistics.variance * (count / (count - 1)), norm.momentum)
        ctx.save_for_backward(x, weight, bias, statistics.mean, statistics.variance)
        ctx.eps = norm.eps
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, variance = ctx.saved_tensors
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        statistics = Statistics(mean, variance)
        gradients = norm_silu_backward_native(x, dy, weight=weight, bias=bias, statistics=statistics, eps=ctx.eps)
        return *gradients, None
