"""Write what was detected: label files of YOLO, a table, and an image of each object; never half a file."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from yolo_lite.errors import InputError, reason
from yolo_lite.files import check_can_create, file_name, make_folder, write_atomically
from yolo_lite.media.writers import GrowingFile, JsonRows, write_image
from yolo_lite.structures.conversions import COLUMNS, to_columns
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections
from yolo_lite.structures.rows import to_rows


class Detected(NamedTuple):
    """An image, or a frame of a video, with what was detected in it.

    Attributes:
        name: path of the image or the video, with forward slashes, relative to the folder that holds all of them.
        image: uint8 [H, W, 3] RGB.
        detections: in pixels of the image.
        frame: number of the frame, from 0; None for an image.
        image_id: id of the image in result rows; that of a frame is its number.
    """

    name: str
    image: Image
    detections: Detections
    frame: int | None = None
    image_id: int = 0


class Output(Protocol):
    """What receives each image with its detections, in order."""

    def write(self, detected: Detected) -> object:
        """Write the detections of one more image."""


class CocoRows:
    """COCO result rows in a JSON file: one for each object, with the name of its image.

    Args:
        file: the file.
        category_ids: the data set's own number of each class.

    Example:
        >>> cat = Detections([[2, 1, 6, 3]], [0.9], labels=[0], class_names=("cat",))
        >>> with JsonRows(Path("coco.json")) as file:
        ...     CocoRows(file, category_ids=[17]).write(Detected("1.jpg", np.zeros((4, 8, 3), np.uint8), cat, image_id=1))
        >>> '"image_id": 1, "category_id": 17, "bbox": [2.0, 1.0, 4.0, 2.0]' in Path("coco.json").read_text()
        True
    """

    def __init__(self, file: JsonRows, *, category_ids: Sequence[int]) -> None:
        self._file, self._category_ids = file, category_ids

    def write(self, detected: Detected) -> None:
        """Append the rows of one more image."""
        image_id = detected.image_id if detected.frame is None else detected.frame
        rows = to_rows(detected.detections, image_id, category_ids=self._category_ids)
        self._file.write([{**row, "file_name": detected.name} for row in rows])


class LabelFiles:
    """A folder with a text file for each image, in the layout of YOLO: class, centre, width and height as fractions.

    The folder mirrors the names of the images and has their class names in `classes.txt`. An image without objects gets
    an empty file. The files of a video are numbered by frame.

    Args:
        folder: must be new or empty, so that nobody's labels are replaced.
        with_scores: append the score to each line; readers of labels accept only lines without it.

    Raises:
        InputError: if the folder has files, or cannot be created.

    Example:
        >>> cat = Detections([[2, 1, 6, 3]], [0.9], labels=[0], class_names=("cat",))
        >>> LabelFiles(Path("labels")).write(Detected("a/1.jpg", np.zeros((4, 8, 3), np.uint8), cat))
        >>> Path("labels/a/1.txt").read_text()
        '0 0.5 0.5 0.5 0.5\\n'
    """

    def __init__(self, folder: Path, *, with_scores: bool = False) -> None:
        self._folder, self._with_scores = check_new_folder(folder), with_scores
        self._names = _Names(taken=("classes",))
        self._has_classes = False

    def write(self, detected: Detected) -> None:
        """Write the labels of one more image."""
        if not self._has_classes:
            _write_text(self._folder / "classes.txt", "".join(f"{name}\n" for name in detected.detections.class_names))
            self._has_classes = True
        _write_text(self._folder / self._names.choose(detected, ".txt"), "".join(self._lines(detected)))

    def _lines(self, detected: Detected) -> list[str]:
        height, width = detected.image.shape[:2]
        lines = []
        for label, score, (x1, y1, x2, y2) in zip(
            detected.detections.labels, detected.detections.scores, detected.detections.boxes.astype(float)
        ):
            numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
            numbers += [float(score)] if self._with_scores else []
            lines.append(" ".join([str(label), *(f"{number:.7g}" for number in numbers)]) + "\n")
        return lines


class Table(GrowingFile):
    """A CSV file with a row for each object, in a `with` block; see `GrowingFile`.

    Its columns are image, frame (empty unless the object is in a video) and those of `Detections.to_pandas`.

    Raises:
        InputError: if the path does not end in .csv, or names a file that is no such table.

    Example:
        >>> cat = Detections([[2, 1, 6, 3]], [0.9], labels=[0], class_names=("cat",))
        >>> with Table(Path("objects.csv")) as table:
        ...     table.write(Detected("1.jpg", np.zeros((4, 8, 3), np.uint8), cat))
        >>> print(Path("objects.csv").read_text())
        image,frame,class_name,label,score,x1,y1,x2,y2
        1.jpg,,cat,0,0.9,2.0,1.0,6.0,3.0
        <BLANKLINE>
    """

    def __init__(self, path: Path) -> None:
        check_table_path(path)
        super().__init__(path, start=_HEADER)

    def write(self, detected: Detected) -> None:
        """Append the rows of one more image."""
        frame = "" if detected.frame is None else detected.frame
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for values in zip(*to_columns(detected.detections).values()):
            writer.writerow([detected.name, frame, *values])
        self.append(text.getvalue())


_HEADER = ",".join(("image", "frame", *COLUMNS)) + "\n"


def check_table_path(path: Path) -> None:
    """Raise InputError if a table cannot be written to a path, or would replace a file of another kind.

    Example:
        >>> check_table_path(Path("photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: --save-csv takes a file name that ends in .csv, got photo.jpg
    """
    check_can_create(path.parent)
    if path.suffix.lower() != ".csv" or path.is_dir():
        raise InputError(f"--save-csv takes a file name that ends in .csv, got {path}")
    try:
        if path.is_file() and not path.read_bytes().startswith(_HEADER.encode()):
            raise InputError(f"{path} exists and is not a table of detections; choose another file for --save-csv")
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error


class Crops:
    """A folder with an image of each object, named by its image, class and place in the detections, from 1.

    Crops of PNG images are PNG, all others JPEG. They reach to the next whole pixel around the box.

    Args:
        folder: must be new or empty.

    Raises:
        InputError: if the folder has files, or cannot be created.

    Example:
        >>> cat = Detections([[2, 1, 6, 3]], [0.9], labels=[0], class_names=("cat",))
        >>> Crops(Path("crops")).write(Detected("a/1.jpg", np.zeros((4, 8, 3), np.uint8), cat))
        >>> [path.name for path in Path("crops/a").iterdir()]
        ['1-cat-1.jpg']
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._names = check_new_folder(folder), _Names()

    def write(self, detected: Detected) -> None:
        """Write the crops of one more image."""
        suffix = ".png" if detected.name.lower().endswith(".png") else ".jpg"
        stem = self._names.choose(detected, "")
        for number, detection in enumerate(detected.detections, 1):
            path = (
                self._folder / stem.parent / file_name(f"{stem.name}-{_safe(detection.names[0])}", f"-{number}{suffix}")
            )
            make_folder(path.parent)
            write_image(path, _cut_out(detected.image, detection.boxes[0].tolist()))


def _cut_out(image: Image, box: list[float]) -> Image:
    """Return the pixels that a box touches, at least one."""
    height, width = image.shape[:2]
    left, top = min(max(0, math.floor(box[0])), width - 1), min(max(0, math.floor(box[1])), height - 1)
    right, bottom = min(width, max(left + 1, math.ceil(box[2]))), min(height, max(top + 1, math.ceil(box[3])))
    crop: Image = image[top:bottom, left:right].copy()
    return crop


def check_new_folder(folder: Path) -> Path:
    """Return a folder; raise InputError unless it is new or empty, and can be created.

    Example:
        >>> check_new_folder(Path("my_images"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: my_images is not empty; choose a new folder, so that nothing in it is replaced
    """
    check_can_create(folder)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; choose a new folder, so that nothing in it is replaced")
    except OSError as error:
        raise InputError(f"cannot read {folder}: {reason(error)}") from error
    return folder


def _write_text(path: Path, text: str) -> None:
    make_folder(path.parent)
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8", errors="surrogateescape"))


class _Names:
    """Chooses the path of each image's result, from the image's own: without its suffix, and taken by no other.

    All frames of a video share a path, to which their numbers are added.
    """

    def __init__(self, taken: tuple[str, ...] = ()) -> None:
        self._taken = set(taken)
        self._videos: dict[str, Path] = {}

    def choose(self, detected: Detected, suffix: str) -> Path:
        """Return a path relative to the folder of results."""
        if detected.frame is None:
            return self._choose_new(detected.name, suffix)
        if detected.name not in self._videos:
            self._videos[detected.name] = self._choose_new(detected.name, "")
        path = self._videos[detected.name]
        return path.parent / file_name(path.name, f"-{detected.frame:06d}{suffix}")

    def _choose_new(self, name: str, suffix: str) -> Path:
        *folders, stem = _parts(name)
        for number in itertools.count(1):
            path = Path(*folders, file_name(stem, f"-{number}{suffix}" if number > 1 else suffix))
            key = unicodedata.normalize("NFC", str(path).removesuffix(suffix)).casefold()
            if key not in self._taken:
                self._taken.add(key)
                break
        return path


def _parts(name: str) -> list[str]:
    """Return the folders and the stem that a name stands for; an address in the network is a stem alone."""
    if "://" in name:
        return [flat_name(name)]
    parts = [_safe(part) for part in PurePosixPath(name).parts if part not in ("/", "..")] or ["image"]
    return [*parts[:-1], PurePosixPath(parts[-1]).stem]


def flat_name(text: str) -> str:
    """Return a text as a part of a file name: letters, digits, dots and hyphens, and _ for what is between them.

    Example:
        >>> flat_name("rtsp://10.0.0.7/yard")
        'rtsp_10.0.0.7_yard'
    """
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def _safe(name: str) -> str:
    """Return a name as a part of a path, without letters that some file system refuses."""
    return re.sub(r'[\x00-\x1f/\\\\:*?"<>|]', "_", name).strip(". ") or "_"
