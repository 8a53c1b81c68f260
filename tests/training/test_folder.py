"""A run stopped at any moment, or whose files are damaged, ends as one that was never stopped."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import SMALL, write_coco_set
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.training.folder import is_whole, outdated
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.runs import check_run_folder
from yolo_lite.training.task import Listener

Folders = tuple[Path, Path]
FILES = ["best.pt", "config.yaml", "last.pt", "previous.pt", "results.csv", "results.png"]
FILES += ["training.jpg", "validation.jpg"]


def tiny(*overrides: str) -> Config:
    """Return settings with which an epoch takes a tenth of a second; augmented, so that every epoch differs."""
    size = ("input.image_size=[32, 32]", "augment={}", "train.batch_size=4", "train.epochs=3", "pretrain.image_size=32")
    return override_config(read_config(None), [*SMALL, *size, *overrides])


def some_fast(values: Iterable[Any], fast: Container[Any]) -> list[Any]:
    """Mark all but some of a test's parameters as slow."""
    sets = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*one, marks=() if one in fast or one[0] in fast else pytest.mark.slow) for one in sets]


CROPS = ("pretrain.crops=2", "train.epochs=1", "pretrain.batch_size=8")
PLAIN = ("pretrain.crops=0",)


@pytest.fixture(scope="module", autouse=True)
def plain_drawings() -> Iterator[None]:
    """Write what a drawing shows instead of drawing it, which would take longer than the training."""

    def sheet(images: Any, path: Path) -> None:
        path.write_text(repr([(int(one.image.sum()), one.texts) for one in images]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yolo_lite.training.folder.draw_sheet", sheet)
        patch.setattr("yolo_lite.training.folder.plot_results", lambda rows, path: path.write_text(repr(rows)))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_set(tmp_path_factory.mktemp("data") / "set", {"train": 8, "val": 4}, hw=(64, 64), objects=1)


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """Return the folder of a run of three epochs that nothing disturbed."""
    torch.set_num_threads(1)
    return train(data, config=tiny(*PLAIN), out=data.parent / "whole", device="cpu")


@pytest.fixture(scope="module")
def whole_crops(data: Path) -> Path:
    torch.set_num_threads(1)
    return train(data, config=tiny(*CROPS), out=data.parent / "crops", device="cpu")


def equal(one: Any, other: Any) -> bool:
    """Compare plain values and tensors bit for bit; nan, as of a score that nothing was left for, equals itself."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other or (one != one and other != other))


def assert_same_end(one: Path, other: Path, crops: bool = False) -> None:
    for name in [*FILES, *([f"crops/{name}" for name in FILES] if crops else [])]:
        if not (one / name).exists():
            assert not (other / name).exists(), name
        elif name.endswith(".pt"):
            if "previous" in name:
                continue  # a checkpoint older or equal: which one depends on when it was stopped
            first, second = (load_checkpoint(folder / name) for folder in (one, other))
            assert equal(dict(first.weights), dict(second.weights)), name
            assert equal(dict(first.about), dict(second.about)), name
            assert equal(dict(first.training), dict(second.training)), name
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(other.rglob(".*.part*"))


class Stop(BaseException):
    """A stop that nobody handles."""


def stop_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before that renaming of a file, counted from 1."""
    replace, seen = os.replace, [0]

    def counted(*arguments: Any) -> None:
        seen[0] += 1
        if seen[0] == moment:
            raise Stop
        replace(*arguments)

    monkeypatch.setattr(os, "replace", counted)


def go_on_or_begin(out: Path, data: Path, config: Config) -> Path:
    """Do what the two messages of the command line say, which leaves no third way."""
    try:
        check_run_folder(out)
    except InputError:
        try:
            return resume(out, device="cpu")
        except InputError as error:
            if "has finished" not in str(error):  # stopped when everything was done
                raise
            return out
    return train(data, config=config, out=out, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 11))
def test_a_stop_at_any_renaming_of_the_first_epoch_can_be_made_good(
    moment: int, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(moment, patch)
        train(data, config=tiny(*PLAIN), out=out, device="cpu")
    assert_same_end(whole, go_on_or_begin(out, data, tiny(*PLAIN)))


@pytest.mark.slow
@pytest.mark.parametrize("back", range(1, 7))
def test_a_stop_while_the_last_epoch_is_saved_can_be_made_good(
    back: int, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is then finished; what is missing is made all the same, and after that there is nothing to resume."""
    out, counts = tmp_path / "run", [0]
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "replace", lambda *paths, replace=os.replace: (counts.__setitem__(0, counts[0] + 1), replace(*paths))
        )
        train(data, config=tiny(*PLAIN), out=tmp_path / "counted", device="cpu")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(counts[0] + 1 - back, patch)
        train(data, config=tiny(*PLAIN), out=out, device="cpu")
    assert_same_end(whole, go_on_or_begin(out, data, tiny(*PLAIN)))
    with pytest.raises(InputError, match="has finished its 3 epochs; nothing to resume"):
        resume(out, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("moment", some_fast(range(1, 25), (7,)))
def test_a_stop_at_a_renaming_of_a_run_that_learns_crops_first_can_be_made_good(
    moment: int, data: Path, whole_crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(moment, patch)
        train(data, config=tiny(*CROPS), out=out, device="cpu")
    assert_same_end(whole_crops, go_on_or_begin(out, data, tiny(*CROPS)), crops=True)


def copy_until(epoch: int, data: Path, out: Path, *settings: str) -> Path:
    """Train up to the end of an epoch."""

    def stop(row: Any, best: bool) -> None:
        if row["epoch"] == epoch and "loss_box" in row:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, config=tiny(*settings), out=out, device="cpu", listener=Listener(on_epoch=stop))
    return out


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def with_one_bit_turned(path: Path) -> None:
    """Turn a bit in the middle of the tensors, which no loader would notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))


def removed(path: Path) -> None:
    path.unlink()


DAMAGES = [emptied, cut_short, with_one_bit_turned, removed]


@pytest.mark.parametrize(
    ("damage", "epoch"),
    some_fast(itertools.product(DAMAGES, (1, 2)), [(with_one_bit_turned, 2), (removed, 1)]),
)
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], None], epoch: int, data: Path, whole: Path, tmp_path: Path
) -> None:
    """best.pt, results and sheets that are of the lost epoch go back too; the end is the same, bit for bit."""
    out, lines = copy_until(epoch, data, tmp_path / "run", *PLAIN), []
    damage(out / "last.pt")
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        check_run_folder(out)

    def note(row: Any, best: bool) -> None:
        lines.append(f"epoch {row['epoch']:.0f}")

    resume(out, device="cpu", listener=Listener(say=lines.append, on_epoch=note))
    state = "missing" if damage is removed else "damaged"
    told = f"{out}/last.pt is {state}; resuming from {out}/previous.pt, after epoch 1"
    assert lines.count(told) == 1
    assert [line for line in lines if line.startswith("epoch")] == ["epoch 2", "epoch 3"]
    assert_same_end(whole, out)


