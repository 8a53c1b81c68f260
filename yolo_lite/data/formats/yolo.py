"""Read and write YOLO labels: one text file per image, one line per object, relative to the image's size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import yaml

from yolo_lite.data.faults import mention, report
from yolo_lite.data.formats.keypoints import Polygons, keypoint_shape
from yolo_lite.data.formats.writing import Names, lost_in_text, write_text
from yolo_lite.data.names import composed, find_images, is_file, likely_image
from yolo_lite.errors import InputError, are, counted, printable, short, some
from yolo_lite.files import check_readable, make_folder, read_text
from yolo_lite.media.folders import images_below, is_apple_double, listed, sort_out, walk
from yolo_lite.media.images import IMAGE_SUFFIXES, read_image_size
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord, Packer, Records

_PIXEL_SLACK = 1.0  # pixels by which rounding may move a polygon's point out of the image


@dataclass(frozen=True)
class YoloSource:
    """Images whose labels are text files; the fields are the arguments of `read_yolo_txt`."""

    images: tuple[Path, ...]
    class_names: tuple[str, ...]
    keypoints: tuple[int, int] | None = None

    def read(self) -> DetectionSet:
        """Read the labels."""
        return read_yolo_txt(self.images, self.class_names, keypoints=self.keypoints)


def read_yolo_txt(
    images: Sequence[Path],
    class_names: Sequence[str],
    *,
    keypoints: tuple[int, int] | None = None,
    roots: Sequence[Path] = (),
) -> DetectionSet:
    """Read the YOLO labels of images.

    A line is "class cx cy width height" or "class x1 y1 x2 y2 x3 y3 ..." (a polygon, which becomes its box), in fractions
    of the image's width and height. With `keypoints`, keypoints follow the box; they are not used. An image without a label
    file, or with an empty one, shows no objects. Labels and category ids are the class numbers in the files.

    Args:
        images: folders of images (searched to any depth, links followed), image files, or text files that list images.
        class_names: names by label.
        keypoints: number of keypoints per object, and of numbers per keypoint, 2 or 3 (`kpt_shape` of data.yaml).
        roots: folders to search for listed images that are not beside their list.

    Raises:
        InputError: if there are no images or no label files, a listed image is missing, or a line cannot be meant as
            written.

    Example:
        >>> import shutil
        >>> Path("dogs").mkdir()
        >>> _ = shutil.copy("photo.jpg", "dogs"), Path("dogs/photo.txt").write_text("0 0.5 0.5 0.5 0.5")
        >>> read_yolo_txt([Path("dogs")], ["dog"]).records[0].boxes  # the middle half of 512 x 600 pixels
        array([[128., 150., 384., 450.]])
    """
    source = ", ".join(str(path) for path in images)
    paths, notes = _all_images(images, roots, source=source)
    labels = _LabelFiles()
    files = labels.find_all(paths, source=source)
    form = _Form(len(class_names), keypoints)
    records, dropped = _read_all(paths, files, form)
    form.refuse_boxes_with_keypoints()
    if form.with_keypoints:
        notes.append(f"the keypoints of {counted(form.with_keypoints, 'object')} are not used")
    notes += labels.without_image([path for path in images if path.is_dir()])
    return DetectionSet(
        records,
        tuple(class_names),
        category_ids=tuple(range(len(class_names))),
        source=source,
        dropped=dropped,
        notes=tuple(notes),
    )


def _read_all(images: Sequence[Path], files: Sequence[Path | None], form: _Form) -> tuple[Records, int]:
    """Return the records of images, numbered from 1, and the number of boxes without area; report bad images."""
    records, dropped = Packer(), 0
    for number, (image, file) in enumerate(zip(images, files), 1):
        try:
            record, without_area = _record(image, file, number=number, form=form)
        except InputError as error:
            report(error)
            continue
        records.add(record)
        dropped += without_area
    return records.records(), dropped


def _all_images(images: Sequence[Path], roots: Sequence[Path], *, source: str) -> tuple[list[Path], list[str]]:
    """Return the images of folders, files and lists, with notes; raise InputError if there are none."""
    paths: list[Path] = []
    notes: list[str] = []
    for path in images:
        more, more_notes = _images(path, roots)
        paths += more
        notes += more_notes
    if not paths:
        raise InputError(
            f"no images in {source}; looked for {', '.join(IMAGE_SUFFIXES)} and others that Pillow reads"
            + "".join(f"; {note}" for note in notes)
        )
    return paths, notes


def label_path(image: Path) -> Path:
    """Return the path of an image's labels: the last folder named images becomes labels; without one, beside the image.

    Example:
        >>> label_path(Path("set/images/train/a.jpg")).as_posix(), label_path(Path("set/a.jpg")).as_posix()
        ('set/labels/train/a.txt', 'set/a.txt')
    """
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


class _LabelFiles:
    """The label file of each image: it has the image's name with .txt or .TXT, however accents are encoded."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}
        self._images: dict[Path, set[str]] = {}  # by folder, the names of its images without suffix
        self._used: set[Path] = set()

    def find_all(self, images: Sequence[Path], *, source: str) -> list[Path | None]:
        """Return the label file of each image, or None; raise InputError if no image has one."""
        files = [self.find(image) for image in images]
        if not any(files):
            raise InputError(
                f"0 of {counted(len(images), 'image')} in {source} have labels; looked for files such as "
                f"{label_path(images[0])}"
            )
        return files

    def find(self, image: Path) -> Path | None:
        """Return an image's label file, or None if it has none."""
        expected = label_path(image)
        there = self._folder(expected.parent).get(composed(expected.stem), [])
        file = expected if expected in there else (there[0] if there else None)
        if file:
            self._used.add(file)
        return file

    def without_image(self, folders: Iterable[Path]) -> list[str]:
        """Return a note about label files without an image, from all label folders of some image folders."""
        for folder in folders:
            root = label_path(folder / "image.txt").parent
            if root != folder and root.is_dir():
                for below in (root, *walk(root)[1]):
                    self._folder(below)
        files = [file for group in self._folders.values() for files in group.values() for file in files]
        left = sorted(file for file in files if file not in self._used and self._is_of_no_image(file))
        names = some([printable(file.name) for file in left])
        what = counted(len(left), "label file without an image is", plural="label files without an image are")
        return [f"{what} left out: {names}"] if left else []

    def _is_of_no_image(self, file: Path) -> bool:
        """Return whether a file looks like labels but has no image, inside or outside the split."""
        parts = list(file.parent.parts)
        for i in range(len(parts) - 1, -1, -1):
            if parts[i] == "labels":
                parts[i] = "images"
                break
        folder = Path(*parts)
        if folder not in self._images:
            images = sort_out(listed(folder))[0] if folder.is_dir() else []
            self._images[folder] = {composed(image.stem) for image in images}
        return composed(file.stem) not in self._images[folder] and _looks_like_labels(file)

    def _folder(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._folders:
            there: dict[str, list[Path]] = {}
            for path in listed(folder) if folder.is_dir() else ():
                if path.suffix.lower() == ".txt":
                    there.setdefault(composed(path.stem), []).append(path)
            self._folders[folder] = there
        return self._folders[folder]


def _looks_like_labels(file: Path) -> bool:
    """Return whether a text file is empty or begins with a line of numbers, unlike a list of classes."""
    with file.open(encoding="latin-1") as opened:
        words = opened.readline(10_000).split()
    try:
        return not words or len([float(word) for word in words]) > 4
    except ValueError:
        return False


def _images(path: Path, roots: Sequence[Path]) -> tuple[list[Path], list[str]]:
    if path.is_dir():
        check_readable(path)
        return images_below(path)
    if path.suffix.lower() != ".txt" or not path.is_file():
        return ([path] if path.is_file() else []), []
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    lines = [line for line in lines if not is_apple_double(PureWindowsPath(line).name)]
    images, notes = find_images(lines, [path.parent], roots=roots)
    missing = [(line, image) for line, image in zip(lines, images) if not is_file(image)]
    if missing:
        line, image = missing[0]
        raise InputError(
            f"{path} lists {counted(len(lines), 'image')}, {len(missing):,} of them missing; the first, "
            f"'{printable(line)}', was looked for at {image}{likely_image(image)}"
        )
    return images, notes


def _record(image: Path, file: Path | None, *, number: int, form: _Form) -> tuple[ImageRecord, int]:
    height, width = read_image_size(image)
    lines = read_text(file).splitlines() if file else []
    labels, boxes, numbers = [], [], []
    for line_number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file}: line {line_number}"
            try:
                label, box = form.parse(line.split(), where, hw=(height, width))
            except InputError as error:
                report(error, where)
                continue
            labels.append(label)
            boxes.append(box)
            numbers.append(line_number)
    array = np.array(boxes, np.float64).reshape(-1, 4) * [width, height, width, height]
    sizes = array[:, 2:] - array[:, :2]
    good = (sizes > 0).all(1)
    for i in np.flatnonzero(~good):
        where = f"{file}: line {numbers[i]}"
        mention(f"{where} has a box without area: {sizes[i, 0]:g} x {sizes[i, 1]:g}", where)
    return (
        ImageRecord(
            image,
            number,
            hw=(height, width),
            boxes=array[good],
            labels=np.array(labels, np.int64)[good],
            crowd=np.zeros(int(good.sum()), np.bool_),
            areas=sizes[good].prod(1),
            labels_file=file,
            numbers=np.array(numbers, np.int64)[good],
        ),
        int((~good).sum()),
    )


