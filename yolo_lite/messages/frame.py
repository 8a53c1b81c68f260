"""One JSON document per frame; `frame.schema.json` beside this module describes it."""

from __future__ import annotations

import json
from typing import Any

from yolo_lite.structures.frames import DetectedFrame

SCHEMA_VERSION = 1


def frame_document(frame: DetectedFrame) -> dict[str, Any]:
    """Return a frame as plain values.

    Returns:
        schema_version, source, frame (its number), captured_at (seconds since 1970), time (seconds in the source),
        image_size ([width, height]), dropped, detections, and line_counts and zone_counts if there are lines and zones.
        Each detection has class_name, label, score and box (xyxy in pixels), and track_id if it is tracked.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> found = Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"])
        >>> frame_document(DetectedFrame("camera 0", 7, 1.5, 1e9, found, image_hw=(48, 64)))["detections"]
        [{'class_name': 'cat', 'label': 0, 'score': 0.5, 'box': [0.0, 0.0, 10.0, 20.0]}]
    """
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": frame.source,
        "frame": frame.number,
        "captured_at": frame.captured_at,
        "time": frame.time,
        "image_size": [frame.image_hw[1], frame.image_hw[0]],
        "dropped": frame.dropped,
        **frame.detections.to_dict(),
    }
    for key, places in (("line_counts", frame.line_counts), ("zone_counts", frame.zone_counts)):
        if places is not None:
            document[key] = {name: dict(counts) for name, counts in places.items()}
    return document


def encode_frame(frame: DetectedFrame) -> bytes:
    """Return the document of a frame as one line of JSON, in ASCII and without a line break.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> nothing = Detections([], scores=[], labels=[], class_names=["cat"])
        >>> json.loads(encode_frame(DetectedFrame("camera 0", 7, 1.5, 1e9, nothing, image_hw=(48, 64))))["frame"]
        7
    """
    return json.dumps(frame_document(frame), separators=(",", ":"), allow_nan=False).encode("ascii")
