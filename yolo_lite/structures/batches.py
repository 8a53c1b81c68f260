"""Named tuples of tensors that pass between the loader, the networks and the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class ClassSample(NamedTuple):
    """One image ready for a classifier."""

    image: Tensor  # uint8 [channels, H, W]
    label: int
    position: int  # position in the data set


class ClassBatch(NamedTuple):
    """A stack of samples for a classifier."""

    images: Tensor  # uint8 [B, channels, H, W], channels last in memory
    labels: Tensor  # int64 [B]
    positions: Tensor  # int64 [B], positions in the data set

    def part(self, start: int, stop: int) -> ClassBatch:
        """Return the samples from start up to but not including stop."""
        return ClassBatch(*(whole[start:stop] for whole in self))


class Sample(NamedTuple):
    """One image ready for the network, in input pixels."""

    image: Tensor  # uint8 [3, H, W] RGB
    boxes: Tensor  # float32 [N, 4] xyxy
    labels: Tensor  # int64 [N]
    position: int  # position in the data set
    unlabelled: tuple[int, ...] = ()  # labels of classes whose objects may be present but unmarked


class Batch(NamedTuple):
    """A stack of samples, in input pixels; each image's boxes are padded to the same count N."""

    images: Tensor  # uint8 [B, 3, H, W] RGB, channels last in memory
    boxes: Tensor  # float32 [B, N, 4] xyxy, zeros in the padding
    labels: Tensor  # int64 [B, N], -1 in the padding
    positions: Tensor  # int64 [B], positions in the data set
    unlabelled: Tensor | None = None  # int64 [K, 2]: pairs (image, label) whose objects may be unmarked

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from start up to but not including stop.

        Example:
            >>> images, boxes = torch.zeros(4, 3, 8, 8), torch.zeros(4, 2, 4)
            >>> batch = Batch(images, boxes, labels=torch.zeros(4, 2), positions=torch.arange(4))
            >>> batch.part(1, 3).positions
            tensor([1, 2])
        """
        pairs = self.unlabelled
        if pairs is not None:
            pairs = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < stop)]
            pairs = pairs - pairs.new_tensor([start, 0])
        images, boxes, labels, positions = (whole[start:stop] for whole in self[:4])
        return Batch(images, boxes, labels=labels, positions=positions, unlabelled=pairs)


class RawPredictions(NamedTuple):
    """The predictions of a detection head for its A points, before postprocessing."""

    box_outputs: Tensor  # [B, A, D], specific to the head, whose `decode` turns them into boxes
    class_logits: Tensor  # [B, A, C]; the sigmoid is the final score
    points: Tensor  # float32 [A, 2] x, y in input pixels
    strides: Tensor  # float32 [A], input pixels between neighbouring points
