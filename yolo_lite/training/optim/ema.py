"""The exponential moving average of the weights; this average is evaluated and saved as best.pt."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class EMA:
    """A copy of a model whose weights slowly follow those in training (Polyak and Juditsky 1992).

    Args:
        model: the model in training, already on its device.
        decay: fraction of the average that stays at each step, once it has warmed up.
        steps: steps of the whole run.
        share: the horizon 1 / (1 - decay) is limited to this fraction of the steps.
        keep: fraction of the starting weights in the average; the rest comes from the model. Weights between
            pretrained and fine-tuned ones are often better than either (Wortsman et al. 2022).
        fresh: by name of a weight, int64 positions of rows that are new, such as those of new classes; these follow the
            model alone, whatever `keep` is.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> ema = EMA(model, 0.9, steps=1000, share=1.0)
        >>> _ = nn.init.constant_(model.weight, 5.0)
        >>> for _ in range(200):
        ...     ema.update()
        >>> round(ema.model.weight.item(), 3)
        5.0
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float,
        *,
        steps: int,
        share: float,
        keep: float = 0.0,
        fresh: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = min(decay, 1 - 1 / max(2.0, share * steps))
        self.keep = keep
        self.start = {name: value.clone() for name, value in model.state_dict().items()} if keep else {}
        self.fresh = dict(fresh or {}) if keep else {}
        self.updates = 0
        self._average, self._current = self.model.state_dict(), model.state_dict()  # the tensors themselves, no copies

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model; the first updates move it further, to forget the random start soon."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / max(1.0, 1 / (1 - self.decay))))
        average, current = self._average, self._current
        floats = [name for name, value in average.items() if value.is_floating_point()]
        goal = [current[name] for name in floats]
        if self.keep:
            goal = list(torch._foreach_lerp(goal, [self.start[name] for name in floats], self.keep))
            for place, name in enumerate(floats):
                if name in self.fresh:
                    rows = self.fresh[name].to(goal[place].device)
                    goal[place][rows] = current[name][rows]
        torch._foreach_lerp_([average[name] for name in floats], goal, 1 - decay)
        for name in average.keys() - set(floats):
            average[name].copy_(current[name])

    def restore(
        self,
        weights: Mapping[str, Tensor],
        *,
        updates: int,
        start: Mapping[str, Tensor],
        fresh: Mapping[str, Tensor] | None,
    ) -> None:
        """Restore the average of an earlier run; older runs have no `fresh`."""
        self.model.load_state_dict(weights)
        self.updates = updates
        self.start = {name: start[name].to(value.device) for name, value in self.start.items()}
        self.fresh = dict(fresh or {})
