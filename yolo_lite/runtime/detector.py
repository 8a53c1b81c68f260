"""Detect with an exported network, without torch."""

from __future__ import annotations

import copy
import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from yolo_lite.checks import check_class_names, check_path, check_share, check_whole
from yolo_lite.errors import InputError, suggest
from yolo_lite.media.images import to_rgb
from yolo_lite.media.inputs import run_in_batches
from yolo_lite.media.windows import to_rgb_in_parts
from yolo_lite.runtime.session import Session
from yolo_lite.shipped import find_exported
from yolo_lite.stream.capture import Limits
from yolo_lite.stream.detect import USUAL, Source, stream_detections
from yolo_lite.stream.readers import Say
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.geometry import Image, Letterbox
from yolo_lite.structures.results import Detections, with_area
from yolo_lite.structures.tiles import Tiling, check_tiling, detect_in_tiles
from yolo_lite.tracking.streams import StreamTracks, track_frames
from yolo_lite.tracking.video import reporting_low_scores

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    ImageInput = str | os.PathLike[str] | Image | PillowImage


class Detector:
    """An exported detector: call it with an image to get `Detections`, as with a checkpoint.

    Args:
        weights: a file that `yolo-lite export` wrote, the bare name of a shipped one, or an open `Session`; None: the
            shipped one of yolo-lite-runtime (the full package ships none).
        score_threshold: the score above which detections are reported, not below that of the file; None: where F1 was
            highest on the validation images of the training.
        max_detections: the largest number of detections in an image, not above that of the file; None: that number.
        classes: names of the only classes to report; None: all.
        tiles: also look at the tiles of each image, as for the detector of a checkpoint.
        batch_size: number of images in a list, of frames in a video, or of tiles, that are processed together.
        threads: 0 for as many as ONNX Runtime chooses.

    Raises:
        InputError: if the file or a setting cannot be used.

    Example:
        >>> from yolo_lite import export
        >>> path = export("yolo_lite-pico-voc5", "pico.onnx", image_size=64, check=False)  # doctest: +SKIP
        >>> Detector(path)(np.zeros((48, 64, 3), np.uint8)).names  # doctest: +SKIP
        []
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | Session | None = None,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str] | None = None,
        tiles: str | int | Tiling | None = None,
        batch_size: int = 8,
        threads: int = 0,
    ) -> None:
        if not isinstance(weights, Session):
            weights = Session(
                find_exported(None if weights is None else check_path(weights, "weights")),
                threads=check_whole(threads, "threads", minimum=0),
            )
        self.weights, self._session = weights.path, weights
        self.info = info = self._session.info
        if info.task != "detect" or info.raw:
            kind = "a classifier" if info.task != "detect" else "a network without postprocessing (--raw)"
            raise InputError(f"{self.weights} is {kind}, expected a detector")
        self.class_names, self.category_ids, self.max_16bit = info.class_names, info.category_ids, info.max_16bit
        self.image_size, self.resize, self.iou_threshold = info.image_size, info.resize, info.iou_threshold
        self.lowest_score = info.lowest_score
        default = max(info.score_threshold, info.lowest_score)
        self.score_threshold = self._checked_threshold(default if score_threshold is None else score_threshold)
        self.max_detections = check_whole(max_detections or info.max_detections, "max_detections")
        self.tiling = check_tiling(tiles)
        self.batch_size = min(check_whole(batch_size, "batch_size"), self._session.batch or 2**31)
        self.classes = check_class_names(classes, self.class_names)
        self._allowed = self._mask(self.classes)

    def adjusted(
        self,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        tiles: str | int | Tiling | None = None,
    ) -> Detector:
        """Return a detector with the same opened file and other settings; those that are None stay as they are.

        Args:
            score_threshold, classes, tiles: as for the detector.

        Raises:
            InputError: if a setting cannot be used.
        """
        other = copy.copy(self)
        if score_threshold is not None:
            other.score_threshold = self._checked_threshold(score_threshold)
        if classes is not None:
            other.classes = check_class_names(classes, self.class_names)
            other._allowed = self._mask(other.classes)
        if tiles is not None:
            other.tiling = check_tiling(tiles)
        return other

    @overload
    def __call__(self, images: ImageInput) -> Detections: ...

    @overload
    def __call__(self, images: list[ImageInput] | tuple[ImageInput, ...]) -> list[Detections]: ...

    def __call__(self, images: ImageInput | list[ImageInput] | tuple[ImageInput, ...]) -> Detections | list[Detections]:
        """Detect the objects in one image, or in each image of a list.

        Args:
            images: a path; a NumPy array uint8 [H, W, 3] in RGB order; a PIL image; or a list of these.

        Returns:
            Detections in original pixels, clipped to the image; for a list, one for each image.

        Raises:
            InputError: if an image cannot be read, or is of the wrong type.
        """
        return run_in_batches(
            images,
            self._detect,
            batch_size=self.batch_size,
            max_16bit=self.max_16bit,
            read=to_rgb_in_parts if self.tiling else to_rgb,
        )

    def stream(
        self,
        source: Source | Sequence[Source],
        *,
        images: bool = False,
        every_frame: bool = False,
        limits: Limits = USUAL,
        say: Say = lambda line: None,
    ) -> Generator[DetectedFrame, None, None]:
        """Yield the detections in each frame of a video, a camera, a stream, or several of these in turn.

        Files are read completely. Of a live source the newest frame is taken; it is connected again if it is lost.

        Args:
            source: a path or pattern, a camera number, a URL (rtsp, http), a list of sources (.txt), - for standard
                input, or several of these.
            images: whether the results keep the frames, uint8 [H, W, 3] RGB.
            every_frame: whether every frame of a live source is processed, however far that falls behind.
            limits: time limits in seconds.
            say: called with a line when a source is lost and when it is back, and for each file that is skipped.

        Raises:
            InputError: if a source cannot be opened; after the last frame, if a video ends early.
        """
        return stream_detections(self, source, images=images, every_frame=every_frame, limits=limits, say=say)

    def track(
        self,
        source: Source | Sequence[Source],
        *,
        images: bool = False,
        every_frame: bool = False,
        limits: Limits = USUAL,
        say: Say = lambda line: None,
        tracks: StreamTracks | None = None,
    ) -> Generator[DetectedFrame, None, None]:
        """Yield what `stream` yields, with the tracked objects of each frame, whose `track_ids` stay the same.

        Args:
            source, images, every_frame, limits, say: as for `stream`.
            tracks: count lines and zones, and their counts so far; None: objects are followed, and nothing is counted.

        Raises:
            InputError: as `stream` does, or if a source is an image.
        """
        frames = reporting_low_scores(self).stream(
            source, images=images, every_frame=every_frame, limits=limits, say=say
        )
        return track_frames(frames, tracks or StreamTracks.of(self))

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        return detect_in_tiles(
            images,
            self._detect_whole,
            tiling=self.tiling,
            batch_size=self.batch_size,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
        )

    def _detect_whole(self, images: list[Image]) -> list[Detections]:
        letterboxes = [
            Letterbox.fit((image.shape[0], image.shape[1]), self.image_size, resize=self.resize) for image in images
        ]
        inputs = np.stack([letterbox.apply(image) for letterbox, image in zip(letterboxes, images)])
        boxes, scores, labels, counts = self._session.run(inputs)
        found = []
        for i, letterbox in enumerate(letterboxes):
            rows = slice(0, int(counts[i]))
            chosen = np.flatnonzero((scores[i, rows] > self.score_threshold) & self._allowed[labels[i, rows]])
            chosen = chosen[: self.max_detections]
            inside = Detections(
                boxes[i, chosen], scores[i, chosen], labels=labels[i, chosen], class_names=self.class_names
            )
            found.append(with_area(letterbox.undo(inside)))
        return found

    def _checked_threshold(self, value: float) -> float:
        threshold, lowest = check_share(value, "score_threshold"), self.lowest_score
        if threshold < lowest:
            raise InputError(
                f"{self.weights} returns detections with scores above {lowest:g}, so score_threshold must not "
                f"be below it, got {threshold:g}; export again with a lower --score-threshold"
            )
        return threshold

    def _mask(self, classes: Sequence[str] | None) -> npt.NDArray[np.bool_]:
        for name in classes or ():
            if name not in self.class_names:
                raise InputError(f"{self.weights.name} has no class {name!r}; {suggest(name, self.class_names)}")
        return np.array([classes is None or name in classes for name in self.class_names])