class _Form:
    """The form of a set's lines: boxes, polygons, or boxes with keypoints.

    Args:
        classes: number of classes.
        keypoints: as for `read_yolo_txt`; None if data.yaml does not give them, (0, any) if there are none.
    """

    def __init__(self, classes: int, keypoints: tuple[int, int] | None) -> None:
        self.classes, self.keypoints = classes, keypoints
        self.with_keypoints = 0  # objects
        self._polygons = Polygons()

    def parse(self, words: list[str], where: str, *, hw: tuple[int, int]) -> tuple[int, list[float]]:
        """Return the label, and the box as xyxy in fractions of the image."""
        label, numbers = _numbers(words, self.classes, where)
        if self.keypoints and self.keypoints[0]:
            numbers = self._without_keypoints(numbers, where)
        if len(numbers) == 4:
            _refuse_pixels(numbers, words, where)
            x, y, width, height = numbers
            if width < 0 or height < 0:
                raise InputError(f"{where} has a box of negative size: {width:g} x {height:g}")
            return label, [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        shape = None if self.keypoints else keypoint_shape(numbers)
        hint = ""
        if shape:
            hint = f"; it looks like {_box_with(shape)}: if so, write 'kpt_shape: {list(shape)}' to data.yaml"
        if len(numbers) < 6 or len(numbers) % 2:
            raise InputError(
                f"{where} must have 4 numbers (a box), or 6 or more (a polygon), after the class, got "
                f"{len(numbers)}{hint}"
            )
        slack = np.tile(_PIXEL_SLACK / np.array(hw[::-1]), len(numbers) // 2)
        if (np.array(numbers) < -slack).any() or (np.array(numbers) > 1 + slack).any():
            raise InputError(
                f"{where} must be a polygon in fractions of the image's size, from 0 to 1, got {' '.join(words)!r:.200}{hint}"
            )
        if not self.keypoints:
            self._polygons.add(numbers, shape, where=where)
        return label, [min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])]

    def _without_keypoints(self, numbers: list[float], where: str) -> list[float]:
        assert self.keypoints
        count, size = self.keypoints
        if len(numbers) not in (4, 4 + count * size):
            raise InputError(
                f"{where} must have 4 numbers (a box), or {4 + count * size} with its keypoints (kpt_shape: "
                f"[{count}, {size}]), after the class, got {len(numbers)}"
            )
        self.with_keypoints += len(numbers) > 4
        return numbers[:4]

    def refuse_boxes_with_keypoints(self) -> None:
        """Raise InputError if the polygons of the set all look like boxes with keypoints."""
        misread = self._polygons.keypoints()
        if misread:
            first, lines, shape = misread
            others = f", and so do {counted(lines - 1, 'other line')}" if lines > 1 else ""
            raise InputError(
                f"{first} looks like {_box_with(shape)}, not like a polygon{others}; write 'kpt_shape: "
                f"{list(shape)}' to data.yaml, or 'kpt_shape: [0, 0]' for polygons"
            )


