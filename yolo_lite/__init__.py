"""yolo_lite: object detection that works offline, is correct and can prove it.

Importing this package does no work: each public name is imported when it is first used.

Example:
    >>> from yolo_lite import Detector
    >>> detections = Detector("yolo_lite-shuffle-coco", device="cpu")("photo.jpg")
    >>> detections.names[0]
    'person'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolo_lite.version import VERSION

if TYPE_CHECKING:
    from yolo_lite.evaluation.classifier import evaluate_classifier as evaluate_classifier
    from yolo_lite.evaluation.detector import evaluate as evaluate
    from yolo_lite.exporting.export import export as export
    from yolo_lite.predict.classifier import Classifier as Classifier
    from yolo_lite.predict.detector import Detector as Detector
    from yolo_lite.reporting.report import report as report
    from yolo_lite.structures.results import Classification as Classification
    from yolo_lite.structures.results import Detections as Detections
    from yolo_lite.tracking.tracker import Tracker as Tracker
    from yolo_lite.training.recipe import train as train
    from yolo_lite.training.recipe import train_classifier as train_classifier

__version__ = VERSION

_HOMES = {
    "Classification": "yolo_lite.structures.results",
    "Classifier": "yolo_lite.predict.classifier",
    "Detections": "yolo_lite.structures.results",
    "Detector": "yolo_lite.predict.detector",
    "Tracker": "yolo_lite.tracking.tracker",
    "evaluate": "yolo_lite.evaluation.detector",
    "evaluate_classifier": "yolo_lite.evaluation.classifier",
    "export": "yolo_lite.exporting.export",
    "report": "yolo_lite.reporting.report",
    "train": "yolo_lite.training.recipe",
    "train_classifier": "yolo_lite.training.recipe",
}
__all__ = [
    "Classification",
    "Classifier",
    "Detections",
    "Detector",
    "Tracker",
    "evaluate",
    "evaluate_classifier",
    "export",
    "report",
    "train",
    "train_classifier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yolo_lite' has no attribute {name!r}; it offers {', '.join(sorted(_HOMES))}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        is_own = str(error.name).startswith("yolo_lite")  # yolo-lite-runtime lacks most modules
        needed = "the full package yolo-lite" if is_own else f"{error.name}, which is not installed"
        instead = f"; without torch, use yolo_lite.runtime.{name}" if name in ("Classifier", "Detector") else ""
        raise ImportError(f"yolo_lite.{name} needs {needed}{instead}") from error


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
