"""What crosses `forward` and the loader: tuples of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class ClassSample(NamedTuple):
    """One image ready for a classifier."""

    image: Tensor  # uint8 [channels, H, W]
    label: int
    position: int  # in the data set


class ClassBatch(NamedTuple):
    """Such samples stacked."""

    images: Tensor  # uint8 [B, channels, H, W], channels last in memory
    labels: Tensor  # int64 [B]
    positions: Tensor  # int64 [B], in the data set

    def part(self, start: int, stop: int) -> ClassBatch:
        """Return the samples from start to stop."""
        return ClassBatch(*(whole[start:stop] for whole in self))


class Sample(NamedTuple):
    """One image ready for the network, in input pixels."""

    image: Tensor  # uint8 [3, H, W] RGB
    boxes: Tensor  # float32 [N, 4] xyxy
    labels: Tensor  # int64 [N]
    position: int  # in the data set
    unlabelled: tuple[int, ...] = ()  # classes whose absence means nothing here


class Batch(NamedTuple):
    """Samples stacked, in input pixels; each image's boxes are padded to the same count N."""

    images: Tensor  # uint8 [B, 3, H, W] RGB, channels last in memory
    boxes: Tensor  # float32 [B, N, 4] xyxy, zeros in the padding
    labels: Tensor  # int64 [B, N], -1 in the padding
    positions: Tensor  # int64 [B], in the data set
    unlabelled: Tensor | None = None  # int64 [K, 2]: (image, class) pairs where absence means nothing

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from start to stop."""
        pairs = self.unlabelled
        if pairs is not None:
            pairs = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < stop)]
            pairs = pairs - pairs.new_tensor([start, 0])
        images, boxes, labels, positions = (whole[start:stop] for whole in self[:4])
        return Batch(images, boxes, labels=labels, positions=positions, unlabelled=pairs)


class RawPredictions(NamedTuple):
    """What every detection head returns for its A points, before anything is chosen; points in input pixels."""

    box_outputs: Tensor  # [B, A, D], the head's own; its `decode` turns them into boxes
    class_logits: Tensor  # [B, A, C]; the sigmoid is the final score
    points: Tensor  # float32 [A, 2] x, y
    strides: Tensor  # float32 [A], input pixels between neighbouring points
