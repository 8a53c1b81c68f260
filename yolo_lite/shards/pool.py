"""Batch jobs on Ray: a pool of actors writes the shards. No other module imports ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from yolo_lite.errors import InputError
from yolo_lite.shards.detect import BatchDetector, Counts, Job, OnProgress, Summary
from yolo_lite.shards.manifest import UnreadableShardError

_RETRIES = 10  # starts of an actor whose process or machine is lost
_OBJECTS = 100_000_000  # bytes of Ray's store of objects, the smallest that suffices; rows do not pass through it


def run_on_ray(
    job: Job,
    make_detector: Callable[[], BatchDetector],
    *,
    summary: Summary,
    actors: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> None:
    """Write the shards of a job that are missing with actors of Ray, each with a detector of its own.

    The files are those of any other worker. Ray's usage statistics are switched off. The job must have begun; its paths
    should be absolute, as the actors may run elsewhere.

    Args:
        job: the job.
        make_detector: returns the detector; it is sent to the actors.
        summary: filled in after each shard.
        actors: how many; None: one for each CPU core of the cluster that RAY_ADDRESS names, or of this machine.
        on_progress: as for `Job.run`.

    Raises:
        InputError: if Ray is not installed or cannot start, or an actor cannot write.

    Example:
        >>> from yolo_lite.runtime import Detector
        >>> job = Job("images.txt", Path("found"))  # doctest: +SKIP
        >>> run_on_ray(job, lambda: Detector("best.onnx", threads=1), summary=Summary(Worker()))  # doctest: +SKIP
    """
    ray = _start()
    try:
        shards = [shard for shard in range(job.manifest.shards) if shard not in job.folder.finished()]
        summary.there = job.manifest.shards - len(shards)
        count = min(actors or max(1, int(ray.cluster_resources().get("CPU", 1))), max(1, len(shards)))
        actor = ray.remote(num_cpus=1, max_restarts=_RETRIES, max_task_retries=_RETRIES)(_Actor)
        pool = ray.util.ActorPool([actor.remote(job, make_detector) for _ in range(count)])
        total = sum(map(job.manifest.size, range(job.manifest.shards)))
        done = total - sum(map(job.manifest.size, shards))
        for shard, result in pool.map_unordered(lambda each, shard: each.write.remote(shard), shards):
            _add(result, summary)
            done += job.manifest.size(shard)
            on_progress(done, total)
    except ray.exceptions.RayError as error:
        raise InputError(f"Ray: {' '.join(str(error).split())[:300]}") from error
    finally:
        ray.shutdown()
    job.end(summary)


class _Actor:
    """Detects in the images of shards; errors for people are returned, as Ray would add a traceback to their words."""

    def __init__(self, job: Job, make_detector: Callable[[], BatchDetector]) -> None:
        self._job, self._make_detector = job, make_detector
        self._detector: BatchDetector | None = None

    def write(self, shard: int) -> tuple[int, Counts | InputError]:
        """Write a shard, and return its number and its counts."""
        try:
            self._detector = self._detector or self._make_detector()
            return shard, self._job.write(shard, self._detector)
        except InputError as error:
            return shard, type(error)(str(error))


def _add(result: Counts | InputError, summary: Summary) -> None:
    if isinstance(result, UnreadableShardError):
        summary.unreadable += 1
        summary.reason = summary.reason or str(result)
    elif isinstance(result, InputError):
        raise result
    else:
        summary.add(result)


def _start() -> Any:
    """Connect to a cluster, or start Ray on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise InputError("--engine ray needs Ray: pip install ray, or leave it out") from error
    local: dict[str, Any] = {"object_store_memory": _OBJECTS, "include_dashboard": False}
    try:
        ray.init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if "RAY_ADDRESS" in os.environ else local),
        )
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise InputError(f"Ray cannot start: {' '.join(str(error).split())[:300]}") from error
    return ray
