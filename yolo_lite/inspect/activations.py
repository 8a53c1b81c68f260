"""What one layer of a network has learned and what it makes of an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolo_lite.errors import InputError, suggest


class Activations(NamedTuple):
    """One layer's maps of an image, and its kernels if it has any.

    Attributes:
        layer: its path in the network.
        maps: float32 [C, H, W].
        kernels: float32 [outputs, inputs of a group, k, k], or None.
    """

    layer: str
    maps: npt.NDArray[np.float32]
    kernels: npt.NDArray[np.float32] | None


@torch.inference_mode()
def activations(model: nn.Module, image: Tensor, *, layer: str | None = None) -> Activations:
    """Run a network on one image and return the output of a layer.

    Args:
        model: in evaluation mode.
        image: the network's input, uint8 [1, channels, H, W].
        layer: its path, as `summarise` names it; None for the first convolution.

    Raises:
        InputError: if there is no such layer, or its output is not made of maps.

    Example:
        >>> conv = nn.Conv2d(1, 1, 2, bias=False)
        >>> _ = nn.init.ones_(conv.weight)
        >>> activations(nn.Sequential(conv).eval(), torch.ones(1, 1, 3, 3)).maps.tolist()
        [[[4.0, 4.0], [4.0, 4.0]]]
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if layer is None:
        layer = next((name for name, module in modules.items() if isinstance(module, nn.Conv2d)), None)
    if layer is None:
        raise InputError("the network has no convolution")
    if layer not in modules:
        raise InputError(f"the network has no layer {layer!r}; {suggest(layer, modules)} (inspect model lists them)")
    outputs: list[object] = []
    hook = modules[layer].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        model(image)
    finally:
        hook.remove()
    maps = outputs[0] if outputs else None
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise InputError(f"the layer {layer} has no maps; choose a convolution")
    weight = getattr(modules[layer], "weight", None)
    kernels = weight.float().numpy() if isinstance(weight, Tensor) and weight.ndim == 4 else None
    return Activations(layer, maps[0].float().numpy(), kernels)
