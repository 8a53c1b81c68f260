"""How many CPU cores this process may use, the limit of its container included."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may use: those it is bound to, or fewer if its container has a limit.

    Example:
        >>> 1 <= usable_cores() <= os.cpu_count()
        True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, core_limit() or bound)


@functools.cache
def core_limit() -> int:
    """Return the limit of this process's container, which is read once; see `container_cores`.

    Example:
        >>> core_limit() >= 0
        True
    """
    return container_cores()


def container_cores(groups: Path = _GROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the CPU time that the container may use, in whole cores (at least 1); 0 without a limit.

    torch and ONNX Runtime count the machine's cores instead. In a container with 2 of 64 cores they would start 64
    threads, which the system then stops for most of the time.

    Args:
        groups: where Linux shows control groups, version 1 or 2.
        membership: file that lists the groups of this process.

    Example:
        >>> container_cores(Path("no_such_folder"), Path("no_such_file"))
        0
    """
    limits = [quota / period for quota, period in _quotas(groups, _own_groups(membership)) if quota > 0 and period > 0]
    return max(1, math.ceil(min(limits))) if limits else 0


def _own_groups(membership: Path) -> list[Path]:
    """Return the paths of this process's groups and of all above them, relative to the root of their hierarchy."""
    try:
        lines = membership.read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    paths = {Path(".")}
    for line in lines:
        path = Path(line.split(":", 2)[-1].lstrip("/"))
        paths |= {path, *path.parents}
    return sorted(paths)


def _quotas(groups: Path, paths: list[Path]) -> Iterator[tuple[float, float]]:
    """Yield the microseconds of CPU time, and the period that they are for, of each group that has a limit."""
    for path in paths:
        both = _numbers(groups / path / "cpu.max")  # version 2
        if len(both) == 2:
            yield both[0], both[1]
        for controller in ("cpu", "cpu,cpuacct"):  # version 1
            quota = _numbers(groups / controller / path / "cpu.cfs_quota_us")
            period = _numbers(groups / controller / path / "cpu.cfs_period_us")
            if quota and period:
                yield quota[0], period[0]


def _numbers(file: Path) -> list[float]:
    """Return the numbers in a file; none if it cannot be read or says something else, such as `max`."""
    try:
        return [float(word) for word in file.read_text().split()]
    except (OSError, ValueError):
        return []
