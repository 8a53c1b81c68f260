"""Class activation maps: the places of a layer's maps that speak for one class or one box."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolo_lite.errors import InputError, suggest


class Attention(NamedTuple):
    """The places that speak for an output.

    Attributes:
        layer: path of the layer whose maps these are.
        map: float32 [H, W], from 0 to 1 (the strongest place); all 0 if nothing speaks for the output.
        value: the output itself, before sigmoid or softmax.
    """

    layer: str
    map: npt.NDArray[np.float32]
    value: float


def attention(model: nn.Module, image: Tensor, *, layer: str, output: Callable[[object], Tensor]) -> Attention:
    """Weight each place of a layer's maps by its contribution to an output: gradient times activation, summed over channels.

    For a layer that is followed by global average pooling and one dense layer, the result equals Grad-CAM (Selvaraju et
    al. 2017) and CAM (Zhou et al. 2016). Unlike Grad-CAM, it does not spread the evidence for one box over all objects
    that look alike.

    Args:
        model: in evaluation mode.
        image: uint8 [1, channels, H, W].
        layer: a path of `model.named_modules()`.
        output: takes what the model returns, and returns the number to explain.

    Raises:
        InputError: if there is no such layer, it has no maps, or captum is not installed.

    Source: HiResCAM (Draelos and Carin 2020).

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 1))
        >>> _ = nn.init.ones_(net[0].weight), nn.init.ones_(net[2].weight)
        >>> image = torch.tensor([[[[2, 0], [0, 1]]]], dtype=torch.uint8)
        >>> attention(net.eval(), image, layer="0", output=lambda y: y[0, 0]).map.tolist()
        [[1.0, 0.0], [0.0, 0.5]]
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
        raise InputError(f"the layer {layer} has no maps; choose a convolution")
    speaks = products[0].detach().float().sum(0).clamp(min=0)
    return Attention(layer, (speaks / speaks.max().clamp(min=1e-12)).numpy(), values[0])


@torch.inference_mode()
def last_maps(model: nn.Module, image: Tensor, *, stride: int | None = None) -> str:
    """Return the path of the backbone's last layer whose output is maps larger than 1 x 1.

    Args:
        model: in evaluation mode.
        image: uint8 [1, channels, H, W].
        stride: prefer layers whose maps have this stride.

    Raises:
        InputError: if there is none.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1))
        ...     def forward(self, images):
        ...         return self.backbone(images.float())
        >>> last_maps(Net().eval(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        'backbone.0'
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
        raise InputError("the network has no layer with maps, so there is nothing to look at")
    return next((name for name, side in reversed(layers) if side == wanted), layers[-1][0])
