"""Batch normalisation and SiLU in one for training on a CPU, with a gradient; elsewhere torch's own, one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops.backends import backend
from yolo_lite.ops.native import norm_silu_backward_native, norm_silu_forward_native, norm_silu_pays


def norm_silu(
    x: Tensor, weight: Tensor, *, bias: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> Tensor:
    """Normalise by the batch's own statistics (Ioffe and Szegedy 2015), then x * sigmoid(x) (Elfwing et al. 2018).

    Where the C extension was built with OpenMP (or torch uses one thread), a CPU reads a map of features twice and writes
    it once; the same from torch takes some ten passes. Results differ
    from torch's in rounding only, and do not depend on the number of threads.

    Args:
        x: float32 or bfloat16 [B, C, H, W], with more than one value a channel.
        weight, bias: float32 [C].
        running_mean, running_var: float32 [C], moved in place by `momentum` towards this batch's mean and unbiased
            variance.
        eps: added to the variance.

    Returns:
        [B, C, H, W] of x's type.
    """
    if not _fits(x, weight):
        return F.silu(F.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps))
    result: Tensor = _NormSiLU.apply(x, weight, bias, running_mean, running_var, momentum, eps)
    return result


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # which fuses the layers by itself
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
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y = torch.empty_like(x)
        mean, variance = norm_silu_forward_native(x, weight, bias=bias, eps=eps, y=y)
        count = x.numel() // x.shape[1]
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
        ctx.save_for_backward(x, weight, bias, mean, variance)
        ctx.eps = eps
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, variance = ctx.saved_tensors
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        return (
            *norm_silu_backward_native(x, dy, weight=weight, bias=bias, mean=mean, variance=variance, eps=ctx.eps),
            None,
            None,
            None,
            None,
        )
