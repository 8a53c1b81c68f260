"""The networks that are served, by name: detectors and classifiers, of checkpoints and of exported files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_lite.errors import InputError, short, suggest
from yolo_lite.serve.limits import RefusedError
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_exported, find_weights, is_full
from yolo_lite.structures.geometry import Image, resize_image
from yolo_lite.structures.results import Classification, Detections
from yolo_lite.structures.tiles import Tiling

if TYPE_CHECKING:
    from yolo_lite.predict.classifier import Classifier
    from yolo_lite.predict.detector import Detector
    from yolo_lite.runtime import Classifier as ExportedClassifier
    from yolo_lite.runtime import Detector as ExportedDetector

    AnyNetwork = Detector | Classifier | ExportedDetector | ExportedClassifier

_PROBES = 8  # images that the check of a batch looks at


@dataclass(frozen=True)
class Choices:
    """How networks are opened; None and 0 stand for what the weights say.

    Attributes:
        device, image_size, score_threshold, iou_threshold, max_detections, tta, tiles, batch_size: as for `Detector`.
        threads: of an exported file; 0 for as many as its program chooses.
        any_batch: whether batches may change the last bits of results.
    """

    device: str = "auto"
    image_size: tuple[int, int] | int | None = None
    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    tta: bool = False
    tiles: Tiling | None = None
    batch_size: int = 8
    threads: int = 0
    any_batch: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """A network that is served.

    Attributes:
        name: that requests use.
        network: a detector or classifier.
        task: detect or classify.
        backend: torch, onnxruntime or openvino.
        device: where it runs.
        card: where it comes from.
        batch_sizes: of the batches that are formed, ascending and beginning with 1.
    """

    name: str
    network: AnyNetwork
    task: str
    backend: str
    device: str
    card: Mapping[str, Any] = field(default_factory=dict)
    batch_sizes: tuple[int, ...] = (1,)

    @property
    def explains(self) -> bool:
        """Whether the network can explain what it found: a detector of a checkpoint can."""
        return self.task == "detect" and self.backend == "torch"

    def detector(
        self,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        tiles: Tiling | None = None,
    ) -> Detector | ExportedDetector:
        """Return the detector with the settings of a request; None stands for its own.

        Raises:
            RefusedError: if the network is a classifier.
            InputError: if a setting cannot be used.
        """
        if self.task != "detect":
            raise RefusedError(422, f"{self.name} is a classifier; send the image to /v1/classify, or name a detector.")
        network: Any = self.network
        detector: Detector | ExportedDetector = network.adjusted(
            score_threshold=score_threshold, classes=classes, tiles=tiles
        )
        return detector

    def classifier(self) -> Classifier | ExportedClassifier:
        """Return the classifier; raise RefusedError if the network is a detector."""
        if self.task != "classify":
            raise RefusedError(422, f"{self.name} is a detector; send the image to /v1/detect, or name a classifier.")
        network: Any = self.network
        classifier: Classifier | ExportedClassifier = network
        return classifier

    def to_dict(self) -> dict[str, Any]:
        """Return what /v1/model says about the network, without the limits of the server."""
        network: Any = self.network
        size = network.image_size if self.task == "detect" else _classifier_size(network)
        return {
            "name": self.name,
            "task": self.task,
            "class_names": list(network.class_names),
            "image_size": list(size),
            "score_threshold": getattr(network, "score_threshold", None),
            "lowest_score": getattr(network, "lowest_score", 0.0) if self.task == "detect" else None,
            "iou_threshold": getattr(network, "iou_threshold", None),
            "max_detections": getattr(network, "max_detections", None),
            "backend": self.backend,
            "device": self.device,
            "explains": self.explains,
            "card": dict(self.card),
        }


def _classifier_size(network: Any) -> tuple[int, int]:
    size: tuple[int, int] = network.input.image_size if hasattr(network, "input") else network.info.image_size
    return size


class Models:
    """Networks by name; the first is the default.

    Raises:
        InputError: if two have the same name.

    Example:
        >>> models = Models([open_model("yolo_lite-pico-voc5", Choices(device="cpu", batch_size=1))])
        >>> models.find(None).name, list(models.by_name)
        ('yolo_lite-pico-voc5', ['yolo_lite-pico-voc5'])
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.by_name = {model.name: model for model in models}
        self.default = models[0]
        for model in models:
            if self.by_name[model.name] is not model:
                raise InputError(
                    f"two networks are called {model.name!r}; give them different names, as in --weights first=a.pt second=b.pt"
                )

    def find(self, name: str | None, *, task: str | None = None) -> Model:
        """Return the network of a name; None stands for the default, or the first of a task.

        Raises:
            RefusedError: if there is none (422).
        """
        if name is None:
            fitting = (model for model in self.by_name.values() if task in (None, model.task))
            return next(fitting, self.default)
        if name not in self.by_name:
            raise RefusedError(422, f"This server has no network {short(name)}; {suggest(name, self.by_name)}.")
        return self.by_name[name]

    def warm_up(self) -> None:
        """Let each network work on a batch of each size; the calling thread then has the memory that they need."""
        for model in self.by_name.values():
            network: Any = model.network
            images = _probes(model.batch_sizes[-1])
            for size in model.batch_sizes:
                network(images[:size])

    def to_dict(self) -> dict[str, Any]:
        """Return what /v1/models says."""
        rows = [{"name": model.name, "task": model.task} for model in self.by_name.values()]
        return {"models": rows, "default": self.default.name}


