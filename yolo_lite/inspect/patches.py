"""The patches of many images that the channels of one layer respond to most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from yolo_lite.errors import InputError
from yolo_lite.inspect.activations import activations
from yolo_lite.inspect.summary import Field, summarise
from yolo_lite.structures.geometry import PAD_VALUE, Image


class Patches(NamedTuple):
    """Patches by channel, the strongest response first.

    Attributes:
        layer: its path in the network.
        size: (height, width) of a patch in input pixels, the receptive field of one value.
        images: by channel, uint8 [height, width, channels of the input].
        values: by channel, the responses.
    """

    layer: str
    size: tuple[int, int]
    images: dict[int, list[Image]]
    values: dict[int, list[float]]


def strongest_patches(
    model: nn.Module, inputs: Iterable[Image], *, layer: str | None = None, channels: int = 16, count: int = 9
) -> Patches:
    """Find the patches that the first channels of a layer respond to most, at most one of each image.

    A patch is the receptive field of the strongest value. What lies beyond the image is grey.

    Args:
        model: in evaluation mode.
        inputs: uint8 [H, W, channels], all of one size.
        layer: its path, as `summarise` names it; None for the first convolution.
        channels: how many channels of the layer.
        count: patches of each.

    Raises:
        InputError: if there are no images, or the layer has no maps or sees the whole image.

    Example:
        >>> red = nn.Conv2d(3, 1, 1, bias=False)
        >>> _ = nn.init.dirac_(red.weight)  # passes the red channel on
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.red = red
        ...     def forward(self, images):
        ...         return self.red(images.float())
        >>> images = [np.full((4, 4, 3), value, np.uint8) for value in (10, 200, 90)]
        >>> strongest_patches(Net().eval(), images, count=2).values
        {0: [200.0, 90.0]}
    """
    found: list[tuple[list[float], list[Image]]] = []
    fields: tuple[Field, Field] | None = None
    for image in inputs:
        result = activations(
            model, torch.from_numpy(np.require(image, requirements="C")).permute(2, 0, 1)[None], layer=layer
        )
        if fields is None:
            layer, fields = result.layer, _fields(model, result.layer, image)
            found = [([], []) for _ in range(min(channels, len(result.maps)))]
        for (values, patches), response in zip(found, result.maps):
            row, column = np.unravel_index(int(response.argmax()), response.shape)
            value = float(response[row, column])
            at = sum(value <= other for other in values)
            if at < count:
                values.insert(at, value)
                patches.insert(at, _crop(image, (int(row), int(column)), fields))
                del values[count:], patches[count:]
    if fields is None or layer is None:
        raise InputError("there are no images to look at; choose another --source")
    size = int(fields[0].size), int(fields[1].size)
    return Patches(layer, size, dict(enumerate(p for _, p in found)), dict(enumerate(v for v, _ in found)))


def _fields(model: nn.Module, layer: str, image: Image) -> tuple[Field, Field]:
    reports = summarise(model, image.shape[2], input_hw=(image.shape[0], image.shape[1]))
    fields = next((report.field for report in reports if report.name == layer), None)
    if fields is None or fields[0].whole or fields[1].whole:
        raise InputError(f"the layer {layer} has no receptive field smaller than the image; choose an earlier one")
    return fields


def _crop(image: Image, position: tuple[int, int], fields: tuple[Field, Field]) -> Image:
    """Return what the value at a position (row, column) sees."""
    (top, bottom), (left, right) = (
        (round(at * field.jump + field.low), round(at * field.jump + field.high) + 1)
        for at, field in zip(position, fields)
    )
    patch = np.full((bottom - top, right - left, image.shape[2]), PAD_VALUE, np.uint8)
    rows, columns = slice(max(0, top), min(image.shape[0], bottom)), slice(max(0, left), min(image.shape[1], right))
    patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[rows, columns]
    return patch
