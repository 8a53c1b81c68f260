"""The hand-made ground truth of two videos, as detections with track ids for each frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from yolo_lite.structures.results import Detections

FILE = Path(__file__).with_name("ground_truth.json")


def true_tracks(name: str, class_names: tuple[str, ...]) -> list[Detections]:
    """Return the objects in each frame of a video; between key frames their boxes are interpolated.

    Args:
        name: file name of the video.
        class_names: of the detector, for the labels.
    """
    video = json.loads(FILE.read_text(encoding="utf-8"))["videos"][name]
    rows: list[list[tuple[int, int, list[float]]]] = [[] for _ in range(video["frames"])]
    for track in video["tracks"]:
        keys = sorted(map(int, track["boxes"]))
        sides = np.array([track["boxes"][str(key)] for key in keys], float)
        label = class_names.index(track["class_name"])
        for number in range(keys[0], keys[-1] + 1):
            rows[number].append((track["track_id"], label, [float(np.interp(number, keys, side)) for side in sides.T]))
    return [
        Detections(
            np.array([box for *_, box in objects]).reshape(-1, 4),
            [1.0] * len(objects),
            labels=[label for _, label, _ in objects],
            class_names=class_names,
            track_ids=np.array([number for number, *_ in objects], int),
        )
        for objects in rows
    ]
