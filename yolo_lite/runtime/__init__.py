"""Run exported networks without torch: `Detector` and `Classifier` take a file that `yolo-lite export` wrote.

Example:
    >>> from yolo_lite.runtime import Detector
    >>> Detector("missing.onnx")
    Traceback (most recent call last):
    yolo_lite.errors.InputError: missing.onnx does not exist
"""

from yolo_lite.runtime.classifier import Classifier
from yolo_lite.runtime.detector import Detector

__all__ = ["Classifier", "Detector"]