def open_models(weights: Sequence[str], choices: Choices) -> Models:
    """Open several networks.

    Args:
        weights: as for `open_model`; none stands for the shipped detector.
        choices: how they are opened.

    Raises:
        InputError: if one cannot be opened, or two have the same name.

    Example:
        >>> models = open_models(["small=yolo_lite-pico-voc5"], Choices(device="cpu", batch_size=1))
        >>> models.to_dict()
        {'models': [{'name': 'small', 'task': 'detect'}], 'default': 'small'}
    """
    return Models([open_model(each, choices) for each in weights or [DEFAULT_WEIGHTS]])


def split_name(weights: str) -> tuple[str, str]:
    """Return the name that requests use, and the file, of a text such as NAME=FILE or FILE.

    Example:
        >>> split_name("small=runs/train-1/best.pt"), split_name("runs/train-1/best.onnx")
        (('small', 'runs/train-1/best.pt'), ('best', 'runs/train-1/best.onnx'))
    """
    name, equals, file = weights.partition("=")
    if equals and name and file and not Path(weights).exists():
        return name, file
    path = Path(weights)
    return (path.stem if path.suffix.lower() in (".pt", ".onnx", ".xml") else path.name), weights


def open_model(weights: str, choices: Choices) -> Model:
    """Open one network, and find the batches that do not change its results.

    Args:
        weights: a checkpoint, an exported file, or the bare name of a shipped one; NAME=FILE gives it a name.
        choices: how it is opened.

    Raises:
        InputError: if it cannot be opened, or a choice does not suit it.

    Example:
        >>> model = open_model("small=yolo_lite-pico-voc5", Choices(device="cpu", batch_size=1))
        >>> model.name, model.task, model.backend, model.explains
        ('small', 'detect', 'torch', True)
    """
    name, file = split_name(weights)
    exported = file.lower().endswith((".onnx", ".xml")) or not is_full()
    network, details = _open_exported(file, choices) if exported else _open_checkpoint(file, choices)
    task = "detect" if hasattr(network, "max_detections") else "classify"
    return Model(name, network, task, batch_sizes=_batch_sizes(network, choices), **details)


def _batch_sizes(network: Any, choices: Choices) -> tuple[int, ...]:
    if getattr(network, "tiling", None):
        return (1,)  # the tiles of an image are a batch already
    most = min(choices.batch_size, network.batch_size)
    if choices.any_batch:
        return tuple(range(1, most + 1))
    return equal_batches(_lowest(network) if hasattr(network, "adjusted") else network, most)


def _lowest(network: Any) -> Any:
    """Return a detector that reports as much as it can, so that a comparison sees every difference."""
    return network.adjusted(score_threshold=getattr(network, "lowest_score", 0.0))


def _open_checkpoint(file: str, choices: Choices) -> tuple[Any, dict[str, Any]]:
    from yolo_lite.checkpoints.card import card_values
    from yolo_lite.checkpoints.checkpoint import load_checkpoint
    from yolo_lite.predict.classifier import Classifier
    from yolo_lite.predict.detector import Detector

    path = find_weights(file)
    checkpoint = load_checkpoint(path)
    network: Any
    if checkpoint.is_classifier:
        _refuse_fixed(choices, "a classifier has no such setting")
        network = Classifier(path, choices.device, batch_size=choices.batch_size)
    else:
        network = Detector(
            path,
            choices.device,
            image_size=choices.image_size,
            score_threshold=choices.score_threshold,
            iou_threshold=choices.iou_threshold,
            max_detections=choices.max_detections,
            tta=choices.tta,
            tiles=choices.tiles,
            batch_size=choices.batch_size,
        )
    return network, {"backend": "torch", "device": str(network.device), "card": card_values(checkpoint)}


