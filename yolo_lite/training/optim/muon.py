"""Muon: momentum whose every step on a layer's kernel is brought to orthogonal rows (Jordan et al. 2024).

A gradient of a convolution, laid out as a matrix [outputs, inputs * height * width], is mostly made of a few directions.
Its nearest orthogonal matrix has all of them with the same strength, so that rare ones are learnt as fast as common ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_RMS = 0.2  # of the entries of a step before the learning rate, as AdamW's steps have it (Liu et al. 2025, section 2.2)
_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # of the quintic that brings singular values near 1 soonest


class Muon(torch.optim.AdamW):
    """AdamW, but for the groups with "muon": True, whose parameters of two and more dimensions are stepped by Muon.

    Learning rate and weight decay mean the same in both, since the steps have the same size.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; gradients of Muon's parameters are used up by it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(
            "highest"
        )  # TF32 would make steps along weak directions several times too long
        try:
            for group in self.param_groups:
                if group.get("muon"):
                    self._step_together([p for p in group["params"] if p.grad is not None], group)
        finally:
            torch.set_float32_matmul_precision(precision)
        super().step()
        return loss

    def _step_together(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Step all parameters of a group; those of one shape are one batch of matrices."""
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
                state["step"] = torch.zeros(())  # AdamW wants one in every state that it loads
            state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
            ahead = parameter.grad.lerp(state["momentum"], MOMENTUM)  # Nesterov's
            matrix = ahead.movedim(1, -1).flatten(
                1
            )  # channels last, as they lie in memory: columns may come in any order
            by_shape.setdefault((matrix.shape[0], matrix.shape[1]), []).append((parameter, matrix))
            parameter.grad = None  # AdamW leaves alone what has none
        for (rows, columns), pairs in by_shape.items():
            size = -group["lr"] * _RMS * max(rows, columns) ** 0.5
            stacked = torch.stack([matrix for _, matrix in pairs])
            for (parameter, _), update in zip(pairs, orthogonal(stacked)):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view(parameter.movedim(1, -1).shape).movedim(-1, 1), alpha=size)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices [N, rows, columns], float32, to about 1 (0.7 to 1.2) and keep their vectors.

    Five Newton-Schulz steps of a quintic polynomial do what a singular value decomposition would do exactly and far more
    slowly. A step multiplies x by a I + b G + c G^2, where G is x times its transpose; here these factors are gathered
    on the shorter side of the matrices, from G alone, and multiply x once at the end.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    gram = x.bmm(x.transpose(1, 2))
    norm = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt().view(-1, 1, 1) + 1e-7  # Frobenius'
    gram = gram / norm**2
    factor = _factor(gram)
    product = factor / norm
    for _ in range(_STEPS - 1):
        gram = factor.bmm(gram).bmm(factor)
        factor = _factor(gram)
        product = factor.bmm(product)
    x = product.bmm(x)
    return x.transpose(1, 2) if tall else x


def _factor(gram: Tensor) -> Tensor:
    factor = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
    factor.diagonal(dim1=1, dim2=2).add_(_A)
    return factor
