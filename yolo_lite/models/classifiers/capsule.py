"""Capsules: vectors whose length is a probability, routed by agreement (Sabour, Frosst and Hinton 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def squash(x: Tensor) -> Tensor:
    """Change the length n of vectors [..., D] to n^2 / (1 + n^2), and keep their direction (equation 1); 0 stays 0.

    Example:
        >>> squash(torch.tensor([0.6, 0.8]))  # length 1, then 1/2
        tensor([0.3000, 0.4000])
    """
    squared = x.square().sum(-1, keepdim=True)
    return x * (squared + 1e-12).sqrt() / (1 + squared)  # the small constant keeps the gradient finite at 0


class PrimaryCapsules(nn.Module):
    """A convolution whose channels are read as vectors.

    Args:
        inputs: channels of the map.
        kinds: capsules at each place.
        length: dimensions of their vectors.
        kernel, stride: of the convolution, which has no padding.
    """

    def __init__(self, inputs: int, kinds: int, *, length: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.length = length
        self.convolution = nn.Conv2d(inputs, kinds * length, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, kinds * h * w, length], squashed."""
        x = self.convolution(x)
        vectors = x.view(x.shape[0], -1, self.length, *x.shape[-2:])
        return squash(vectors.permute(0, 1, 3, 4, 2).flatten(1, 3))


class Capsules(nn.Module):
    """One capsule for each class; three rounds of routing connect it to all capsules below (procedure 1).

    Args:
        count: number of capsules below.
        length: dimensions of their vectors.
        outputs: number of classes.
        output_length: dimensions of the classes' vectors.
    """

    ROUNDS = 3

    def __init__(self, count: int, length: int, *, outputs: int, output_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(outputs, count, length, output_length))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, count, length] to the lengths of the classes' capsules, [B, outputs], from 0 to 1."""
        votes = torch.einsum("bil,jilo->bjio", x, self.weight)
        fixed = votes.detach()  # earlier rounds only choose weights; gradients flow through the last round alone
        logits = torch.zeros_like(fixed[..., 0])
        for _ in range(self.ROUNDS - 1):
            capsules = squash((logits.softmax(1).unsqueeze(-1) * fixed).sum(2))
            logits = logits + torch.einsum("bjio,bjo->bji", fixed, capsules)
        capsules = squash((logits.softmax(1).unsqueeze(-1) * votes).sum(2))
        return (capsules.square().sum(-1) + 1e-12).sqrt()
