"""Read class folders: every image belongs to the class that its folder is named after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from yolo_lite.data.classes import refuse_empty_classes
from yolo_lite.data.divide import divide_classes, parse_shares
from yolo_lite.data.entries import SPLITS, canonical_split
from yolo_lite.data.formats.archive import Content, read_archive
from yolo_lite.errors import InputError, some
from yolo_lite.files import check_readable
from yolo_lite.media.folders import DATA_SUFFIXES, is_hidden, left_out, sort_out, walk
from yolo_lite.media.images import IMAGE_SUFFIXES, is_image
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord


class Tree(NamedTuple):
    """The files of a folder or archive by relative path, and its folders.

    Example:
        >>> tree = Tree({PurePosixPath("set/train/cat/a.jpg"): b""}, [])
        >>> tree.tops(), tree.below(1).tops()
        ({'set'}, {'train'})
    """

    files: Mapping[PurePosixPath, Content]
    folders: Iterable[PurePosixPath]

    def below(self, depth: int) -> Tree:
        """Return the tree without its outermost `depth` levels of folders."""
        return Tree(
            {PurePosixPath(*name.parts[depth:]): content for name, content in self.files.items()},
            {PurePosixPath(*name.parts[depth:]) for name in self.folders if len(name.parts) > depth},
        )

    def inside(self, top: str) -> Tree:
        """Return the part of the tree inside one top folder; paths stay the same."""
        return Tree(
            {name: content for name, content in self.files.items() if name.parts[0] == top},
            {name for name in self.folders if name.parts[0] == top},
        )

    def tops(self) -> set[str]:
        """Return the names of the top folders."""
        folders = set(self.folders)
        return {name.parts[0] for name in (*self.files, *folders) if len(name.parts) > 1 or name in folders}


def file_tree(path: Path) -> Tree:
    """Return the files of a folder or archive, without hidden ones.

    Raises:
        InputError: if the path is neither, or cannot be read.

    Example:
        >>> tree = file_tree(Path("my_classes"))
        >>> sorted(tree.tops()), len(tree.files)
        (['train', 'val'], 12)
    """
    files: Mapping[PurePosixPath, Content]
    if path.is_dir():
        check_readable(path)
        below, inner = walk(path)
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in below}
        folders = [PurePosixPath(folder.relative_to(path).as_posix()) for folder in inner]
    elif ".tar" in path.suffixes or path.suffix == ".tgz":
        files, folders = read_archive(path)
    else:
        raise InputError(f"{path} is neither a folder nor a .tar, .tar.gz or .yaml file; --data takes one of these")
    return Tree(
        {name: content for name, content in files.items() if not _is_hidden(name)},
        [name for name in folders if not _is_hidden(name)],
    )


def folder_splits(path: Path, tree: Tree, *, shares: str, seed: int) -> tuple[dict[str, ClassificationSet], list[str]]:
    """Return the splits of class folders, and notes about what was done.

    If there are no split folders, `shares` and the seed divide each class.

    Raises:
        InputError: if there are no images in class folders, or a class has no image.

    Example:
        >>> path = Path("my_classes/train")  # class folders without splits
        >>> splits, notes = folder_splits(path, file_tree(path), shares="50/50", seed=0)
        >>> {split: len(data.records) for split, data in splits.items()}
        {'train': 4, 'val': 4}
    """
    images = {name: content for name, content in tree.files.items() if _is_image(name, content)}
    others = [name for name in tree.files if name not in images and name.suffix.lower() not in DATA_SUFFIXES]
    notes = left_out(path, others)
    if not images:
        raise InputError(
            f"{path} holds no images in folders of classes (looked for train/<class>/*.jpg, <class>/*.jpg, "
            "MNIST's idx files and CIFAR-10's data_batch_1.bin)"
        )
    tree = Tree(images, tree.folders).below(_wrappers(images))
    tops = tree.tops()
    named = {canonical_split(top) for top in tops}
    if "train" not in named and not named <= set(SPLITS):
        fractions = parse_shares(shares)
        whole = _by_class(path, tree, 0)
        refuse_empty_classes(whole)
        sets = divide_classes(whole, fractions, seed=seed)
        return dict(zip(SPLITS, sets)), [f"{path} has no splits: seed {seed} divides each class {shares}", *notes]
    splits: dict[str, ClassificationSet] = {}
    for top in sorted(tops):
        split = canonical_split(top)
        if split not in SPLITS:
            continue
        if split in splits:
            raise InputError(f"{path} has two folders for the split {split!r}: {', '.join(sorted(tops))}")
        splits[split] = _by_class(path / top, tree.inside(top), 1)
    return splits, notes


def _is_hidden(name: PurePosixPath) -> bool:
    return any(is_hidden(part) for part in name.parts)


def _is_image(name: PurePosixPath, content: Content) -> bool:
    if isinstance(content, Path):
        return bool(sort_out([content])[0])
    return bool(sort_out([Path(name)], lambda path: is_image(path, content))[0])


def _wrappers(images: Iterable[PurePosixPath]) -> int:
    """Count the folders that wrap everything, as archives often have one."""
    names, depth = list(images), 0
    while names and all(len(name.parts) > depth + 2 for name in names):
        tops = {name.parts[depth] for name in names}
        if len(tops) > 1 or canonical_split(min(tops)) in SPLITS:
            break
        depth += 1
    return depth


def _by_class(source: Path, tree: Tree, depth: int) -> ClassificationSet:
    """Return a set of images, each of the class that the folder at `depth` of its path names."""
    stray = [name for name in tree.files if len(name.parts) < depth + 2]
    if stray:
        raise InputError(f"{source} has images outside the class folders: {some([str(name) for name in stray])}")
    with_images = {name.parts[depth] for name in tree.files}
    named = {name.parts[depth] for name in tree.folders if len(name.parts) == depth + 1} | with_images
    empty = sorted(named - with_images)
    if empty:
        raise InputError(
            f"{source}: the class folder {some(empty)} holds no image (looked for {', '.join(IMAGE_SUFFIXES)})"
        )
    class_names = tuple(sorted(named))
    labels = {name: label for label, name in enumerate(class_names)}
    records = tuple(
        ClassRecord(
            str(content) if isinstance(content, Path) else str(source / PurePosixPath(*name.parts[depth:])),
            content,
            labels[name.parts[depth]],
        )
        for name, content in tree.files.items()
    )
    return ClassificationSet(records, class_names, str(source))
