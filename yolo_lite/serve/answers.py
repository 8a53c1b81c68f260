"""The documents that answer requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.media.writers import encode_image
from yolo_lite.messages.frame import encode_frame
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification, Detections

if TYPE_CHECKING:
    from yolo_lite.predict.detector import Detector

SCHEMA_VERSION = 1


def detections_answer(detections: Detections, image_hw: tuple[int, int], *, source: str, captured_at: float) -> bytes:
    """Return detections as JSON, by the schema of messages.

    Args:
        detections: in pixels of the image.
        image_hw: height and width of the image.
        source: name of the image.
        captured_at: seconds since 1970 when the request arrived.

    Example:
        >>> found = Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"])
        >>> json.loads(detections_answer(found, (48, 64), source="a.jpg", captured_at=0.0))["detections"]
        [{'class_name': 'cat', 'label': 0, 'score': 0.5, 'box': [0.0, 0.0, 10.0, 20.0]}]
    """
    return encode_frame(DetectedFrame(source, 0, 0.0, captured_at, detections, image_hw=image_hw))


def drawing_answer(image: Image, detections: Detections) -> bytes:
    """Return an image with its detections drawn, as JPEG.

    Example:
        >>> nothing = Detections([], scores=[], labels=[], class_names=["cat"])
        >>> drawing_answer(np.zeros((48, 64, 3), np.uint8), nothing)[:3].hex()
        'ffd8ff'
    """
    return encode_image(draw_detections(image, detections), ".jpg")


def labels_answer(classification: Classification, image_hw: tuple[int, int], *, source: str, top: int) -> bytes:
    """Return the labels with the highest scores as JSON.

    Example:
        >>> result = Classification([0.25, 0.75], class_names=["cat", "dog"])
        >>> json.loads(labels_answer(result, (48, 64), source="a.jpg", top=1))["labels"]
        [{'class_name': 'dog', 'label': 1, 'score': 0.75}]
    """
    order = (-classification.scores).argsort(kind="stable")[:top].tolist()
    names, scores = classification.class_names, classification.scores
    labels = [{"class_name": names[label], "label": label, "score": float(scores[label])} for label in order]
    head = {"schema_version": SCHEMA_VERSION, "source": source, "image_size": [image_hw[1], image_hw[0]]}
    return to_json({**head, "labels": labels})


def explain_images(detector: Detector, images: Sequence[Image], *, box: Sequence[float]) -> list[dict[str, Any]]:
    """Return for each image why an object in a box was found or missed, in pixels of the image.

    Args:
        detector: of a checkpoint.
        images: uint8 [H, W, 3] RGB.
        box: of the object, xyxy, in pixels of the image.

    Example:
        >>> from yolo_lite import Detector
        >>> black = np.zeros((48, 64, 3), np.uint8)
        >>> document = explain_images(Detector(device="cpu"), [black], box=(0, 0, 32, 24))[0]
        >>> [level["stride"] for level in document["levels"]]
        [8, 16, 32, 64]
    """
    from yolo_lite.inspect.why import explain

    documents = []
    for image in images:
        pixels, letterbox, raw = detector.raw(image)
        levels, candidates = explain(
            raw,
            detector.model.decode,
            box=letterbox.boxes_to_input([box])[0].tolist(),
            score_threshold=detector.score_threshold,
            iou_threshold=detector.iou_threshold,
        )
        names = detector.class_names
        documents.append(
            {
                "schema_version": SCHEMA_VERSION,
                "image_size": [image.shape[1], image.shape[0]],
                "input_size": [pixels.shape[1], pixels.shape[0]],
                "score_threshold": detector.score_threshold,
                "iou_threshold": detector.iou_threshold,
                "levels": [_level(level, names) for level in levels],
                "candidates": [_candidate(candidate, names, letterbox) for candidate in candidates],
            }
        )
    return documents


def _level(level: Any, names: Sequence[str]) -> dict[str, Any]:
    return {
        "stride": level.stride,
        "points": level.points,
        "score": level.score,
        "class_name": names[level.label] if level.points else None,
        "iou": level.iou,
    }


def _candidate(candidate: Any, names: Sequence[str], letterbox: Any) -> dict[str, Any]:
    return {
        "class_name": names[candidate.label],
        "label": candidate.label,
        "score": candidate.score,
        "iou": candidate.iou,
        "stride": candidate.stride,
        "point": _to_original(candidate.point, letterbox),
        "cell": [candidate.stride / scale for scale in letterbox.scale_xy],
        "box": letterbox.boxes_to_original([candidate.box])[0].tolist(),
        "fate": candidate.fate,
        "by_score": candidate.by_score,
        "by_iou": candidate.by_iou,
    }


def _to_original(point: Sequence[float], letterbox: Any) -> list[float]:
    """Return a point in pixels of the image, outside it for a cell of the padding."""
    return [
        (side - offset) / scale
        for side, offset, scale in zip(point, letterbox.offset_xy, letterbox.scale_xy, strict=True)
    ]


def to_json(document: Any) -> bytes:
    """Return a document as JSON in ASCII.

    Example:
        >>> to_json({"a": [1, "\\u00e9"]})
        b'{"a":[1,"\\\\u00e9"]}'
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
