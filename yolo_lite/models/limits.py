"""A limit on the size of a network: values are counted while layers are built, before any memory is allocated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from yolo_lite.errors import InputError

MOST_VALUES = 2**30  # in a network; the largest one here, YOLOv1 as in its paper, has a quarter of that
_FACTORIES = frozenset((torch.empty, torch.zeros, torch.ones, torch.randn))

_DRAWN = frozenset(("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "trunc_normal_"))


class AtMost(TorchFunctionMode):
    """A context in which the layers that are built may have only a limited number of values.

    Args:
        values: the limit.
        draw: whether weights are drawn at random. If not, they are uninitialised, and a file's weights should follow.

    Raises:
        InputError: at the first layer that exceeds the limit.

    Example:
        >>> with AtMost(100):
        ...     torch.nn.Linear(10, 10)  # 100 weights and 10 biases
        Traceback (most recent call last):
        yolo_lite.errors.InputError: the network is too large: it has more than 100 values
    """

    def __init__(self, values: int = MOST_VALUES, *, draw: bool = True) -> None:
        super().__init__()
        self.most, self.left, self.draw = values, values, draw

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES and str(kwargs.get("device") or "") != "meta":
            self.left -= _count(args)
            if self.left < 0:
                raise InputError(f"the network is too large: it has more than {self.most:,} values")
            func = func if self.draw or func is not torch.randn else torch.empty
        if not self.draw and getattr(func, "__name__", "") in _DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _count(sizes: Iterable[Any]) -> int:
    """Return the number of values in a tensor whose sides are given one by one or as one sequence."""
    return math.prod(_count(side) if isinstance(side, tuple | list) else int(side) for side in sizes)