def _open_exported(file: str, choices: Choices) -> tuple[Any, dict[str, Any]]:
    from yolo_lite.runtime import Classifier, Detector
    from yolo_lite.runtime.session import Session

    if choices.device not in ("auto", "cpu"):
        raise InputError(f"an exported file runs on the CPU; leave out --device {choices.device}")
    session = Session(find_exported(file), threads=choices.threads)
    network: Any
    if session.info.task == "classify":
        _refuse_fixed(choices, "a classifier has no such setting")
        network = Classifier(session, batch_size=choices.batch_size)
    else:
        fixed = {"--image-size": choices.image_size, "--iou-threshold": choices.iou_threshold, "--tta": choices.tta}
        for flag, value in fixed.items():
            if value:
                raise InputError(f"{flag} is fixed in an exported file; leave it out, or use the checkpoint")
        network = Detector(
            session,
            score_threshold=choices.score_threshold,
            max_detections=choices.max_detections,
            tiles=choices.tiles,
            batch_size=choices.batch_size,
        )
    backend = "onnxruntime" if session.path.suffix.lower() == ".onnx" else "openvino"
    return network, {"backend": backend, "device": "cpu", "card": dict(session.info.about)}


def _refuse_fixed(choices: Choices, why: str) -> None:
    """Raise InputError if a setting of detectors is chosen for a network that has none."""
    given = {
        "--image-size": choices.image_size,
        "--score-threshold": choices.score_threshold,
        "--iou-threshold": choices.iou_threshold,
        "--max-detections": choices.max_detections,
        "--tta": choices.tta or None,
        "--tiles": choices.tiles,
    }
    for flag, value in given.items():
        if value is not None:
            raise InputError(f"{flag} cannot be used: {why}; leave it out, or serve the detector by itself")


def equal_batches(run: Callable[[list[Image]], Sequence[Any]], most: int) -> tuple[int, ...]:
    """Return the sizes of batches at which every result equals that of a single image bit for bit, beginning with 1.

    Libraries choose how to sum by the shape of a batch, so the last bits of a result may depend on its neighbours.
    That is a matter of shapes, not of pixels, and a comparison on some images shows it.

    Args:
        run: returns a result for each image.
        most: the largest size to try; the others are powers of 2.

    Example:
        >>> def run(images):
        ...     return [Classification([1, 0] if len(images) < 4 else [0.9, 0.1], ("a", "b")) for _ in images]
        >>> equal_batches(run, 8)
        (1, 2)
    """
    sizes = sorted({*(2**power for power in range(1, most.bit_length()) if 2**power < most), most} - {1})
    if not sizes:
        return (1,)
    images = _probes(max(_PROBES, most))
    single = [run([image])[0] for image in images]
    if not any(_size(result) for result in single):
        return (1,)  # nothing to compare
    kept = [1]
    for size in sizes:
        if all(map(is_equal, run(images[:size]), single)):
            kept.append(size)
    return tuple(kept)


def is_equal(a: Detections | Classification, b: Detections | Classification) -> bool:
    """Return whether two results are equal bit for bit.

    Example:
        >>> a, b = (Classification([x, 1 - x], ("a", "b")) for x in (0.5, 0.5000001))
        >>> is_equal(a, a), is_equal(a, b)
        (True, False)
    """
    if isinstance(a, Detections) and isinstance(b, Detections):
        pairs = ((a.boxes, b.boxes), (a.scores, b.scores), (a.labels, b.labels))
        return all(np.array_equal(x, y) for x, y in pairs)
    return np.array_equal(a.scores, b.scores)


def _size(result: Detections | Classification) -> int:
    return len(result.scores)


def _probes(count: int) -> list[Image]:
    """Return images of several sizes with blobs of all sizes, in which networks see something."""
    generator = np.random.default_rng(0)
    images = []
    for number in range(count):
        hw = (240 + 40 * (number % 5), 400 - 30 * (number % 7))
        coarse = [generator.integers(0, 256, (side, side, 3), np.uint8) for side in (3, 9, 33)]
        mixed = np.mean([resize_image(each, hw) for each in coarse], axis=0)
        images.append(mixed.astype(np.uint8))
    return images
