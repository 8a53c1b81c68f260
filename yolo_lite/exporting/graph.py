"""The modules that are exported: a network with its postprocessing, pixels in and results out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.exporting.suppression import suppress
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.postprocess import CANDIDATES
from yolo_lite.structures.batches import RawPredictions

# NMS as an operator that `onnx.py` translates to standard operators. Only the shapes are known to torch; nothing computes it here.
_LIBRARY: Any = torch.library.Library("yolo_lite_export", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("candidates(Tensor logits, float limit) -> Tensor")
_LIBRARY.define(
    "select(Tensor boxes, Tensor scores, float iou_threshold, float score_threshold, int max_detections) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def _shapes(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (boxes.shape[0], max_detections)
    return (
        boxes.new_empty((*shape, 4)),
        boxes.new_empty(shape),
        boxes.new_empty(shape, dtype=torch.int64),
        boxes.new_empty(shape[:1], dtype=torch.int32),
    )


def _some(logits: Tensor, limit: float) -> Tensor:
    return logits.new_empty(torch.library.get_ctx().new_dynamic_size(min=1), dtype=torch.int64)


torch.library.register_fake("yolo_lite_export::candidates", _some, lib=_LIBRARY)
torch.library.register_fake("yolo_lite_export::select", _shapes, lib=_LIBRARY)
CHOOSE = torch.ops.yolo_lite_export.candidates.default
SELECT = torch.ops.yolo_lite_export.select.default


class _Predictor(nn.Module):
    """A detector's network on pixels as they come: uint8 images [B, H, W, 3] to RawPredictions."""

    def __init__(self, model: Yolo) -> None:
        super().__init__()
        self.model = model
        self.divides = bool((model.std != 1).any())

    def predict(self, images: Tensor) -> RawPredictions:
        """Apply the network as `Yolo.forward` does, without dividing by a standard deviation of 1."""
        x = images.permute(0, 3, 1, 2).float() - self.model.mean
        if self.divides:
            x = x / self.model.std
        return self.model.head(self.model.neck(self.model.backbone(x)))


class RawDetector(_Predictor):
    """A detector without NMS: uint8 images [B, H, W, 3] to boxes [B, A, 4] xyxy, input pixels, and scores [B, A, C].

    Example:
        >>> from yolo_lite.predict.detector import Detector
        >>> model = RawDetector(Detector("yolo_lite-pico-voc5", device="cpu").model)
        >>> [tuple(part.shape) for part in model(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))]
        [(1, 84, 4), (1, 84, 5)]
    """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes and scores of every point."""
        raw = self.predict(images)
        every = torch.arange(raw.points.shape[0]).expand(raw.class_logits.shape[0], -1)
        return self.model.decode(raw, every).float(), raw.class_logits.float().sigmoid()


class ExportedDetector(_Predictor):
    """A detector with NMS: uint8 images [B, H, W, 3] to boxes, scores, labels and counts.

    Only points whose best class may reach the score threshold, in any of the images, are decoded.

    Args:
        model: in evaluation mode.
        score_threshold: the score above which detections are returned.
        iou_threshold: of the NMS within each class.
        max_detections: K.
    """

    def __init__(self, model: Yolo, *, score_threshold: float, iou_threshold: float, max_detections: int) -> None:
        super().__init__(model)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return boxes [B, K, 4] xyxy in input pixels, scores [B, K] descending, labels int64 [B, K], counts int32 [B]."""
        raw = self.predict(images)
        logits = raw.class_logits.float()
        chosen: Tensor = torch.ops.yolo_lite_export.candidates(logits, _safe_logit(self.score_threshold))
        boxes = self.model.decode(raw, chosen.expand(logits.shape[0], -1)).float()
        scores = logits.index_select(1, chosen).sigmoid()
        found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.yolo_lite_export.select(
            boxes, scores, self.iou_threshold, self.score_threshold, self.max_detections
        )
        return found


def _safe_logit(score: float) -> float:
    """Return a logit a little below that of a score, so that no rounding in the sigmoid loses a candidate."""
    low, high = 1e-30, 1 - 1e-7  # a logit beyond these is out of reach of float32
    return -math.inf if score < low else math.log(min(score, high) / (1 - min(score, high))) - 1e-3


class PlainDetector(ExportedDetector):
    """A detector whose NMS consists of torch's own operators alone, so that its file needs nothing of this package.

    As in `predict.postprocess`, the best CANDIDATES (point, class) pairs of an image enter the NMS.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return boxes [B, K, 4] xyxy in input pixels, scores [B, K] descending, labels int64 [B, K], counts int32 [B]."""
        raw = self.predict(images)
        points, classes = raw.class_logits.shape[1:]
        logits, pairs = raw.class_logits.float().flatten(1).topk(min(CANDIDATES, points * classes), dim=1)
        return suppress(
            self.model.decode(raw, pairs // classes).float(),
            logits.sigmoid(),
            labels=pairs % classes,
            iou_threshold=self.iou_threshold,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
        )


class ExportedClassifier(nn.Module):
    """A classifier: uint8 images [B, H, W, channels] to scores [B, C] with a sum of 1.

    Example:
        >>> from yolo_lite.config.resolve import read_config
        >>> from yolo_lite.models.classifiers.build import build_classifier
        >>> from yolo_lite.shipped import find_config
        >>> net = build_classifier(read_config(find_config("mnist_small")), 10).eval()
        >>> float(ExportedClassifier(net)(torch.zeros(1, 28, 28, 1, dtype=torch.uint8)).sum().round(decimals=4))
        1.0
    """

    def __init__(self, model: ClassifierNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes."""
        return self.model.scores(self.model(images.permute(0, 3, 1, 2)))
