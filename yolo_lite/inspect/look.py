"""Where a trained network looked in an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import load_checkpoint, network
from yolo_lite.errors import InputError, suggest
from yolo_lite.inspect.cam import attention, last_maps
from yolo_lite.inspect.why import MIN_IOU
from yolo_lite.media.images import to_rgb
from yolo_lite.media.inputs import to_input
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.models.yolo import Yolo
from yolo_lite.ops import box_iou
from yolo_lite.shipped import find_weights
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.geometry import Image, Letterbox


class Look(NamedTuple):
    """Where a network looked.

    Attributes:
        said: class and score of the prediction that is explained.
        pixels: the network's input, uint8 [H, W, channels].
        attention: float32 [h, w], from 0 to 1, over the whole input.
        layer: the layer whose maps these are.
        box: of the prediction, xyxy, input pixels; None for a classifier.
        inside: fraction of the attention that lies in the box.
    """

    said: str
    pixels: npt.NDArray[np.uint8]
    attention: npt.NDArray[np.float32]
    layer: str
    box: tuple[float, ...] | None
    inside: float | None


def look(
    weights: str | os.PathLike[str],
    image: Image | str | os.PathLike[str],
    *,
    name: str | None = None,
    box: Sequence[float] | None = None,
    layer: str | None = None,
) -> Look:
    """Find the places of an image that speak for one output of a detector or classifier.

    Args:
        weights: a file, or the bare name of a shipped one.
        image: a path, or uint8 [H, W, 3] RGB.
        name: of the class; None for the one with the highest score.
        box: xyxy, original pixels; only predictions whose IoU with it is at least MIN_IOU count. For detectors.
        layer: its path; None for the backbone's last one, for a detector the last at the stride of the prediction.

    Raises:
        InputError: if there is no such class, layer or box.

    Example:
        >>> look("yolo_lite-shuffle-coco", "photo.jpg").attention.max()
        np.float32(1.0)
    """
    source = find_weights(os.fspath(weights))
    checkpoint = load_checkpoint(source)
    if name is not None and name not in checkpoint.class_names:
        raise InputError(f"{source.name} knows no class {name!r}; {suggest(name, checkpoint.class_names)}")
    label = None if name is None else checkpoint.class_names.index(name)
    model, shape = network(checkpoint, source), checkpoint.config.input
    image = to_rgb(image, shape.max_16bit)
    pixels = to_input(image, shape.image_size, channels=shape.channels, resize=shape.resize)
    if isinstance(model, ClassifierNet):
        if box is not None:
            raise InputError(f"--box is for detectors; {source.name} is a classifier")
        return _of_class(model, pixels, names=checkpoint.class_names, label=label, layer=layer)
    hw = (image.shape[0], image.shape[1])
    inner = (
        None if box is None else Letterbox.fit(hw, shape.image_size, resize=shape.resize).boxes_to_input([list(box)])
    )
    return _of_box(cast(Yolo, model), pixels, names=checkpoint.class_names, label=label, wanted=inner, layer=layer)


def _of_class(
    model: ClassifierNet, pixels: Image, *, names: Sequence[str], label: int | None, layer: str | None
) -> Look:
    image = _batch(pixels)
    with torch.inference_mode():
        scores = model.scores(model(image))[0]
    at = int(scores.argmax()) if label is None else label

    def output(outputs: object) -> Tensor:
        values = cast(Tensor, outputs)[0]
        if model.loss == "binary":  # one output, which speaks for the second class
            return values[0] if at == 1 else -values[0]
        return values[at]

    heat = attention(model, image, layer=layer or last_maps(model, image), output=output)
    return Look(f"{names[at]} {scores[at]:.0%}", pixels, attention=heat.map, layer=heat.layer, box=None, inside=None)


def _of_box(
    model: Yolo,
    pixels: Image,
    *,
    names: Sequence[str],
    label: int | None,
    wanted: npt.NDArray[np.float32] | None,
    layer: str | None,
) -> Look:
    image = _batch(pixels)
    with torch.inference_mode():
        raw = model(image)
        boxes = model.decode(raw, torch.arange(len(raw.points)).unsqueeze(0))[0].float()
    logits = raw.class_logits[0].float()
    if wanted is not None:
        fits = box_iou(torch.from_numpy(wanted), boxes)[0] >= MIN_IOU
        if not fits.any():
            raise InputError(f"no prediction overlaps that box with IoU {MIN_IOU:g}; run inspect why for details")
        logits = logits.masked_fill(~fits.unsqueeze(1), -torch.inf)
    if label is not None:
        logits = logits.masked_fill(torch.arange(len(names)) != label, -torch.inf)
    point, at = divmod(int(logits.argmax()), len(names))

    def output(outputs: object) -> Tensor:
        return cast(RawPredictions, outputs).class_logits[0, point, at]

    stride = int(raw.strides[point])
    heat = attention(model, image, layer=layer or last_maps(model, image, stride=stride), output=output)
    box = tuple(boxes[point].tolist())
    said = f"{names[at]} {float(logits[point, at].sigmoid()):.0%}, a cell of {stride} pixels"
    return Look(
        said,
        pixels,
        attention=heat.map,
        layer=heat.layer,
        box=box,
        inside=_share_inside(heat.map, box, pixels.shape),
    )


def _batch(pixels: Image) -> Tensor:
    """Return pixels [H, W, channels] as a batch [1, channels, H, W]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def _share_inside(heat: npt.NDArray[np.float32], box: Sequence[float], shape: Sequence[int]) -> float:
    """Return the share of a map that lies in a box, places counted by the part of their area that does."""
    overlaps = []
    for side, low, high, length in zip(heat.shape, box[1::-1], box[3:1:-1], shape):
        edges = np.arange(side + 1) * length / side
        covered = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        overlaps.append(np.clip(covered, 0, None) * side / length)
    total = float(heat.sum())
    return float((heat * np.outer(overlaps[0], overlaps[1])).sum()) / total if total else 0.0
