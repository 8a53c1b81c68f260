"""Which of several workers this process is, by --worker or by what torchrun, Slurm or Kubernetes tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from yolo_lite.checks import check_variable
from yolo_lite.errors import InputError


@dataclass(frozen=True)
class Worker:
    """One of several processes that divide the shards of a job.

    Attributes:
        index: its number, from 0.
        count: how many there are.
        origin: where both come from, for messages; empty if nothing was given.
    """

    index: int = 0
    count: int = 1
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_worker(text: str, origin: str = "--worker") -> Worker:
    """Return the worker that a text such as 3/8 means: number 3 of the numbers 0 to 7.

    Raises:
        InputError: for any other text.

    Example:
        >>> parse_worker("3/8").index
        3
        >>> parse_worker("8/8")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: --worker 8/8: 8 workers have the numbers 0 to 7
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or int(match[2]) < 1:
        raise InputError(f"{origin} takes a number from 0 and how many workers there are, such as 3/8, got {text!r}")
    index, count = int(match[1]), int(match[2])
    if index >= count:
        raise InputError(f"{origin} {text}: {counted_from_0(count)}")
    return Worker(index, count, origin)


def counted_from_0(count: int) -> str:
    """Return a text about the numbers of workers.

    Example:
        >>> counted_from_0(8)
        '8 workers have the numbers 0 to 7'
    """
    return f"{count} workers have the numbers 0 to {count - 1}" if count > 1 else "the only worker has the number 0"


def find_worker(environment: Mapping[str, str]) -> Worker:
    """Return which worker this process is according to its environment; the only one if nothing says otherwise.

    Looked for in this order: RANK and WORLD_SIZE (torchrun), SLURM_ARRAY_TASK_ID and SLURM_PROCID (the tasks of each
    member of an array are counted through, if srun has started them), JOB_COMPLETION_INDEX with JOB_COMPLETIONS (an
    indexed job of Kubernetes).

    Raises:
        InputError: if variables do not fit together.

    Example:
        >>> str(find_worker({"RANK": "1", "WORLD_SIZE": "2"}))
        '1/2'
        >>> str(find_worker({"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "4"}))
        '2/4'
        >>> str(find_worker({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}))
        '1/3'
        >>> str(find_worker({}))
        '0/1'
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _worker(environment, "RANK", count=_number(environment, "WORLD_SIZE"))
    if "SLURM_ARRAY_TASK_ID" in environment or "SLURM_PROCID" in environment:
        return _of_slurm(environment)
    if "JOB_COMPLETION_INDEX" in environment:
        if "JOB_COMPLETIONS" not in environment:
            raise InputError(
                "JOB_COMPLETION_INDEX is set, but Kubernetes does not say how many workers there are: set JOB_COMPLETIONS in the "
                'container, or pass --worker "$JOB_COMPLETION_INDEX/8"'
            )
        return _worker(environment, "JOB_COMPLETION_INDEX", count=_number(environment, "JOB_COMPLETIONS"))
    return Worker()


def workers_here(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return this process's number among the workers of this machine, and how many of them torchrun or Slurm started.

    Example:
        >>> workers_here({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}), workers_here({})
        ((1, 2), (0, 1))
    """
    if "LOCAL_RANK" in environment:
        return _number(environment, "LOCAL_RANK"), max(1, _number(environment, "LOCAL_WORLD_SIZE", usual=1))
    if "SLURM_LOCALID" in environment:  # Slurm binds each task to its own cores, so that they are not divided again
        return _number(environment, "SLURM_LOCALID"), 1
    return 0, 1


def unused_tasks(environment: Mapping[str, str]) -> int:
    """Return how many tasks a batch script of Slurm has, of which it uses none, as it starts its command without srun.

    Slurm then starts the script alone, in the place of task 0, and it is the only worker.

    Example:
        >>> batch = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}
        >>> unused_tasks(batch), unused_tasks({**batch, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"})
        (8, 0)
    """
    if find_worker(environment).origin == "RANK" or "SLURM_JOB_ID" not in environment or _is_step(environment):
        return 0
    tasks = _number(environment, "SLURM_NTASKS", usual=1)
    return tasks if tasks > 1 else 0


def _is_step(environment: Mapping[str, str]) -> bool:
    """Return whether srun has started this process; sbatch and salloc set the number of tasks, but no step."""
    return "SLURM_STEP_ID" in environment


def _of_slurm(environment: Mapping[str, str]) -> Worker:
    task, tasks = 0, 1
    if _is_step(environment):  # which may have fewer tasks than the job
        task = _number(environment, "SLURM_PROCID", usual=0)
        name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
        tasks = _number(environment, name, usual=1)
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return parse_worker(f"{task}/{tasks}", "SLURM_PROCID")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN", usual=0)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", usual=1)
    member = (_number(environment, "SLURM_ARRAY_TASK_ID") - first) // max(1, step)
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    return parse_worker(f"{member * tasks + task}/{count * tasks}", "SLURM_ARRAY_TASK_ID")


def _worker(environment: Mapping[str, str], name: str, *, count: int) -> Worker:
    return parse_worker(f"{_number(environment, name)}/{count}", name)


def _number(environment: Mapping[str, str], name: str, *, usual: int | None = None) -> int:
    return check_variable(name, environment, usual=usual, remedy="or pass --worker 3/8")
