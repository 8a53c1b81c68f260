"""Folders of runs: runs/train-N, claimed by one process each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolo_lite.errors import InputError
from yolo_lite.files import check_can_create, give_back, locked, make_folder
from yolo_lite.training.folder import BEST, LAST, holds_run, remove_leftovers
from yolo_lite.training.task import Listener

IN_USE = "a training that still runs writes to it; wait for its end, or choose another --out"


def check_run_folder(out: Path) -> None:
    """Raise InputError where a folder holds a run already, or could not be created."""
    if holds_run(out):
        raise InputError(f"{out} already holds a run; add --resume to go on with it, or choose another --out")
    if (out / BEST).exists():
        raise InputError(f"{out} holds the {BEST} of a run that cannot go on, having no {LAST}; choose another --out")
    check_can_create(out)


@contextmanager
def new_run(out: Path | None, listener: Listener) -> Iterator[Path]:
    """Create the folder of a new run and keep other runs out of it; it goes if nothing is written."""
    folder = new_run_folder(out)
    try:
        with locked(folder, IN_USE, say=listener.say):
            check_run_folder(folder)  # again, since another run may have ended in it meanwhile
            yield folder
    finally:
        if out is None:
            give_back(folder)
        else:
            with suppress(OSError):  # what is not empty stays
                folder.rmdir()


def new_run_folder(out: Path | None) -> Path:
    """Create the folder of a new run: `out`, or the next free runs/train-N, which no other run gets as well."""
    if out:
        check_run_folder(out)
        make_folder(out)
        remove_leftovers(out)
        return out
    while True:
        make_folder(Path("runs"))
        folder = Path("runs") / f"train-{max(_numbered_runs(), default=0) + 1}"
        try:
            folder.mkdir()
            return folder
        except (FileExistsError, FileNotFoundError):
            continue  # another run was faster, or has just given its own back and with it runs/


def newest_run() -> Path:
    """Return the runs/train-N of the highest number that holds a run."""
    runs = {number: folder for number, folder in _numbered_runs().items() if holds_run(folder)}
    if not runs:
        raise InputError("no run to resume in runs/; name its folder with --out")
    return runs[max(runs)]


def _numbered_runs() -> dict[int, Path]:
    matches = ((re.fullmatch(r"train-(\d+)", path.name), path) for path in Path("runs").glob("train-*"))
    return {int(match[1]): path for match, path in matches if match}