def _numbers(words: list[str], classes: int, where: str) -> tuple[int, list[float]]:
    try:
        label, numbers = int(words[0].removesuffix(".0")), [float(word) for word in words[1:]]  # some tools write 3.0
    except ValueError:
        raise InputError(
            f"{where} must be a class number and fractions of the image's size, got {short(' '.join(words))}"
        ) from None
    if not 0 <= label < classes:
        raise InputError(f"{where} has class {label}, but only the classes 0..{classes - 1} have names")
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{where} has a number that is not finite: {short(' '.join(words))}")
    return label, numbers


def _refuse_pixels(numbers: Sequence[float], words: Sequence[str], where: str) -> None:
    if any(abs(number) > 2 for number in numbers):
        raise InputError(f"{where} must hold fractions of the image's size, from 0 to 1, got {short(' '.join(words))}")


def _box_with(shape: tuple[int, int]) -> str:
    return f"a box with {counted(shape[0], 'keypoint')} of {shape[1]} numbers"


def write_yolo(splits: Mapping[str, DetectionSet], out: Path, *, names: Names) -> list[str]:
    """Write labels/<split>/*.txt and data.yaml, and return notes about what is lost.

    Example:
        >>> from yolo_lite.data.care.convert import file_names
        >>> from yolo_lite.data.splits import read_splits
        >>> sets = read_splits("my_images")
        >>> notes = write_yolo(sets, Path("yolo_out"), names=file_names(sets, across=False))
        >>> len(list(Path("yolo_out/labels/train").iterdir()))
        6
    """
    crowd = 0
    for split, data in splits.items():
        make_folder(out / "labels" / split)
        for record in data.records:
            height, width = record.hw
            lines = []
            for (x1, y1, x2, y2), label, is_crowd in zip(record.boxes.tolist(), record.labels, record.crowd):
                crowd += bool(is_crowd)
                if not is_crowd:
                    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
                    lines.append(" ".join([str(label), *(f"{share:.10g}" for share in shares)]))
            text = "".join(f"{line}\n" for line in lines)
            write_text((out / "labels" / split / names[split, record.image_id]).with_suffix(".txt"), text)
    first = next(iter(splits.values()))
    content = {**{split: f"images/{split}" for split in splits}, "names": list(first.class_names)}
    write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    notes = lost_in_text(splits.values(), "YOLO txt")
    return (
        [*notes, f"YOLO txt cannot mark crowd or difficult boxes: {crowd:,} {are(crowd)} left out"] if crowd else notes
    )
