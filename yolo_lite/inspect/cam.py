"""Where a network looked: the places of a layer's maps that speak for one class or one box."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolo_lite.errors import InputError, suggest


class Attention(NamedTuple):
    """What speaks for an output.

    Attributes:
        layer: whose maps these are, its path in the network.
        map: float32 [H, W], from 0 to 1 (the strongest place); all 0 where nothing speaks for it.
        value: the output itself, before sigmoid or softmax.
    """

    layer: str
    map: npt.NDArray[np.float32]
    value: float


def attention(model: nn.Module, image: Tensor, *, layer: str, output: Callable[[object], Tensor]) -> Attention:
    """Weigh every place of a layer's maps by what it adds to an output: gradient times activation, summed over channels.

    These are the maps of HiResCAM (Draelos and Carin 2020), which are those of Grad-CAM (Selvaraju et al. 2017) and of
    CAM (Zhou et al. 2016) where the layer is followed by an average over all places and one dense layer. Other than
    Grad-CAM they do not spread what speaks for one box over all objects that look alike.

    Args:
        model: in evaluation mode.
        image: uint8 [1, channels, H, W].
        layer: a path of `model.named_modules()`.
        output: of what the model returns, the number to explain.

    Raises:
        InputError: for a layer that there is not or that gives no maps; where captum is not installed.
    """
    try:
        from captum.attr import LayerGradientXActivation
    except ImportError as error:
        raise InputError("inspect cam needs captum: pip install captum") from error
    modules = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise InputError(f"the network has no layer {layer!r}; {suggest(layer, modules)} (inspect model lists them)")
    values: list[float] = []

    def forward(pixels: Tensor) -> Tensor:
        value = output(model(pixels))
        values.append(float(value.detach()))
        return value.reshape(1)

    model.requires_grad_(True)
    try:
        products = LayerGradientXActivation(forward, modules[layer]).attribute(image.float())
    except RuntimeError as error:  # of autograd, where the output does not depend on the layer
        raise InputError(f"the output does not depend on the layer {layer}: {error}") from error
    if not isinstance(products, Tensor) or products.ndim != 4:
        raise InputError(f"the layer {layer} gives no maps; choose a convolution")
    speaks = products[0].detach().float().sum(0).clamp(min=0)
    return Attention(layer, (speaks / speaks.max().clamp(min=1e-12)).numpy(), values[0])


@torch.inference_mode()
def last_maps(model: nn.Module, image: Tensor, *, stride: int | None = None) -> str:
    """Return the path of the last layer of the backbone that gives maps: where there are any, of that stride; not 1 x 1.

    Raises:
        InputError: where there is none.
    """
    layers: list[tuple[str, tuple[int, int]]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and max(output.shape[-2:]) > 1:
                layers.append((name, (output.shape[-2], output.shape[-1])))

        return hook

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if name.startswith("backbone.")
    ]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    height, width = image.shape[-2:]
    wanted = None if stride is None else (-(-height // stride), -(-width // stride))
    if not layers:
        raise InputError("the network has no layer that gives maps: nothing to look at")
    return next((name for name, side in reversed(layers) if side == wanted), layers[-1][0])
