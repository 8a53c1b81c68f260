"""The choice of an implementation: the CUDA kernels, the C extension, or plain torch, which works everywhere.

All three give the same results. The environment variable YOLO_LITE_OPS (cuda, native or torch) forces one of them. If
that one cannot run, the operation fails and gives the reason.
"""

from __future__ import annotations

import os
import warnings

import torch

from yolo_lite.errors import InputError
from yolo_lite.ops import cuda, native

BACKENDS = ("cuda", "native", "torch")
VARIABLE = "YOLO_LITE_OPS"
CUDA_BY_DEFAULT = False  # until tests/gpu/check_ops.py has passed on a GPU
_warned: set[str] = set()


def backend(device: torch.device | str) -> str:
    """Return which implementation computes IoU and suppression on a device: "cuda", "native" or "torch".

    Raises:
        InputError: if YOLO_LITE_OPS is set to another word, or to an implementation that cannot run on this device.

    Example:
        >>> backend("cpu") in ("native", "torch")  # native if the C extension was built
        True
    """
    if not isinstance(device, torch.device):
        device = torch.device(device)
    forced = os.environ.get(VARIABLE)
    if forced:
        return _forced(forced, device)
    if device.type == "cpu":
        return "torch" if native.MISSING else "native"
    if device.type == "cuda" and CUDA_BY_DEFAULT:
        reason = cuda.why_not(device)
        if not reason:
            return "cuda"
        if reason not in _warned:
            _warned.add(reason)
            warnings.warn(f"yolo_lite's CUDA kernels cannot run, plain torch does instead: {reason}", stacklevel=2)
    return "torch"


def warmup(device: torch.device | str) -> str:
    """Compile and load the kernels for a device, before a CUDA graph is captured, and return `backend(device)`.

    Example:
        >>> warmup("cpu") == backend("cpu")
        True
    """
    return backend(device)


def _forced(name: str, device: torch.device) -> str:
    if name == "cuda":
        reason = cuda.why_not(device) if device.type == "cuda" else f"the tensors are on {device}"
    elif name == "native":
        reason = native.MISSING if device.type == "cpu" else f"the tensors are on {device}"
    elif name == "torch":
        reason = ""
    else:
        raise InputError(f"{VARIABLE} must be one of {', '.join(BACKENDS)}, got {name!r}")
    if reason:
        raise InputError(f"{VARIABLE}={name} cannot be used: {reason}")
    return name
