"""Cache decoded images in RAM, so that they are decoded once and not in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from yolo_lite.data.pipeline.loader import reading_threads
from yolo_lite.errors import InputError, counted
from yolo_lite.ranks import local_count
from yolo_lite.structures.geometry import Image

CHOICES = ("auto", "ram", "none")
SHARE = (
    0.5  # fraction of the free memory for images: the network, its gradients and the loading processes need some too
)
UNKNOWN_ROOM = 1 << 30  # bytes for images if the system does not report how much is free
_CGROUPS = (  # limit, use and statistics of a container's memory: version 2, version 1
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


class KeptImages:
    """Images of any sizes in one block of memory, by position.

    The block is a tensor that loading processes share: forked processes share all memory that nobody writes to, and torch
    hands tensors to spawned processes as shared memory.

    Args:
        sizes: (height, width) of each image.

    Example:
        >>> kept = KeptImages([(1, 2), (3, 4)])
        >>> kept.store(0, np.full((1, 2, 3), 7, np.uint8))
        >>> kept[0].shape, int(kept[0].max())
        ((1, 2, 3), 7)
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes_hw = np.array(sizes, np.int64).reshape(-1, 2)
        self.starts = np.concatenate([[0], np.cumsum(3 * self.sizes_hw.prod(1))]).astype(np.int64)
        self.pixels = torch.empty(int(self.starts[-1]), dtype=torch.uint8)

    def __getitem__(self, index: int) -> Image:
        image = self._view(index).numpy()
        image.flags.writeable = False  # or one sample could spoil the next
        return image

    def store(self, index: int, image: Image) -> None:
        """Copy an image into its place; it must have the size given for it."""
        self._view(index).numpy()[:] = image

    def _view(self, index: int) -> torch.Tensor:
        start, end = self.starts[index : index + 2].tolist()
        height, width = self.sizes_hw[index].tolist()
        return self.pixels[start:end].view(height, width, 3)


def keep_images(
    decode: Callable[[int], Image],
    sizes: Sequence[tuple[int, int]],
    *,
    choice: str,
    say: Callable[[str], None],
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> KeptImages | None:
    """Cache all images in RAM, or none of them, and report in one line which; "none" reports nothing.

    Args:
        decode: returns the image at a position; several threads call it.
        sizes: (height, width) of each image that it returns.
        choice: "auto" caches the images if they fit into the available memory, "ram" always, "none" never.
        say: called with the report, before the work begins.
        on_image: called with the number done and the total.

    Returns:
        The images, or None if they are not cached.

    Raises:
        InputError: if `choice` is "ram" and they do not fit, or unknown; or what `decode` raises, for the first position.

    Example:
        >>> kept = keep_images(lambda i: np.full((2, 2, 3), i, np.uint8), [(2, 2)] * 3, choice="ram", say=print)
        images cached in RAM: 3, 0.0 MB
        >>> kept[2][0, 0].tolist()
        [2, 2, 2]
    """
    need = sum(height * width * 3 for height, width in sizes)
    if not may_keep(choice, len(sizes), need=need, say=say):
        return None
    say(f"images cached in RAM: {len(sizes):,}, {_in_gb(need)}")
    kept = KeptImages(sizes)
    with ThreadPoolExecutor(reading_threads()) as threads:
        stored = threads.map(lambda index: kept.store(index, decode(index)), range(len(sizes)))
        for done, _ in enumerate(stored, 1):
            on_image(done, len(sizes))
    return kept


def may_keep(choice: str, count: int, *, need: int, say: Callable[[str], None]) -> bool:
    """Return whether `count` images of `need` bytes are cached; for other arguments and errors see `keep_images`.

    Example:
        >>> may_keep("none", 3, need=100, say=print), may_keep("auto", 3, need=100, say=print)
        (False, True)
    """
    if choice not in CHOICES:
        raise InputError(f"train.cache must be one of {', '.join(CHOICES)}, got {choice!r}")
    if choice == "none":
        return False
    room = memory_room()
    if need <= room:
        return True
    shortage = f"{counted(count, 'image')} need {_in_gb(need)}, and there is room for {_in_gb(room)}"
    if choice == "ram":
        raise InputError(
            f"train.cache is ram, but {shortage}; choose auto or none, fewer images or a smaller image size"
        )
    say(f"images are not cached in RAM: {shortage}; they are decoded in every epoch")
    return False


def memory_room() -> int:
    """Return how many bytes images may fill in this process; those that torchrun started here divide the memory.

    Example:
        >>> memory_room() > 0
        True
    """
    free = free_memory()
    return (UNKNOWN_ROOM if free is None else int(free * SHARE)) // local_count()


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of free memory, within the limit of a container; None if the system does not report it.

    Example:
        >>> Path("machine/proc").mkdir(parents=True)
        >>> _ = Path("machine/proc/meminfo").write_text("MemAvailable: 2 kB")
        >>> free_memory(Path("machine"))
        2048
    """
    numbers = [_entry(root / "proc" / "meminfo", "MemAvailable:") * 1024]
    for limit, used, statistics, reclaimable in _CGROUPS:
        folder = root / "sys" / "fs" / "cgroup"
        most = _entry(folder / limit)
        if most >= 0:
            numbers.append(max(0, most - _entry(folder / used) + max(0, _entry(folder / statistics, reclaimable))))
    return min((number for number in numbers if number >= 0), default=None)


def _entry(path: Path, name: str = "") -> int:
    """Return the number in a file, or in its line that begins with a name; -1 if there is none."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        words = next(line[1:] for line in lines if line[:1] == [name]) if name else lines[0]
        return int(words[0])
    except (OSError, ValueError, IndexError, StopIteration):
        return -1


def _in_gb(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
