"""Begin with another training's weights: what is copied, and where a class that they do not know starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from yolo_lite.config import InputConfig
from yolo_lite.data.datasets import DetectionDataset
from yolo_lite.data.loader import collate_boxes
from yolo_lite.engine.checkpoint import Checkpoint
from yolo_lite.errors import InputError, counted, some
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifier import ClassifierNet
from yolo_lite.models.yolo import Yolo
from yolo_lite.ops import box_iou
from yolo_lite.structures import DetectionSet, ImageRecord

PICTURES = 64  # looked at for each new class, at most
MIN_IOU = 0.5  # with which a prediction counts as one of a box
MIN_SCORE = 0.05  # below it the known classes have nothing to say about a new one


def transfer(
    model: Yolo, class_names: Sequence[str], checkpoint: Checkpoint, likeness: Mapping[str, str] | None = None
) -> str:
    """Copy weights into a network of the same configuration; class rows are matched by name.

    Args:
        model: receives them.
        class_names: of the model.
        checkpoint: gives them.
        likeness: from which known class a new one starts; any other new one keeps its random weights.

    Returns:
        A line that says which classes were kept and which are new, and from which these start.
    """
    mine = model.state_dict()
    rows = {id(tensor) for layer in model.head.class_layers() for tensor in (layer.weight, layer.bias)}  # type: ignore[operator]
    by_class = {name for name, tensor in model.named_parameters() if id(tensor) in rows}
    kept = [name for name in class_names if name in checkpoint.class_names]
    sources = {name: name for name in kept} | dict(likeness or {})
    for name, tensor in mine.items():
        theirs = checkpoint.weights[name].to(tensor.dtype)
        if name not in by_class:
            tensor.copy_(theirs)
            continue
        mine_by_class = tensor.view(len(class_names), -1, *tensor.shape[1:])  # of a dense layer a class has many rows
        theirs_by_class = theirs.view(len(checkpoint.class_names), -1, *theirs.shape[1:])
        for class_name, source in sources.items():
            mine_by_class[class_names.index(class_name)] = theirs_by_class[checkpoint.class_names.index(source)]
    new = [name for name in class_names if name not in kept]
    told = [f"kept {', '.join(kept)}"] if kept else []
    told += [f"new: {', '.join(f'{n} (from {sources[n]})' if n in sources else n for n in new)}"] if new else []
    return "; ".join(told)


def transfer_backbone(model: nn.Module, checkpoint: Checkpoint) -> str:
    """Copy the backbone from a detector to a classifier or back, or between classifiers, and say what was taken.

    Raises:
        InputError: where the backbone does not fit.
    """
    mine = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    for name, tensor in mine.items():
        if name not in checkpoint.weights or checkpoint.weights[name].shape != tensor.shape:
            raise InputError(f"the backbone of these weights ({checkpoint.config.name}) does not fit: {name} differs")
        tensor.copy_(checkpoint.weights[name].to(tensor.dtype))
    return f"took its backbone, {counted(sum(tensor.numel() for tensor in mine.values()), 'value')}"


def transfer_classes(model: ClassifierNet, class_names: Sequence[str], checkpoint: Checkpoint) -> str:
    """Copy a classifier's last layer class by class, matched by name, and say which were kept and which are new."""
    before = tuple(checkpoint.class_names)
    single = "binary" in (model.loss, checkpoint.config.classifier.loss)  # one output for two classes, or none
    fits = model.loss == checkpoint.config.classifier.loss and set(class_names) == set(before)
    kept = [name for name in class_names if name in before] if fits or not single else []
    theirs = {name: value for name, value in checkpoint.weights.items() if name.startswith("head.")}
    for name, tensor in model.state_dict().items():
        if single:
            if fits and name in theirs:
                sign = 1 if tuple(class_names) == before else -1  # of the other class as the second
                tensor.copy_(sign * theirs[name].to(tensor.dtype))
        elif name in theirs and len(tensor) == len(class_names) and len(theirs[name]) == len(checkpoint.class_names):
            for one in kept:
                row = theirs[name][checkpoint.class_names.index(one)]
                if row.shape == tensor.shape[1:]:
                    tensor[class_names.index(one)] = row.to(tensor.dtype)
        elif name in theirs and tuple(class_names) == before and tensor.shape == theirs[name].shape:
            tensor.copy_(theirs[name].to(tensor.dtype))
    new = [name for name in class_names if name not in kept]
    return "; ".join(([f"kept {some(kept)}"] if kept else []) + ([f"new: {some(new)}"] if new else []))


def most_alike(checkpoint: Checkpoint, data: DetectionSet, settings: InputConfig) -> dict[str, str]:
    """Find for each class that the weights do not know the known one that they take its objects for.

    Over the boxes of up to PICTURES pictures, the highest score of each known class among the predictions that overlap the
    box with IoU of at least MIN_IOU is averaged; the class with the highest average is chosen.

    Returns:
        {new class: known class}, without those for which no known class reaches MIN_SCORE.
    """
    new = [label for label, name in enumerate(data.class_names) if name not in checkpoint.class_names]
    if not new:
        return {}
    model = build_detector(checkpoint.config, len(checkpoint.class_names)).eval()
    model.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()})
    found = {}
    for label in new:
        chosen = [record for record in data.records if (record.labels[~record.crowd] == label).any()][:PICTURES]
        if not chosen:
            continue
        averages = _average_scores(model, chosen, label, settings)
        best = int(averages.argmax())
        if averages[best] >= MIN_SCORE:
            found[data.class_names[label]] = checkpoint.class_names[best]
    return found


@torch.inference_mode()
def _average_scores(model: Yolo, records: Sequence[ImageRecord], label: int, settings: InputConfig) -> Tensor:
    """Return for each known class its average score on the boxes of one new class: [C]."""
    dataset = DetectionDataset(records, settings.image_size, settings.resize)
    scores = []
    for index in range(len(records)):
        batch = collate_boxes([dataset[(0, index)]])
        raw = model(batch.images)
        every = torch.arange(len(raw.points)).unsqueeze(0)
        overlaps = box_iou(batch.boxes[0][batch.labels[0] == label], model.decode(raw, every)[0])  # [N, A]
        near = (overlaps >= MIN_IOU).unsqueeze(-1)  # [N, A, 1]
        scores.append((near * raw.class_logits[0].sigmoid()).amax(1))
    return torch.cat(scores).mean(0)
