"""What training.jpg of a detector shows."""

from __future__ import annotations

import numpy as np

from yolo_lite.draw.sheets import SheetImage
from yolo_lite.structures.batches import Sample
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import resize_image


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
