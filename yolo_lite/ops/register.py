"""Register operations with torch, so that torch.compile, torch.export and torch.vmap know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library: Any = torch.library.Library  # torch leaves this class without types
_libraries: dict[str, Any] = {}  # by operation; torch forgets a library that nothing refers to


def register(
    schema: str, compute: Callable[..., Any], *, shapes: Callable[..., Any], mapped: Callable[..., Any]
) -> Callable[..., Any]:
    """Register an operation with torch as yolo_lite::name, for every device, and return a function that calls it.

    Args:
        schema: name, arguments and results, as torch.library.define takes them.
        compute: computes the result.
        shapes: returns results of the right shape without values, for tracing.
        mapped: computes the result under torch.vmap.

    Example:
        >>> def mapped(info, in_dims, x):
        ...     return 2 * x, in_dims[0]
        >>> double = register("example_double(Tensor x) -> Tensor", lambda x: 2 * x, shapes=torch.empty_like, mapped=mapped)
        >>> double(torch.tensor([1, 2]))
        tensor([2, 4])
    """
    name = schema.partition("(")[0]
    library = _libraries[name] = _library("yolo_lite", "FRAGMENT")
    library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"yolo_lite::{name}", shapes, lib=library)
    torch.library.register_vmap(f"yolo_lite::{name}", mapped, lib=library)
    operation: Callable[..., Any] = getattr(torch.ops.yolo_lite, name).default
    return operation


def register_gradient(name: str, gradient: Callable[..., Any], *, remember: Callable[..., Any]) -> None:
    """Give a registered operation a gradient; `remember` saves its inputs, as in torch.library.register_autograd.

    Example:
        >>> double = register("example_twice(Tensor x) -> Tensor", lambda x: 2 * x, shapes=torch.empty_like, mapped=print)
        >>> register_gradient("example_twice", lambda ctx, gradient: 2 * gradient, remember=lambda ctx, inputs, output: None)
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> double(x).backward()
        >>> x.grad
        tensor([2.])
    """
    torch.library.register_autograd(f"yolo_lite::{name}", gradient, setup_context=remember, lib=_libraries[name])
