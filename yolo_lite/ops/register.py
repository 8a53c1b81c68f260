"""Register operations with torch, so that torch.compile, torch.export and torch.vmap know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library: Any = torch.library.Library  # a class that torch gives no types
_libraries: dict[str, Any] = {}  # by operation; torch forgets a library as soon as nobody holds it


def register(
    schema: str, compute: Callable[..., Any], *, shapes: Callable[..., Any], mapped: Callable[..., Any]
) -> Callable[..., Any]:
    """Register an operation under the name yolo_lite, on every device, and return what calls it.

    Args:
        schema: name, arguments and results, as torch.library.define takes them.
        compute: the operation.
        shapes: returns results without values, for tracing.
        mapped: computes it under torch.vmap.
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
    """Give a registered operation a gradient; `remember` keeps what that needs, as torch.library.register_autograd asks."""
    torch.library.register_autograd(f"yolo_lite::{name}", gradient, setup_context=remember, lib=_libraries[name])
