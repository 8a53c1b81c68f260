"""Muon: an optimiser that makes each step on the kernel of a layer orthogonal (Jordan et al. 2024).

The gradient of a convolution, as a matrix [outputs, inputs * height * width], consists mostly of a few directions. The
nearest orthogonal matrix contains all directions with equal strength, so rare features are learned as fast as common
ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_RMS = 0.2  # root mean square of a step before the learning rate, as for AdamW (Liu et al. 2025, section 2.2)
_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # coefficients of the quintic that brings singular values near 1 fastest


class Muon(torch.optim.AdamW):
    """AdamW, except for groups with "muon": True, whose parameters (of two or more dimensions) take Muon's steps.

    The steps of both have the same size, so learning rate and weight decay mean the same.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; it sets the gradients of Muon's parameters to None."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        precision = torch.get_float32_matmul_precision()
        # TF32 would make steps along weak directions several times too long.
        torch.set_float32_matmul_precision("highest")
        try:
            for group in self.param_groups:
                if group.get("muon"):
                    self._step_together([p for p in group["params"] if p.grad is not None], group)
        finally:
            torch.set_float32_matmul_precision(precision)
        super().step()
        return loss

    def _step_together(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Step all parameters of a group; parameters of equal shape form one batch of matrices."""
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
                state["step"] = torch.zeros(())  # AdamW expects one in every state that it loads
            state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
            ahead = parameter.grad.lerp(state["momentum"], MOMENTUM)  # Nesterov's
            matrix = ahead.movedim(1, -1).flatten(1)  # channels last, as in memory: the order of columns is free
            by_shape.setdefault((matrix.shape[0], matrix.shape[1]), []).append((parameter, matrix))
            parameter.grad = None  # so that AdamW skips it
        for (rows, columns), pairs in by_shape.items():
            size = -group["lr"] * _RMS * max(rows, columns) ** 0.5
            stacked = torch.stack([matrix for _, matrix in pairs])
            for (parameter, _), update in zip(pairs, orthogonal(stacked)):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view(parameter.movedim(1, -1).shape).movedim(-1, 1), alpha=size)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices [N, rows, columns], float32, with singular values near 1 (0.6 to 1.2) and the same vectors.

    Five Newton-Schulz steps of a quintic polynomial approximate what a singular value decomposition would do exactly,
    but far more slowly. Each step multiplies x by a I + b G + c G^2, where G is x times its transpose. Here these factors
    are multiplied on the shorter side of the matrices, from G alone, and applied to x once at the end.

    Example:
        >>> matrix = torch.tensor([[[3.0, 0.0], [0.0, 0.1]]])
        >>> values = torch.linalg.svdvals(orthogonal(matrix))  # before: 3 and 0.1
        >>> bool(((values > 0.6) & (values < 1.2)).all())
        True
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    gram = x.bmm(x.transpose(1, 2))
    norm = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt().view(-1, 1, 1) + 1e-7  # Frobenius norm
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
