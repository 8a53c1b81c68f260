"""Compare the image sizes in annotations with the images."""

from __future__ import annotations

from yolo_lite.data.names import is_file, likely_image
from yolo_lite.errors import InputError, are, counted
from yolo_lite.media.images import read_image_size
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord


def check_images(data: DetectionSet) -> None:
    """Read every image's header, so that a bad file stops a run at its start and not hours later.

    Raises:
        InputError: if images are missing (the message counts them), or one is unreadable or not of its annotated size.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> check_images(read_split("my_images", "train"))  # every image is there and has its annotated size
    """
    missing = [record.path for record in data.records if not is_file(record.path)]
    if missing:
        raise InputError(
            f"{data.source} lists {counted(len(data.records), 'image')}, "
            f"of which {len(missing):,} {are(len(missing))} missing; the first was "
            f"looked for at {missing[0]}{likely_image(missing[0])}"
        )
    for record in data.records:
        hw = read_image_size(record.path)
        if hw != record.hw:
            raise size_error(record, hw)


def size_error(record: ImageRecord, hw: tuple[int, int]) -> InputError:
    """Return the error for an image that is not of its annotated size.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> error = size_error(read_split("my_images", "train").records[0], (96, 100))
        >>> str(error).partition(" is ")[2]
        '100 x 96 (after any EXIF rotation), but its annotations are for 128 x 96: the boxes would be wrong'
    """
    return InputError(
        f"{record.path} is {hw[1]} x {hw[0]} (after any EXIF rotation), but its annotations are for "
        f"{record.hw[1]} x {record.hw[0]}: the boxes would be wrong"
    )
