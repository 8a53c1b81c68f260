"""The limit of a container, as Linux writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from yolo_lite import cores, device
from yolo_lite.cores import container_cores, usable_cores
from yolo_lite.runtime import engines


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", 0),
        ("200000 100000", 2),
        ("150000 100000", 2),  # one and a half cores are used by two threads
        ("10000 100000", 1),
        ("0 100000", 0),
        ("", 0),
        ("nonsense", 0),
        ("100000", 0),
        ("100000 0", 0),
    ],
)
def test_the_limit_of_version_2(tmp_path: Path, text: str, expected: int) -> None:
    write(tmp_path / "cpu.max", text + "\n")
    assert container_cores(tmp_path, tmp_path / "no file") == expected


@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "expected"), [(-1, 0), (300_000, 3)])
def test_the_limit_of_version_1(tmp_path: Path, controller: str, quota: int, expected: int) -> None:
    write(tmp_path / controller / "cpu.cfs_quota_us", f"{quota}\n")
    write(tmp_path / controller / "cpu.cfs_period_us", "100000\n")
    assert container_cores(tmp_path, tmp_path / "no file") == expected


def test_the_lowest_limit_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("0::/work.slice/job.service\n")
    write(tmp_path / "work.slice" / "cpu.max", "400000 100000\n")
    write(tmp_path / "work.slice" / "job.service" / "cpu.max", "max 100000\n")
    assert container_cores(tmp_path, membership) == 4
    write(tmp_path / "work.slice" / "job.service" / "cpu.max", "300000 100000\n")
    assert container_cores(tmp_path, membership) == 3
    write(tmp_path / "other.slice" / "cpu.max", "100000 100000\n")  # of another program
    assert container_cores(tmp_path, membership) == 3


def test_version_1_has_a_path_for_each_controller(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("5:memory:/jobs/7\n1:cpu,cpuacct:/docker/abc\n")
    write(tmp_path / "cpu,cpuacct" / "docker" / "abc" / "cpu.cfs_quota_us", "250000\n")
    write(tmp_path / "cpu,cpuacct" / "docker" / "abc" / "cpu.cfs_period_us", "100000\n")
    assert container_cores(tmp_path, membership) == 3


@pytest.mark.parametrize(("bound", "limit", "expected"), [(64, 2, 2), (2, 64, 2), (8, 0, 8)])
def test_usable_cores(monkeypatch: pytest.MonkeyPatch, bound: int, limit: int, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound)), raising=False)
    monkeypatch.setattr(cores, "core_limit", lambda: limit)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("limit", "chosen", "expected"),
    [(2, None, 2), (0, None, 6), (64, None, 6), (2, "6", 6)],  # a number that the user has chosen stays
)
def test_torch_starts_no_more_threads_than_the_container_has_cores(
    monkeypatch: pytest.MonkeyPatch, limit: int, chosen: str | None, expected: int
) -> None:
    monkeypatch.setattr(device, "core_limit", lambda: limit)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    device.limit_threads.cache_clear()
    try:
        device.place(torch.nn.Linear(1, 1), torch.device("cpu"))
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
        device.limit_threads.cache_clear()


@pytest.mark.parametrize(("asked", "limit", "expected"), [(0, 3, 3), (0, 0, 0), (1, 3, 1), (5, 3, 5)])
def test_exported_files_run_on_as_many_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: int, limit: int, expected: int
) -> None:
    given: list[int] = []
    monkeypatch.setattr(engines, "core_limit", lambda: limit)
    monkeypatch.setattr(engines, "_OnnxRuntime", lambda path, threads: given.append(threads))
    engines.open_engine(tmp_path / "model.onnx", asked)
    assert given == [expected]
