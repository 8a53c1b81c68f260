"""Detect the objects in images and videos with trained weights."""

from __future__ import annotations

import copy
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from yolo_lite.checkpoints.checkpoint import Checkpoint, build_from_checkpoint, load_checkpoint
from yolo_lite.checks import check_class_names, check_path, check_share, check_side_lengths, check_whole
from yolo_lite.config.schema import check_image_size
from yolo_lite.device import explain_out_of_memory, pick_device, place
from yolo_lite.errors import InputError, suggest
from yolo_lite.media.images import to_rgb
from yolo_lite.media.inputs import run_in_batches
from yolo_lite.media.windows import to_rgb_in_parts
from yolo_lite.predict.flip import predict
from yolo_lite.predict.postprocess import CANDIDATES, postprocess, to_detections
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_weights
from yolo_lite.stream.capture import Limits
from yolo_lite.stream.detect import USUAL, Source, stream_detections
from yolo_lite.stream.readers import Say
from yolo_lite.structures.batches import RawPredictions
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
    """A trained detector: call it with an image to get `Detections`.

    Every setting that is None takes its value from the weights.

    Args:
        weights: a file, the bare name of a shipped file, or a loaded checkpoint.
        device: auto, cpu, cuda or mps, or a torch device.
        image_size: (height, width) of the input, or one number for both; None: the size used in training.
        score_threshold: the score above which detections are reported; None: where F1 was highest on the validation
            images, or 0.25 if that is unknown.
        iou_threshold: the IoU of two detections of one class above which the lower score is dropped; None: mostly 0.6.
        max_detections: the largest number of detections in an image; None: mostly 300.
        classes: names of the only classes to report; None: all.
        tta: test-time augmentation: look at each image mirrored as well, which takes about twice as long.
        tiles: also look at the tiles of each image, to find small objects: rows and columns such as "2x2", the side of
            a tile in pixels of the image, or a `Tiling`; None: the whole image only.
        batch_size: number of images in a list, of frames in a video, or of tiles, that are processed together.

    Raises:
        InputError: if the weights, the device or a setting cannot be used.

    Example:
        >>> detector = Detector("yolo_lite-shuffle-coco", device="cpu")
        >>> detections = detector("photo.jpg")
        >>> detections[0].names
        ['person']
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | Checkpoint = DEFAULT_WEIGHTS,
        device: str | torch.device = "auto",
        *,
        image_size: tuple[int, int] | int | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str] | None = None,
        tta: bool = False,
        tiles: str | int | Tiling | None = None,
        batch_size: int = 8,
    ) -> None:
        if isinstance(weights, Checkpoint):
            self.weights, checkpoint = Path(weights.config.name), weights
        else:
            self.weights = find_weights(check_path(weights, "weights"))
            checkpoint = load_checkpoint(self.weights)
        self.class_names, self.category_ids = checkpoint.class_names, checkpoint.category_ids
        self.image_size = checkpoint.config.input.image_size if image_size is None else check_side_lengths(image_size)
        check_image_size(self.image_size, name="image_size")
        self.resize, self.max_16bit = checkpoint.config.input.resize, checkpoint.config.input.max_16bit
        self.device = pick_device(device)
        self.model = place(build_from_checkpoint(checkpoint, self.weights), self.device)
        above = checkpoint.score_threshold if score_threshold is None else score_threshold
        self.score_threshold = check_share(above, "score_threshold")
        chosen = checkpoint.config.postprocess
        overlap = chosen.iou_threshold if iou_threshold is None else iou_threshold
        self.iou_threshold = check_share(overlap, "iou_threshold")
        most = chosen.max_detections if max_detections is None else max_detections
        self.max_detections = check_whole(most, "max_detections")
        self.tta, self.tiling = tta, check_tiling(tiles)
        self.batch_size = check_whole(batch_size, "batch_size")
        self.classes = check_class_names(classes, self.class_names)
        self._allowed = self._mask(self.classes)

    @classmethod
    def from_darknet(
        cls,
        cfg: str | os.PathLike[str],
        weights: str | os.PathLike[str],
        *,
        names: str | os.PathLike[str] | None = None,
        resize: str = "stretch",
        **settings: Any,
    ) -> Detector:
        """Build a detector from files of Darknet.

        Args:
            cfg: the .cfg file.
            weights: the .weights file.
            names: a file with one class name per line.
            resize: "stretch" as in AlexeyAB's Darknet, or "letterbox" as in Redmon's.
            settings: other arguments of `Detector`, such as device and score_threshold.

        Raises:
            InputError: if the network has an unknown layer, or the weights do not fit it.

        Example:
            >>> Detector.from_darknet("yolov2-tiny.cfg", "yolov2-tiny.weights")
            Traceback (most recent call last):
            yolo_lite.errors.InputError: yolov2-tiny.cfg does not exist
        """
        from yolo_lite.checkpoints.convert.darknet import load_darknet

        checkpoint = load_darknet(
            Path(check_path(cfg, "cfg")),
            Path(check_path(weights, "weights")),
            names=Path(check_path(names, "names")) if names else None,
            resize=resize,
        )
        return cls(checkpoint, **settings)

    def adjusted(
        self,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        tiles: str | int | Tiling | None = None,
    ) -> Detector:
        """Return a detector with the same network and other settings; those that are None stay as they are.

        Args:
            score_threshold, classes, tiles: as for the detector.

        Raises:
            InputError: if a setting cannot be used.

        Example:
            >>> detector = Detector("yolo_lite-pico-voc5", device="cpu", score_threshold=0.5)
            >>> detector.adjusted(score_threshold=0.9).score_threshold, detector.score_threshold
            (0.9, 0.5)
        """
        other = copy.copy(self)
        if score_threshold is not None:
            other.score_threshold = check_share(score_threshold, "score_threshold")
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
            images: a path; a NumPy array uint8 [H, W, 3] in RGB order (OpenCV reads BGR: pass `image[..., ::-1]`);
                a PIL image (rotated upright by its EXIF orientation, like a file); or a list of these.

        Returns:
            Detections in original pixels, clipped to the image; for a list, one for each image.

        Raises:
            InputError: if an image cannot be read, or is of the wrong type; the message names the file, or the type.

        Example:
            >>> detector = Detector("yolo_lite-pico-voc5", device="cpu")
            >>> [len(found) for found in detector([np.zeros((48, 64, 3), np.uint8)] * 2)]  # two black images
            [0, 0]
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

        Example:
            >>> from yolo_lite.media.writers import VideoWriter
            >>> with VideoWriter(Path("dark.mp4"), 10, hw=(48, 64)) as writer:
            ...     writer.write(np.zeros((48, 64, 3), np.uint8))
            >>> detector = Detector("yolo_lite-pico-voc5", device="cpu")
            >>> [(result.number, len(result.detections)) for result in detector.stream("dark.mp4")]
            [(0, 0)]
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

        Example:
            >>> from yolo_lite.media.writers import VideoWriter
            >>> with VideoWriter(Path("night.mp4"), 10, hw=(48, 64)) as writer:
            ...     writer.write(np.zeros((48, 64, 3), np.uint8))
            >>> detector = Detector("yolo_lite-pico-voc5", device="cpu")
            >>> [result.detections.track_ids.tolist() for result in detector.track("night.mp4")]
            [[]]
        """
        frames = reporting_low_scores(self).stream(
            source, images=images, every_frame=every_frame, limits=limits, say=say
        )
        return track_frames(frames, tracks or StreamTracks.of(self))

    @torch.inference_mode()
    def raw(self, source: ImageInput) -> tuple[Image, Letterbox, RawPredictions]:
        """Return the input made from an image, uint8 [H, W, 3], the mapping to it, and all predictions, on the CPU.

        Example:
            >>> pixels, letterbox, raw = Detector("yolo_lite-pico-voc5", device="cpu").raw("photo.jpg")
            >>> pixels.shape, letterbox.original_hw
            ((320, 320, 3), (600, 512))
        """
        image = to_rgb(source, self.max_16bit)
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), self.image_size, resize=self.resize)
        pixels = letterbox.apply(image)
        raw = self.model(torch.from_numpy(pixels).to(self.device).permute(2, 0, 1).unsqueeze(0))
        return pixels, letterbox, RawPredictions(*(part.cpu() for part in raw))

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        return detect_in_tiles(
            images,
            self._detect_whole,
            tiling=self.tiling,
            batch_size=self.batch_size,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
        )

    @torch.inference_mode()
    def _detect_whole(self, images: list[Image]) -> list[Detections]:
        if not images:
            return []
        letterboxes = [
            Letterbox.fit((image.shape[0], image.shape[1]), self.image_size, resize=self.resize) for image in images
        ]
        inputs = np.stack([letterbox.apply(image) for letterbox, image in zip(letterboxes, images)])
        batch = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2)  # channels last in memory, without a copy
        size = " x ".join(str(side) for side in self.image_size)
        with explain_out_of_memory(f"use a smaller batch size (now {len(images)}) or image size (now {size})"):
            raw, decode = predict(self.model, batch, tta=self.tta)
            most = min(self.max_detections, CANDIDATES)
            rows, counts = postprocess(
                raw,
                decode,
                score_threshold=self.score_threshold,
                iou_threshold=self.iou_threshold,
                max_detections=most,
                allowed=self._allowed,
            )
        found = to_detections(rows, counts, class_names=self.class_names)
        return [with_area(letterbox.undo(one)) for letterbox, one in zip(letterboxes, found)]

    def _mask(self, classes: Sequence[str] | None) -> torch.Tensor | None:
        if classes is None:
            return None
        for name in classes:
            if name not in self.class_names:
                raise InputError(
                    f"the weights {self.weights.name} have no class {name!r}; {suggest(name, self.class_names)}"
                )
        return torch.tensor([name in classes for name in self.class_names])
