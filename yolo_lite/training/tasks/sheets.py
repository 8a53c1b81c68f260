"""What training.jpg and validation.jpg of a detector show."""

from __future__ import annotations

import numpy as np

from yolo_lite.draw.sheets import SheetImage
from yolo_lite.errors import counted
from yolo_lite.metrics.matching import match_detections
from yolo_lite.structures.batches import Sample
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Image, resize_image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections

_CROSS = "\N{BALLOT X}"


def sample_on_sheet(sample: Sample, data: DetectionSet, *, resize: str, index: int) -> SheetImage:
    """Return a training input with its targets.

    An input that was stretched to the network's size gets the shape of its original image back. A mosaic of several
    images gets that of the first.

    Args:
        sample: image and boxes in input pixels.
        data: the set that the sample comes from.
        resize: how inputs are made, "letterbox" or "stretch".
        index: the position of the image in the set.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> data = read_split("my_images", "train")
        >>> boxes, labels = torch.tensor([[8.0, 8, 24, 24]]), torch.tensor([1])
        >>> stretched = Sample(torch.zeros(3, 32, 32, dtype=torch.uint8), boxes, labels=labels, position=0, unlabelled=())
        >>> cell = sample_on_sheet(stretched, data, resize="stretch", index=0)
        >>> data.records[0].hw, cell.image.shape[:2], cell.boxes.tolist(), cell.texts
        ((96, 128), (24, 32), [[8.0, 6.0, 24.0, 18.0]], ['square'])
    """
    image, boxes = sample.image.permute(1, 2, 0).numpy(), sample.boxes.numpy()
    if resize == "stretch":
        original, (height, width) = data.records[index].hw, image.shape[:2]
        scale = min(height / original[0], width / original[1])
        hw = max(1, round(original[0] * scale)), max(1, round(original[1] * scale))
        image = resize_image(image, hw)
        boxes = boxes * np.array([hw[1] / width, hw[0] / height] * 2)
    labels = sample.labels.tolist()
    return SheetImage(image, boxes, labels=labels, texts=[data.class_names[label] for label in labels])


def compare_on_sheet(
    image: Image, record: ImageRecord, *, detections: Detections, class_names: tuple[str, ...]
) -> tuple[SheetImage, SheetImage]:
    """Return an image with its ground truth, and the same with what was found.

    Missed objects and wrong detections, judged at an IoU of 0.5, have a dashed outline and a cross.

    Args:
        image: uint8 [H, W, 3] RGB, original pixels.
        record: its ground truth.
        detections: in original pixels.
        class_names: the names that the record's labels stand for.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> data = read_split("my_images", "val")
        >>> record, black = data.records[0], np.zeros((96, 128, 3), np.uint8)
        >>> nothing = Detections([], [], labels=[], class_names=data.class_names)
        >>> truth, found = compare_on_sheet(black, record, detections=nothing, class_names=data.class_names)
        >>> found.caption
        'predictions: 0 right, 0 wrong'
    """
    matches = match_detections(detections, record.boxes, labels=record.labels, crowd=record.crowd)
    names = [class_names[label] for label in record.labels]
    truth_texts = [
        f"{name} (crowd)" if crowd else f"{_CROSS} {name}" if missed else name
        for name, crowd, missed in zip(names, record.crowd, matches.missed)
    ]
    texts = [
        f"{_CROSS} {name} {score:.0%}" if wrong else f"{name} {score:.0%}"
        for name, score, wrong in zip(detections.names, detections.scores, matches.wrong)
    ]
    total, missed, right = int((~record.crowd).sum()), int(matches.missed.sum()), int((matches.objects >= 0).sum())
    truth = SheetImage(
        image,
        record.boxes,
        labels=record.labels.tolist(),
        texts=truth_texts,
        caption=f"{record.path.name[-24:]}: {counted(total, 'object')}, {missed} missed",
        wrong=frozenset(np.flatnonzero(matches.missed).tolist()),
    )
    found = SheetImage(
        image,
        detections.boxes,
        labels=detections.labels.tolist(),
        texts=texts,
        caption=f"predictions: {right} right, {int(matches.wrong.sum())} wrong",
        wrong=frozenset(np.flatnonzero(matches.wrong).tolist()),
    )
    return truth, found
