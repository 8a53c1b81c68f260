"""Images as arrays, and the one mapping between original pixels and input pixels.

There are exactly two coordinate frames: **original pixels** (of the image as a person sees it, with EXIF rotation
applied) and **input pixels** (of the resized, padded array that enters the network). Coordinates are continuous: an
image of width W spans 0..W. Boxes are x1, y1, x2, y2 ("xyxy") unless a name states another format.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.resize import resize_bilinearly, resize_by_area
from yolo_lite.structures.results import Detections

Image = npt.NDArray[np.uint8]  # [H, W, 3] RGB
PAD_VALUE = 114  # grey of the letterbox's border, and of areas that an augmentation uncovers


@dataclass(frozen=True)
class Letterbox:
    """The mapping between one image's original pixels and its input pixels.

    `fit` computes the mapping, `apply` resizes an image by it, and `boxes_to_input` and `boxes_to_original` map boxes.
    Training, evaluation, detection and exports all use this class, so they all follow the same rule:

    - "letterbox" keeps the aspect ratio: both sides are scaled by one factor, and the content is centred in a grey
      border (114, 114, 114). An odd pixel of the border goes to the right or bottom.
    - "corner" is a letterbox with the image in the upper left corner and its sides rounded down, as in YOLOX.
    - "stretch" fills the input and scales each side by its own factor.
    - `resize_image` interpolates: by area when the image shrinks, bilinearly when it grows.

    Example:
        >>> letterbox = Letterbox.fit((100, 200), (320, 320))  # scale 1.6: 160 x 320 pixels, 80 rows down
        >>> letterbox.boxes_to_input([[0, 0, 200, 100]]).tolist()
        [[0.0, 80.0, 320.0, 240.0]]
    """

    original_hw: tuple[int, int]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]  # size of the resized image inside the input
    offset_xy: tuple[int, int]  # its upper left corner, in input pixels

    @classmethod
    def fit(cls, original_hw: tuple[int, int], input_hw: tuple[int, int], *, resize: str = "letterbox") -> Letterbox:
        """Fit an image of size (height, width) into an input of size (height, width).

        Raises:
            ValueError: if resize is not "letterbox", "corner" or "stretch", or a size is not positive.

        Example:
            >>> Letterbox.fit((480, 640), (320, 320)).content_hw
            (240, 320)
            >>> Letterbox.fit((480, 640), (320, 320), resize="stretch").content_hw
            (320, 320)
        """
        if min(*original_hw, *input_hw) <= 0:
            raise ValueError(f"sizes must be positive, got {original_hw} and {input_hw} (height, width)")
        if resize == "stretch":
            return cls(original_hw, input_hw, content_hw=input_hw, offset_xy=(0, 0))
        if resize not in ("letterbox", "corner"):
            raise ValueError(f"resize must be 'letterbox', 'corner' or 'stretch', got {resize!r}")
        scale = min(input_hw[0] / original_hw[0], input_hw[1] / original_hw[1])
        if resize == "corner":
            height, width = (max(1, min(side, int(scale * old + 1e-9))) for side, old in zip(input_hw, original_hw))
            return cls(original_hw, input_hw, content_hw=(height, width), offset_xy=(0, 0))
        height, width = (max(1, min(side, round(scale * old))) for side, old in zip(input_hw, original_hw))
        return cls(
            original_hw,
            input_hw,
            content_hw=(height, width),
            offset_xy=((input_hw[1] - width) // 2, (input_hw[0] - height) // 2),
        )

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels per original pixel along x and y; in a letterbox too they may differ slightly, by rounding."""
        return self.content_hw[1] / self.original_hw[1], self.content_hw[0] / self.original_hw[0]

    def apply(self, image: Image) -> Image:
        """Return the input image, uint8 [H, W, 3], for an original image of size `original_hw`.

        Raises:
            ValueError: if the image has another size.

        Example:
            >>> Letterbox.fit((1, 2), (2, 2)).apply(np.zeros((1, 2, 3), np.uint8))[..., 0].tolist()
            [[0, 0], [114, 114]]
        """
        if image.shape[:2] != self.original_hw:
            raise ValueError(f"image must be {self.original_hw} (height, width), got {image.shape[:2]}")
        content = resize_image(image, self.content_hw)
        if self.content_hw == self.input_hw:
            return content
        result: Image = np.full((*self.input_hw, 3), PAD_VALUE, np.uint8)
        x, y = self.offset_xy
        result[y : y + self.content_hw[0], x : x + self.content_hw[1]] = content
        return result

    def boxes_to_input(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Map xyxy boxes [N, 4] from original pixels to input pixels, float32.

        Example:
            >>> Letterbox.fit((100, 200), (320, 320)).boxes_to_input([[0, 0, 10, 10]]).tolist()  # scale 1.6
            [[0.0, 80.0, 16.0, 96.0]]
        """
        return (np.asarray(boxes, np.float64).reshape(-1, 4) * self._scale4 + self._offset4).astype(np.float32)

    def boxes_to_original(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Map xyxy boxes [N, 4] from input pixels to original pixels, float32, clipped to the image.

        Example:
            >>> Letterbox.fit((100, 200), (320, 320)).boxes_to_original([[0, 80, 16, 320]]).tolist()
            [[0.0, 0.0, 10.0, 100.0]]
        """
        mapped = (np.asarray(boxes, np.float64).reshape(-1, 4) - self._offset4) / self._scale4
        height, width = self.original_hw
        return np.clip(mapped, 0, [width, height, width, height]).astype(np.float32)

    def undo(self, detections: Detections) -> Detections:
        """Return detections in original pixels from detections in input pixels, clipped to the image.

        Example:
            >>> found = Detections([[0, 80, 16, 96]], scores=[0.5], labels=[0], class_names=["cat"])
            >>> Letterbox.fit((100, 200), (320, 320)).undo(found).boxes.tolist()  # scale 1.6
            [[0.0, 0.0, 10.0, 10.0]]
        """
        return replace(detections, boxes=self.boxes_to_original(detections.boxes))

    @property
    def _scale4(self) -> npt.NDArray[np.float64]:
        return np.array(self.scale_xy * 2)

    @property
    def _offset4(self) -> npt.NDArray[np.float64]:
        return np.array(self.offset_xy * 2, np.float64)


def resize_image(image: Image, hw: tuple[int, int]) -> Image:
    """Return a copy of an image with the size (height, width).

    Pixels are averaged by area unless a side grows, and otherwise interpolated bilinearly; pixel centres lie at
    half-pixel positions. The bytes are those of OpenCV's INTER_AREA and INTER_LINEAR.

    Example:
        >>> resize_image(np.array([[[0, 0, 0], [100, 100, 100]]], np.uint8), (1, 1)).tolist()
        [[[50, 50, 50]]]
    """
    if image.shape[:2] == hw:
        return np.array(image)
    shrinks = hw[0] <= image.shape[0] and hw[1] <= image.shape[1]
    return resize_by_area(image, hw) if shrinks else resize_bilinearly(image, hw)