@pytest.mark.slow
def test_the_folder_is_brought_back_to_the_epoch_that_is_gone_on_from(data: Path, tmp_path: Path) -> None:
    """Before the next epoch is done, so that a second stop finds nothing of the lost one."""
    out = copy_until(2, data, tmp_path / "run", *PLAIN)
    once = copy_until(1, data, tmp_path / "once", *PLAIN)
    emptied(out / "last.pt")

    def stop(report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(out, device="cpu", listener=Listener(on_step=stop))
    assert (out / "results.csv").read_bytes() == (once / "results.csv").read_bytes()
    best, expected = load_checkpoint(out / "best.pt"), load_checkpoint(once / "best.pt")
    assert best.about["epoch"] == 1
    assert equal(dict(best.weights), dict(expected.weights))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [*(("best.pt", damage) for damage in DAMAGES), *((name, removed) for name in ("results.csv", "config.yaml"))],
)
def test_any_other_file_is_made_again(
    name: str, damage: Callable[[Path], None], data: Path, whole: Path, tmp_path: Path
) -> None:
    out, lines = tmp_path / "run", []
    shutil.copytree(whole, out)
    damage(out / name)
    resume(out, device="cpu", listener=Listener(say=lines.append))
    assert any(line == f"rebuilt from last.pt: {name}" for line in lines)
    assert_same_end(whole, out)


