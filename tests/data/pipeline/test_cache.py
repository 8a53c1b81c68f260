"""Images kept in memory: which memory counts as free, what is refused, and that nothing can spoil them."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from yolo_lite.data.pipeline import cache
from yolo_lite.data.pipeline.cache import KeptImages, free_memory, keep_images, memory_room
from yolo_lite.errors import InputError
from yolo_lite.structures.geometry import Image

SIZES = [(2, 3), (5, 1), (1, 1), (4, 4)]
NEED = 3 * (6 + 5 + 1 + 16)


def _image(index: int) -> Image:
    return np.random.default_rng(index).integers(0, 256, (*SIZES[index], 3)).astype(np.uint8)


def _room(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 2 * room)


# What is kept


def test_every_image_comes_back_as_it_went_in() -> None:
    said: list[str] = []
    told: list[tuple[int, int]] = []
    kept = keep_images(
        _image, SIZES, choice="ram", say=said.append, on_image=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert kept is not None
    assert kept.pixels.numel() == NEED
    for index in (3, 0, 2, 1):
        np.testing.assert_array_equal(kept[index], _image(index))
    assert said == ["images cached in RAM: 4, 0.0 MB"]


def test_what_is_kept_cannot_be_written_to() -> None:
    kept = KeptImages(SIZES)
    kept.store(1, _image(1))
    with pytest.raises(ValueError, match="read-only"):
        kept[1][0, 0, 0] = 1
    np.testing.assert_array_equal(kept[1], _image(1))


def test_no_images_are_no_trouble() -> None:
    kept = keep_images(_image, [], choice="auto", say=lambda line: None)
    assert kept is not None
    assert kept.pixels.numel() == 0


def test_the_first_bad_image_is_named_though_another_fails_earlier() -> None:
    def decode(index: int) -> Image:
        if index == 1:
            time.sleep(0.1)
        if index in (1, 3):
            raise InputError(f"image {index}")
        return _image(index)

    with pytest.raises(InputError, match="image 1"):
        keep_images(decode, SIZES, choice="ram", say=lambda line: None)


def test_the_filters_of_warnings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to the process: a program's other threads would get them for as long as images are read."""
    seen = []

    def decode(index: int) -> Image:
        seen.append(list(warnings.filters))
        return _image(index)

    before = list(warnings.filters)
    with monkeypatch.context() as patch:  # pytest uses it too
        patch.setattr(warnings, "catch_warnings", lambda *_, **__: pytest.fail("the filters are swapped"))
        keep_images(decode, SIZES, choice="ram", say=lambda line: None)
    assert seen == [before] * len(SIZES)
    assert list(warnings.filters) == before


# Whether there is room


@pytest.mark.parametrize("choice", ["auto", "ram"])
def test_just_enough_room_is_enough(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    _room(monkeypatch, NEED)
    assert keep_images(_image, SIZES, choice=choice, say=lambda line: None) is not None


def test_auto_goes_on_without_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    _room(monkeypatch, NEED - 1)
    said: list[str] = []
    assert keep_images(_never, SIZES, choice="auto", say=said.append) is None
    expected = "4 images need 0.0 MB, and there is room for 0.0 MB; they are decoded in every epoch"
    assert said == [f"images are not cached in RAM: {expected}"]


def test_ram_refuses_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    _room(monkeypatch, 2_500_000_000)
    with pytest.raises(InputError) as caught:
        keep_images(_never, [(10_000, 10_000)] * 10, choice="ram", say=lambda line: None)
    assert str(caught.value).startswith(
        "train.cache is ram, but 10 images need 3.0 GB, and there is room for 2.5 GB; choose "
    )


def test_none_says_nothing() -> None:
    assert keep_images(_never, SIZES, choice="none", say=_never) is None


def test_another_choice_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.cache must be one of auto, ram, none, got 'disk'"):
        keep_images(_never, SIZES, choice="disk", say=_never)


def _never(*arguments: object) -> Image:
    raise AssertionError("called")


# What is free

GIB = 1 << 30


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  9999999 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\nBuffers: 5 kB\n"}
V1 = "sys/fs/cgroup/memory/memory."


@pytest.mark.parametrize(
    ("files", "free"),
    [
        pytest.param(MEMINFO, 4 * GIB, id="no container"),
        pytest.param({}, None, id="a system that tells nothing"),
        pytest.param({"proc/meminfo": "words\n\n"}, None, id="a file of something else"),
        pytest.param(
            {
                **MEMINFO,
                "sys/fs/cgroup/memory.max": f"{3 * GIB}\n",
                "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 7\ninactive_file {GIB // 2}\nactive_file 9\n",
            },
            3 * GIB // 2,
            id="a container, where read files can be dropped",
        ),
        pytest.param(
            {**MEMINFO, "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"},
            4 * GIB,
            id="a container without a limit",
        ),
        pytest.param(
            {**MEMINFO, f"{V1}limit_in_bytes": f"{GIB}", f"{V1}usage_in_bytes": f"{2 * GIB}"}, 0, id="older, and full"
        ),
        pytest.param(
            {**MEMINFO, f"{V1}limit_in_bytes": "9223372036854771712", f"{V1}usage_in_bytes": "1"},
            4 * GIB,
            id="older, without a limit",
        ),
    ],
)
def test_free_memory_is_what_the_system_says(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    assert free_memory(_machine(tmp_path, files)) == free


def test_half_of_what_is_free_is_room_and_a_gibibyte_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 3001)
    assert memory_room() == 1500
    monkeypatch.setattr(cache, "free_memory", lambda: None)
    assert memory_room() == GIB
