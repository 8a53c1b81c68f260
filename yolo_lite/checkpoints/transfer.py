"""Start from the weights of another training: copy what fits, and choose a start for classes that are new."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import Checkpoint
from yolo_lite.config.schema import InputConfig
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.pipeline.loader import collate_boxes
from yolo_lite.errors import InputError, counted, some
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.models.yolo import Yolo
from yolo_lite.ops import box_iou
from yolo_lite.structures.class_names import describe_matches, match_names
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord


class Start(NamedTuple):
    """What a network took from a checkpoint.

    Attributes:
        summary: a description in one line.
        fresh: for each weight, by name, int64 positions of the rows that belong to new classes or layers.
        known: how many of the network's classes the checkpoint knows.
        familiarity: as in `Likeness`; 0 for a head that is new.
    """

    summary: str
    fresh: dict[str, Tensor]
    known: int
    familiarity: float = 0.0


class Likeness(NamedTuple):
    """What a checkpoint makes of the objects of a data set.

    Attributes:
        starts: {new class: the known class that it starts from}.
        familiarity: the score that the objects of a class get, on average, for the class that it starts from; the mean
            over all classes with objects, from 0 to 1. It is 0.55 for cats and cars in photographs, and 0.02 for defects of circuit boards.
    """

    starts: dict[str, str]
    familiarity: float


IMAGES = 64  # the most images that are examined for each new class
IMAGES_OF_KNOWN = 8  # and for each known class
MIN_IOU = 0.5  # IoU from which on a prediction counts for a box
MIN_SCORE = 0.001  # lowest average score that makes a known class the start of a new one; it still beats random weights


def transfer(
    model: Yolo, class_names: Sequence[str], *, checkpoint: Checkpoint, likeness: Likeness | None = None
) -> Start:
    """Copy weights into a network of the same configuration; class rows are matched by name (see `match_names`).

    Args:
        model: receives the weights.
        class_names: the model's classes.
        checkpoint: the weights and their classes.
        likeness: the known class that each new class starts from; other new classes keep their random weights.

    Returns:
        The classes that were kept, those that are new, and the start of these.

    Example:
        >>> from yolo_lite.checkpoints.checkpoint import load_checkpoint
        >>> from yolo_lite.shipped import find_weights
        >>> checkpoint = load_checkpoint(find_weights("yolo_lite-pico-voc5"))
        >>> model = build_detector(checkpoint.config, 2)
        >>> likeness = Likeness({"tram": "train"}, familiarity=0.5)
        >>> transfer(model, ["cat", "tram"], checkpoint=checkpoint, likeness=likeness).summary
        'kept cat; new: tram (from train)'
    """
    mine = model.state_dict()
    layers = {id(tensor) for layer in model.head.class_layers() for tensor in (layer.weight, layer.bias)}
    by_class = {name for name, tensor in model.named_parameters() if id(tensor) in layers}
    kept = match_names(class_names, checkpoint.class_names)
    sources = kept | (likeness.starts if likeness else {})
    fresh = {}
    for name, tensor in mine.items():
        theirs = checkpoint.weights[name].to(tensor.dtype)
        if name not in by_class:
            tensor.copy_(theirs)
            continue
        mine_by_class = tensor.view(len(class_names), -1, *tensor.shape[1:])  # a class has many rows in a dense layer
        theirs_by_class = theirs.view(len(checkpoint.class_names), -1, *theirs.shape[1:])
        for class_name, source in sources.items():
            mine_by_class[class_names.index(class_name)] = theirs_by_class[checkpoint.class_names.index(source)]
        is_new = torch.tensor([class_name not in kept for class_name in class_names])
        fresh[name] = is_new.repeat_interleave(mine_by_class.shape[1]).nonzero().flatten()
    new = [f"{name} (from {sources[name]})" if name in sources else name for name in class_names if name not in kept]
    return Start(
        _kept_and_new(describe_matches(kept), new), fresh, len(kept), likeness.familiarity if likeness else 0.0
    )


def transfer_backbone(model: nn.Module, checkpoint: Checkpoint) -> Start:
    """Copy only the backbone, for example from a detector to a classifier.

    Raises:
        InputError: if the backbone does not fit.

    Example:
        >>> from yolo_lite.checkpoints.checkpoint import load_checkpoint
        >>> from yolo_lite.shipped import find_weights
        >>> checkpoint = load_checkpoint(find_weights("yolo_lite-pico-voc5"))
        >>> transfer_backbone(build_detector(checkpoint.config, 2), checkpoint).summary
        'took its backbone, 322,767 values'
    """
    mine = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    for name, tensor in mine.items():
        if name not in checkpoint.weights or checkpoint.weights[name].shape != tensor.shape:
            raise InputError(f"the backbone of these weights ({checkpoint.config.name}) does not fit: {name} differs")
        tensor.copy_(checkpoint.weights[name].to(tensor.dtype))
    fresh = {
        name: torch.arange(len(value)) for name, value in model.state_dict().items() if name not in mine and value.ndim
    }
    values = counted(sum(tensor.numel() for tensor in mine.values()), "value")
    return Start(f"took its backbone, {values}", fresh, 0)


def transfer_classes(model: ClassifierNet, class_names: Sequence[str], *, checkpoint: Checkpoint) -> Start:
    """Copy a classifier's last layer class by class, matched by name (see `match_names`).

    Example:
        >>> from yolo_lite.config.schema import ClassifierConfig, Config
        >>> from yolo_lite.models.classifiers.build import build_classifier
        >>> config = Config("classify", classifier=ClassifierConfig("mnist_small"))
        >>> weights = build_classifier(config, 2).state_dict()
        >>> checkpoint = Checkpoint(config, ("cat", "dog"), category_ids=(1, 2), weights=weights)
        >>> transfer_classes(build_classifier(config, 2), ["dog", "fox"], checkpoint=checkpoint).summary
        'kept dog; new: fox'
    """
    before = tuple(checkpoint.class_names)
    single = "binary" in (model.loss, checkpoint.config.classifier.loss)  # one output for two classes, or none
    matches = match_names(class_names, before)
    called = tuple(matches.get(name, name) for name in class_names)  # as the checkpoint calls them
    fits = model.loss == checkpoint.config.classifier.loss and set(called) == set(before)
    kept = matches if fits or not single else {}
    theirs = {name: value for name, value in checkpoint.weights.items() if name.startswith("head.")}
    fresh = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith("head.") or not tensor.ndim:
            continue
        is_new = torch.ones(len(tensor), dtype=torch.bool)
        if single:
            if fits and name in theirs:
                sign = 1 if called == before else -1  # the output belongs to the second class
                tensor.copy_(sign * theirs[name].to(tensor.dtype))
                is_new[:] = False
        elif name in theirs and len(tensor) == len(class_names) and len(theirs[name]) == len(checkpoint.class_names):
            for class_name, source in kept.items():
                row, place = theirs[name][before.index(source)], class_names.index(class_name)
                if row.shape == tensor.shape[1:]:
                    tensor[place] = row.to(tensor.dtype)
                    is_new[place] = False
        elif name in theirs and called == before and tensor.shape == theirs[name].shape:
            tensor.copy_(theirs[name].to(tensor.dtype))
            is_new[:] = False
        fresh[name] = is_new.nonzero().flatten()
    new = [name for name in class_names if name not in kept]
    names = describe_matches(kept)
    return Start(_kept_and_new([some(names)] if names else [], [some(new)] if new else []), fresh, len(kept))


def _kept_and_new(kept: Sequence[str], new: Sequence[str]) -> str:
    return "; ".join([f"{word} {', '.join(names)}" for word, names in (("kept", kept), ("new:", new)) if names])


def most_alike(
    checkpoint: Checkpoint,
    data: DetectionSet,
    *,
    settings: InputConfig,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Likeness:
    """Find for each new class the known class that the network mistakes its objects for.

    For every box in up to IMAGES images of a new class, each known class gets its highest score among the predictions
    that overlap the box with an IoU of at least MIN_IOU. These scores are averaged over the boxes. Pairs are formed by
    falling average, each class at most once: two classes with the same start would both be reported for every object
    of either. For the same reason a known class that also occurs in the data is never a start.

    Args:
        checkpoint: its classes are the known ones.
        data: its other classes are new.
        settings: of the input.
        on_image: called with the number of images done and their total.

    Returns:
        The starts, from which a new class is missing if no free known class reaches MIN_SCORE, and the familiarity. Classes
        without objects do not count for the latter.

    Example:
        >>> from yolo_lite.checkpoints.checkpoint import load_checkpoint
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.shipped import find_weights
        >>> checkpoint = load_checkpoint(find_weights("yolo_lite-shuffle-coco"))
        >>> data = read_split(Path("my_images"), "val")
        >>> most_alike(checkpoint, data, settings=checkpoint.config.input).starts["disc"]
        'frisbee'
    """
    known = checkpoint.class_names
    kept = match_names(data.class_names, known)
    chosen = _images_of(data, kept)
    if not chosen:
        return Likeness({}, 0.0)
    model = build_detector(checkpoint.config, len(known)).eval()
    model.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()})
    every = range(len(data.class_names))
    averages = _average_scores(model, chosen, labels=every, settings=settings, on_image=on_image)
    is_new = torch.tensor([name not in kept for name in data.class_names])
    is_free = torch.tensor([name not in kept.values() for name in known])
    pairs = one_to_one(averages * is_new.unsqueeze(1) * is_free, MIN_SCORE)
    starts = {data.class_names[row]: known[column] for row, column in sorted(pairs.items())}
    sources = kept | starts
    scores = [float(averages[data.class_names.index(name), known.index(sources[name])]) for name in sources]
    shown = {label for record in chosen for label in record.labels[~record.crowd].tolist()}
    return Likeness(starts, sum(scores) / len(shown))


def one_to_one(scores: Tensor, least: float) -> dict[int, int]:
    """Pair rows with columns, the highest score first (ties: the first row, then the first column), each at most once.

    Args:
        scores: [N, C].
        least: the lowest score that makes a pair.

    Returns:
        {row: column}, at most min(N, C) pairs.

    Example:
        >>> one_to_one(torch.tensor([[0.9, 0.2], [0.8, 0.1]]), 0.05)
        {0: 0, 1: 1}
    """
    pairs: dict[int, int] = {}
    for place in scores.flatten().sort(descending=True, stable=True).indices.tolist():
        row, column = divmod(place, scores.shape[1])
        if scores[row, column] < least:
            break
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return pairs


def _images_of(data: DetectionSet, known: Container[str]) -> list[ImageRecord]:
    """Return the first IMAGES records of each new class and IMAGES_OF_KNOWN of each known one, in the order of the data."""
    left = {label: IMAGES_OF_KNOWN if name in known else IMAGES for label, name in enumerate(data.class_names)}
    chosen = []
    for record in data.records:
        shown = {label for label in record.labels[~record.crowd].tolist() if left.get(label)}
        for label in shown:
            left[label] -= 1
        if shown:
            chosen.append(record)
    return chosen


@torch.inference_mode()
def _average_scores(
    model: Yolo,
    records: Sequence[ImageRecord],
    *,
    labels: Sequence[int],
    settings: InputConfig,
    on_image: Callable[[int, int], None],
) -> Tensor:
    """Return the average score of each known class on the boxes of each class: [N, C]; 0 for a class without boxes."""
    dataset = DetectionDataset(records, settings.image_size, resize=settings.resize, max_16bit=settings.max_16bit)
    scores: list[list[Tensor]] = [[] for _ in labels]
    for index in range(len(records)):
        on_image(index, len(records))
        batch = collate_boxes([dataset[(0, index)]])
        raw = model(batch.images)
        boxes = model.decode(raw, torch.arange(len(raw.points)).unsqueeze(0))[0]
        known = raw.class_logits[0].sigmoid()
        for row, label in enumerate(labels):
            near = box_iou(batch.boxes[0][batch.labels[0] == label], boxes) >= MIN_IOU  # [N, A]
            scores[row] += [known[one].amax(0) if one.any() else known.new_zeros(known.shape[1]) for one in near]
    on_image(len(records), len(records))
    nothing = torch.zeros(1, len(known[0]))
    return torch.stack([torch.stack(one).mean(0) if one else nothing[0] for one in scores])
