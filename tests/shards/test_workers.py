"""Which worker a process is."""

from __future__ import annotations

import pytest

from yolo_lite.errors import InputError
from yolo_lite.shards.workers import find_worker, parse_worker, unused_tasks, workers_here

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "4"}
JOB = {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "3"}  # what sbatch and salloc set
BATCH = {**JOB, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}  # of the batch script itself, which is one process
TASKS = {**JOB, "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3"}  # by srun
INDEXED = {"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "5"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "0/1"),
        ({"RANK": "3"}, "0/1"),
        (TORCHRUN, "3/8"),
        (TASKS, "1/3"),
        ({**TASKS, "SLURM_NTASKS": "8"}, "1/3"),  # a step with fewer tasks than the job
        ({**TASKS, **TORCHRUN}, "3/8"),  # srun starts torchrun, which starts the workers
        (JOB, "0/1"),
        (BATCH, "0/1"),
        ({**ARRAY, **BATCH}, "2/4"),
        (ARRAY, "2/4"),
        ({**ARRAY, "SLURM_ARRAY_TASK_STEP": "2"}, "1/4"),
        ({**ARRAY, **TASKS}, "7/12"),  # member 2 of 4, each with 3 tasks: 2 * 3 + 1
        (INDEXED, "4/5"),
        ({**TORCHRUN, **ARRAY, **INDEXED}, "3/8"),
    ],
)
def test_a_worker_is_found_in_the_environment(environment: dict[str, str], expected: str) -> None:
    assert str(find_worker(environment)) == expected


def test_the_members_and_tasks_of_an_array_are_all_different_workers() -> None:
    numbers = [
        find_worker({**ARRAY, **TASKS, "SLURM_ARRAY_TASK_ID": str(10 + member), "SLURM_PROCID": str(task)}).index
        for member in range(4)
        for task in range(3)
    ]
    assert sorted(numbers) == list(range(12))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK must be a whole number, got 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK 2/2: 2 workers have the numbers 0 to 1"),
        ({"JOB_COMPLETION_INDEX": "0"}, "set JOB_COMPLETIONS in the container"),
        ({**TASKS, "SLURM_PROCID": "one"}, "SLURM_PROCID must be a whole number, got 'one'; or pass --worker 3/8"),
        ({**TASKS, "SLURM_STEP_NUM_TASKS": "-3"}, "SLURM_STEP_NUM_TASKS must be a whole number, got '-3'"),
        ({**TASKS, "SLURM_PROCID": "3"}, "SLURM_PROCID 3/3: 3 workers have the numbers 0 to 2"),
        ({**TORCHRUN, "RANK": "9" * 5000}, "RANK must be a whole number, got '99999"),
        ({**TORCHRUN, "WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number, got ''"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT must be a whole number, got ''"),
    ],
)
def test_a_wrong_environment_is_explained(environment: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_worker(environment)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (BATCH, 3),
        (JOB, 3),  # the shell of salloc
        ({**ARRAY, **BATCH}, 3),
        ({**BATCH, "SLURM_NTASKS": "1"}, 0),
        (TASKS, 0),
        ({**BATCH, **TORCHRUN}, 0),
        ({}, 0),
    ],
)
def test_tasks_that_a_batch_script_leaves_idle_are_counted(environment: dict[str, str], expected: int) -> None:
    assert unused_tasks(environment) == expected


@pytest.mark.parametrize("text", ["", "3", "8/8", "-1/3", "0/0", "1/2/3", "a/b"])
def test_a_wrong_worker_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--worker"):
        parse_worker(text)


def test_the_cores_of_a_machine_are_divided_among_the_workers_of_torchrun() -> None:
    assert workers_here(TORCHRUN) == (1, 2)
    assert workers_here(TASKS) == (1, 1)  # Slurm has divided them
    assert workers_here({}) == (0, 1)
