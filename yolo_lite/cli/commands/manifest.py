"""Batch jobs of `yolo-lite detect`: a row for each image of a manifest, in shards that workers divide."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli.progress import bar
from yolo_lite.cli.screen import note
from yolo_lite.cli.values import is_exported
from yolo_lite.errors import InputError, are, counted
from yolo_lite.ranks import RankError

if TYPE_CHECKING:
    from yolo_lite.shards.detect import BatchDetector, Job, Summary
    from yolo_lite.shards.workers import Worker

_BATCH = (
    "shard_size",
    "worker",
    "rows",
    "actors",
    "engine",
)  # flags of batch jobs alone, by their names in the arguments
_OTHERS = (
    *("source", "every_frame", "frames", "time", "track", "count_line", "zone", "save_json", "save_csv", "save_txt"),
    *("txt_scores", "save_crops", "no_images", "font", "show", "targets", "save_video", "video_format"),
)  # flags that batch jobs have no use for


def is_batch(args: argparse.Namespace) -> bool:
    """Return whether the arguments of `detect` ask for a batch job.

    Raises:
        InputError: if they have flags of batch jobs, but no --manifest.
    """
    for name in () if args.manifest else _BATCH:
        if getattr(args, name):
            raise InputError(f"{_flag(name)} belongs to batch jobs; add --manifest PATH, or leave it out")
    return bool(args.manifest)


def detect_batch(make_detector: Callable[[], BatchDetector], args: argparse.Namespace) -> int:
    """Write those shards of this worker that are missing.

    Args:
        make_detector: returns the detector, after everything that is quick to check was checked.
        args: the arguments of `detect`.

    Returns:
        The exit status: 2 if no image of some shard could be read, 0 otherwise. Under torchrun it is 0 in both cases, or
        torchrun would end the other workers in the middle of their shards.

    Raises:
        InputError: if the job cannot be done.
    """
    from yolo_lite.shards.detect import Job, Summary

    _check_flags(args)
    worker = _worker(args)
    _settle(args)
    settings = {"shard_size": args.shard_size, "rows": args.rows or "jsonl", "readers": args.threads}
    job = Job(args.manifest, Path(args.out), **settings)
    detector = make_detector()
    job.begin(detector)
    summary = Summary(worker)
    if not args.quiet:
        note(_plan(job, worker))
        _note_unused_tasks(args)
    try:
        with nullcontext(_nothing) if args.quiet else bar(job.manifest.unit) as on_progress:
            if args.engine == "ray":
                from yolo_lite.shards.pool import run_on_ray

                run_on_ray(job, make_detector, summary=summary, actors=args.actors, on_progress=on_progress)
            else:
                job.run(detector, summary, on_progress=on_progress)
    except KeyboardInterrupt:
        print(f"{_who(worker)}{summary}")
        raise
    except InputError as error:  # of this worker alone, so it is shown whatever its rank
        raise RankError(f"{_who(worker)}{error}") from error
    print(f"{_who(worker)}{summary}; {_state(job, summary)}")
    if summary.unreadable:
        shards = counted(summary.unreadable, "shard")
        print(
            f"error: {shards} not written; {summary.reason}; is a disk missing? Run the command again", file=sys.stderr
        )
    return 2 if summary.unreadable and worker.origin != "RANK" else 0


def _nothing(done: int, total: int) -> None:
    """Show no progress."""


def _check_flags(args: argparse.Namespace) -> None:
    if not args.out:
        raise InputError("--manifest needs --out FOLDER, which all workers share")
    for name in _OTHERS:
        if getattr(args, name):
            raise InputError(f"--manifest writes rows alone; leave out {_flag(name)}")
    if args.engine == "ray" and not is_exported(args.weights):
        raise InputError("--engine ray takes exported files; write one with yolo-lite export, and pass it as --weights")
    if args.engine == "ray" and args.worker:
        raise InputError("--engine ray divides the shards among its actors; leave out --worker, or use --actors N")
    if args.actors and args.engine != "ray":
        raise InputError("--actors is the number of actors of Ray; add --engine ray, or leave it out")


def _flag(name: str) -> str:
    return {"rows": "--format", "targets": "--to"}.get(name, f"--{name.replace('_', '-')}")


def _worker(args: argparse.Namespace) -> Worker:
    from yolo_lite.shards.workers import Worker, find_worker, parse_worker

    if args.engine == "ray":
        return Worker()
    return parse_worker(args.worker) if args.worker else find_worker(os.environ)


def _note_unused_tasks(args: argparse.Namespace) -> None:
    """Say that Slurm's other tasks are idle, if the batch script has begun without srun."""
    from yolo_lite.shards.workers import unused_tasks

    tasks = 0 if args.worker or args.engine == "ray" else unused_tasks(os.environ)
    if tasks:
        note(
            f"the job has {counted(tasks, 'task')}, but srun did not start this command, so it does all the work alone"
        )


def _settle(args: argparse.Namespace) -> None:
    """Replace flags by what they mean for one of several workers: its part of the cores, its GPU, absolute paths."""
    from yolo_lite.cores import usable_cores
    from yolo_lite.shards.workers import workers_here

    number, count = workers_here(os.environ)
    if args.engine == "ray":
        args.threads = args.threads or 1  # an actor for each core
        args.manifest, args.out = os.path.abspath(args.manifest), os.path.abspath(args.out)
        if os.path.exists(args.weights or ""):
            args.weights = os.path.abspath(args.weights)
    elif count > 1 and not args.threads:
        args.threads = max(1, usable_cores() // count)
    if args.device == "auto" and not is_exported(args.weights):
        import torch

        if torch.cuda.device_count() > 1:
            args.device = f"cuda:{number % torch.cuda.device_count()}"


def _plan(job: Job, worker: Worker) -> str:
    own = len(range(worker.index, job.manifest.shards, worker.count))
    return f"{_who(worker)}{own:,} of {counted(job.manifest.shards, 'shard')}"


def _who(worker: Worker) -> str:
    return f"worker {worker} ({worker.origin}): " if worker.count > 1 else ""


def _state(job: Job, summary: Summary) -> str:
    shards = job.manifest.shards
    if not summary.missing:
        return f"all {counted(shards, 'shard')} are in {job.folder.folder}" if shards > 1 else f"in {job.folder.folder}"
    missing = f"{summary.missing:,} of {counted(shards, 'shard')} {are(summary.missing)}"
    return f"{missing} still missing in {job.folder.folder}"
