"""yolo_lite: object detection that works offline, is right and can prove it.

Importing this package does no work: each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_lite.engine.classify import Classifier as Classifier
    from yolo_lite.engine.classify import evaluate_classifier as evaluate_classifier
    from yolo_lite.engine.evaluate import evaluate as evaluate
    from yolo_lite.engine.predict import Detector as Detector
    from yolo_lite.engine.train import train as train
    from yolo_lite.engine.train import train_classifier as train_classifier
    from yolo_lite.structures import Classification as Classification
    from yolo_lite.structures import Detections as Detections

__version__ = "0.1.0"

_HOMES = {
    "Classification": "yolo_lite.structures",
    "Classifier": "yolo_lite.engine.classify",
    "Detections": "yolo_lite.structures",
    "Detector": "yolo_lite.engine.predict",
    "evaluate": "yolo_lite.engine.evaluate",
    "evaluate_classifier": "yolo_lite.engine.classify",
    "train": "yolo_lite.engine.train",
    "train_classifier": "yolo_lite.engine.train",
}
__all__ = [
    "Classification",
    "Classifier",
    "Detections",
    "Detector",
    "evaluate",
    "evaluate_classifier",
    "train",
    "train_classifier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yolo_lite' has no attribute {name!r}; it offers {', '.join(sorted(_HOMES))}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
