"""Random colour changes of a whole batch at once on a GPU, so that loading processes need not make them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def shift_hsv(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift hue, saturation and value (Smith 1978) of each image, as albumentations' HueSaturationValue does.

    Nothing is rounded before the end, so a shift of 0 changes nothing (OpenCV rounds hue to steps of two degrees).

    Args:
        images: uint8 [B, 3, H, W] RGB.
        shifts: [B, 3]: hue in OpenCV's 180 steps of the circle, saturation and value in 255ths. Shifted saturation and
            value are clipped to their range.

    Returns:
        uint8 [B, 3, H, W].

    Example:
        >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> shift_hsv(red, torch.tensor([[60.0, 0, 0]])).flatten()  # a third of the circle: green
        tensor([  0, 255,   0], dtype=torch.uint8)
    """
    rgb = images.float()
    red, green, blue = rgb.unbind(1)
    value = rgb.amax(1)
    chroma = value - rgb.amin(1)
    apart = chroma.clamp(min=1)  # the chroma is a whole number; grey has no hue and counts as red
    hue = torch.where(value == green, (blue - red) / apart + 2, (red - green) / apart + 4)  # in sixths of the circle
    hue = torch.where(value == red, (green - blue) / apart, hue)
    by_hue, by_saturation, by_value = shifts.to(rgb)[:, :, None, None].unbind(1)
    hue = hue + by_hue / 30
    saturation = (chroma / value.clamp(min=1) + by_saturation / 255).clamp(0, 1)
    value = (value + by_value).clamp(0, 255)
    turn = torch.stack([hue + 5, hue + 3, hue + 1], 1) % 6
    far = torch.minimum(turn, 4 - turn).clamp(0, 1)  # of each channel from the strongest, as a fraction of the chroma
    return (value[:, None] * (1 - saturation[:, None] * far)).round().to(torch.uint8)


def draw_shifts(limits: Sequence[float], seed: int, *, progress: float, positions: Tensor) -> Tensor:
    """Draw the shifts of each image; they depend on the seed, the progress and the image's position alone.

    Args:
        limits: largest shifts of hue, saturation and value in either direction.
        seed: seed of the draw.
        progress: fraction of the training steps done.
        positions: int64 [B].

    Returns:
        float32 [B, 3], on the device of positions.

    Example:
        >>> shifts = draw_shifts([18, 51, 51], 0, progress=0.5, positions=torch.tensor([7, 8, 7]))
        >>> tuple(shifts.shape), bool((shifts[0] == shifts[2]).all())
        ((3, 3), True)
    """
    step = round(progress * 2**40)
    drawn = [np.random.default_rng([seed, step, position, 5]).uniform(-1, 1, 3) for position in positions.tolist()]
    return torch.tensor(np.array(drawn) * np.array(limits), dtype=torch.float32).to(positions.device)