def test_where_no_checkpoint_is_whole_the_way_out_is_said(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("last.pt", "previous.pt"):
        cut_short(out / name)
    with pytest.raises(
        InputError, match=r"last.pt is not .* or is damaged, as is .*previous.pt; train again with another"
    ):
        resume(out, device="cpu")
    for name in ("last.pt", "previous.pt"):
        removed(out / name)
    with pytest.raises(
        InputError, match=r"last.pt does not exist, so the run in .* cannot be resumed; train again with an"
    ):
        resume(out, device="cpu")
    with pytest.raises(InputError, match=r"holds the best.pt of a run that cannot be resumed.*choose another --out"):
        check_run_folder(out)


@pytest.mark.slow
def test_damaged_checkpoints_of_the_crops_let_the_backbone_learn_again(
    data: Path, whole_crops: Path, tmp_path: Path
) -> None:
    def stop(row: Any, best: bool) -> None:
        raise KeyboardInterrupt

    out, lines = tmp_path / "run", []
    with pytest.raises(KeyboardInterrupt):
        train(data, config=tiny(*CROPS), out=out, device="cpu", listener=Listener(on_epoch=stop))
    for name in ("last.pt", "previous.pt"):
        with_one_bit_turned(out / "crops" / name)
    resume(out, device="cpu", listener=Listener(say=lines.append))
    assert f"{out}/crops/last.pt is damaged; pretraining starts from the beginning" in lines
    assert_same_end(whole_crops, out, crops=True)


@pytest.mark.slow
def test_a_checkpoint_that_is_not_whole_does_not_replace_the_last_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_until(1, data, tmp_path / "run", *PLAIN)
    before = (out / "last.pt").read_bytes()
    monkeypatch.setattr("yolo_lite.checkpoints.checkpoint.flush", cut_short)
    with pytest.raises(InputError, match=r"cannot write .*last.pt: the bytes on the disk differ from those written"):
        resume(out, device="cpu")
    assert (out / "last.pt").read_bytes() == before
    assert not list(out.glob(".*.part*"))


def test_whole_is_what_is_as_it_was_written(whole: Path, tmp_path: Path) -> None:
    assert is_whole(whole / "last.pt")
    for damage in DAMAGES:
        path = tmp_path / damage.__name__
        shutil.copy(whole / "last.pt", path)
        damage(path)
        assert not is_whole(path), damage
    assert not is_whole(whole)
    assert outdated(whole, load_checkpoint(whole / "last.pt").training) == []


# Killed


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that kills itself at that event of the system (a file opened, renamed, removed ...).

    Returns:
        Whether it was killed before the work was done.
    """
    child = os.fork()
    if child == 0:
        seen = [0]

        def hook(event: str, arguments: object) -> None:
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"):
                seen[0] += 1
                if seen[0] == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.addaudithook(hook)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


@pytest.mark.slow
def test_thirty_kills_at_random_moments_change_nothing() -> None:
    """In a process of its own: once torch's autograd has threads, which other tests start, a forked child cannot train."""
    chosen = ["-p", "no:cacheprovider", __file__, "-k", "kills_of_a_forked_child"]
    command = [sys.executable, "-m", "pytest", *chosen]
    done = subprocess.run(
        command, env={**os.environ, ALONE: "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


ALONE = "YOLO_LITE_TEST_ALONE"


@pytest.mark.skipif(ALONE not in os.environ, reason="is run by the test before it, in a process of its own")
@pytest.mark.parametrize("settings", [PLAIN, CROPS], ids=["plain", "crops"])
def test_thirty_kills_of_a_forked_child_change_nothing(
    settings: tuple[str, ...], data: Path, whole: Path, whole_crops: Path, tmp_path: Path
) -> None:
    """Each run is killed again and again until it is done; then a new one begins, until there were thirty kills."""
    draw, kills, runs = random.Random(44), 0, 0
    config = tiny(*settings)
    while kills < 30:
        out = tmp_path / f"run-{runs}"
        while killed_at(draw.randint(20, 160), lambda out=out: go_on_or_begin(out, data, config)):  # type: ignore[misc]
            kills += 1
        assert_same_end(whole if settings is PLAIN else whole_crops, out, crops=settings is CROPS)
        runs += 1
