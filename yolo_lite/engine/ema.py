"""The exponential moving average of the weights, which is what is evaluated and shipped."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class EMA:
    """A second copy of a model that follows it slowly (Polyak and Juditsky 1992).

    Args:
        model: the one in training.
        decay: how much of the average stays at each step, once it has warmed up.
        steps: of the whole run; the horizon 1 / (1 - decay) is cut to `share` of it.
        share: see above.
    """

    def __init__(self, model: nn.Module, decay: float, steps: int, share: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = min(decay, 1 - 1 / max(2.0, share * steps))
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move a little towards the model; the first updates move more, so that the random start is soon forgotten."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / max(1.0, 1 / (1 - self.decay))))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values()))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)
