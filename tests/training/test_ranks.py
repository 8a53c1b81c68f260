"""Training on several processes: the same gradients, the same epochs, one set of files, and a restart that goes on."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.class_images import NARROW, QUICK, write_class_set
from tests.conftest import SMALL, write_coco_set
from tests.processes import run_ranks
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline import augment  # noqa: F401 - here once, or every process would import it
from yolo_lite.data.pipeline.loader import EpochSampler, collate_boxes
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.models.build import build_detector
from yolo_lite.ranks import ALONE, PeerError, RankError, Ranks, together
from yolo_lite.shipped import find_config
from yolo_lite.training.loop import train_step
from yolo_lite.training.recipe import TASKS, resume, train, train_classifier
from yolo_lite.training.state import State
from yolo_lite.training.task import Listener

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the sheets and curves, which take longer than these trainings."""
    for name in ("draw_sheet", "plot_results"):
        monkeypatch.setattr(f"yolo_lite.training.folder.{name}", lambda content, path: path.write_bytes(b"drawn"))


TINY = (
    *SMALL,
    "train.clip_norm=0",
    "loss.static_share=0.5",
    "model.widths=[8, 16, 24, 32]",
    "input.image_size=[64, 96]",
)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("total", "batch_size"), [(21, 4), (21, 8), (2, 8), (21, 64)])
def test_processes_divide_every_batch(total: int, batch_size: int, count: int) -> None:
    """Together they have each image of the single process's batch once; who has none gets the first as a stand-in."""
    whole = list(EpochSampler(total, batch_size, shuffle=True, seed=3))
    parts = [list(EpochSampler(total, batch_size, shuffle=True, seed=3, ranks=Ranks(r, count))) for r in range(count)]
    for number, batch in enumerate(whole):
        shares = [part[number] for part in parts]
        has = [share for rank, share in enumerate(shares) if Ranks(rank, count).own(len(batch))]
        assert sorted(key for share in has for key in share) == sorted(batch)
        assert all(share == batch[:1] for rank, share in enumerate(shares) if rank >= len(batch))
    assert {len(part) for part in parts} == {len(whole)}


def detection_task(root: Path, *settings: str) -> Any:
    config = override_config(read_config(None), (*TINY, f"data.path={root}", *settings))
    return TASKS["detect"](config, start=None, device=CPU, listener=Listener())


def gradients(
    task: Any, batch: Any, *, parts: int, total: int, ranks: Ranks = ALONE
) -> tuple[list[Tensor], dict[str, float]]:
    """Return the gradients of one step from the same start, with normalisation frozen, and the parts of the loss."""
    task.ranks = ranks
    torch.manual_seed(0)
    state = State.new(copy.deepcopy(task.model), task.config.train, steps=10, ranks=ranks)
    state.parts = parts
    state.model.train()
    for module in state.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    losses = train_step(task, state, batch=batch, progress=0.9, total=total)
    return [each.grad.clone() for each in state.model.parameters() if each.grad is not None], losses


def relative(found: list[Tensor], wanted: list[Tensor]) -> float:
    flat, goal = (torch.cat([each.reshape(-1) for each in several]) for several in (found, wanted))
    return float((flat - goal).norm() / goal.norm())


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_set(tmp_path_factory.mktemp("seven") / "set", {"train": 7, "val": 2})


CASES = [(2, 7, 1), (3, 2, 1), (3, 7, 3)]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in ((3, 7, 1), (2, 7, 2), (3, 4, 2))]


@pytest.mark.parametrize(("count", "images", "parts"), CASES)
@pytest.mark.parametrize("settings", [(), ("train.teacher=yolo_lite-pico-voc5",)], ids=["labels", "teacher"])
def test_gradients_are_those_of_one_process(
    seven: Path, count: int, images: int, parts: int, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process with the whole batch is the oracle; micro-batches and processes without an image are among the cases."""
    monkeypatch.setattr("yolo_lite.training.tasks.teacher.Teacher.__init__", teacher_of_shapes)
    task = detection_task(seven, *settings)
    wanted, losses = gradients(task, task_batch(task, range(images)), parts=parts, total=images)

    def work() -> tuple[list[Tensor], dict[str, float]]:
        with together() as ranks:
            own = list(range(images))[ranks.rank :: ranks.count] or [0]
            found, seen = gradients(task, task_batch(task, own), parts=parts, total=images, ranks=ranks)
            return [each.numpy() for each in found], seen  # type: ignore[misc]

    assert "teach_class" in losses or not settings
    for found, seen in run_ranks(count, work):
        assert relative([torch.from_numpy(each) for each in found], wanted) < 1e-5
        assert seen == pytest.approx(losses, rel=1e-5)


def task_batch(task: Any, positions: Any) -> Any:
    return (task.collate or collate_boxes)([task.dataset[0, position] for position in positions])


def teacher_of_shapes(self: Any, weights: str, class_names: Any, *, device: torch.device, say: Any = None) -> None:
    """Build a teacher with random weights that knows the drawn shapes."""
    config = override_config(read_config(None), TINY)
    self.model = build_detector(config, 2, seed=9).eval().requires_grad_(False)
    self.known, self.mine, self.theirs = list(class_names), torch.arange(2), torch.arange(2)
    self.matches = dict(zip(class_names, class_names))
    self._cells, self._times, self._say = {}, [], lambda line: None


@pytest.mark.parametrize(("positions", "parts"), [(range(7), 2), ([0, 6], 1)])
def test_gradients_of_a_classifier_are_those_of_one_process(
    positions: Sequence[int], parts: int, tmp_path: Path
) -> None:
    data = write_class_set(tmp_path / "set", {"train": {"disc": 4, "bar": 3}, "val": {"disc": 1, "bar": 1}})
    config = override_config(
        read_config(find_config("yolo_lite-n-cls")),
        {**QUICK, **NARROW, "data.path": str(data), "train.clip_norm": 0, "train.batch_size": 7},
    )
    task: Any = TASKS["classify"](config, start=None, device=CPU, listener=Listener())
    wanted, losses = gradients(task, task_batch(task, positions), parts=parts, total=len(positions))
    accuracy = task.training_numbers()
    assert 0 < accuracy["train_accuracy"] < 1  # so that counting a stand-in would show

    def work() -> Any:
        with together() as ranks:
            own = positions[ranks.rank :: ranks.count] or positions[:1]  # a stand-in
            found, seen = gradients(task, task_batch(task, own), parts=parts, total=len(positions), ranks=ranks)
            return [each.numpy() for each in found], seen, task.training_numbers()

    for found, seen, numbers in run_ranks(3, work):
        assert relative([torch.from_numpy(each) for each in found], wanted) < 1e-5
        assert seen == pytest.approx(losses, rel=1e-5)
        assert numbers == accuracy


def test_all_divide_the_batch_when_one_runs_out_of_memory(seven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 has no room for more than one image at a time; the gradient is that of four micro-batches."""
    task = detection_task(seven)
    wanted, _ = gradients(task, task_batch(task, range(7)), parts=4, total=7)
    loss = type(task).loss

    def work() -> Any:
        with together() as ranks:

            def tight(self: Any, model: nn.Module, batch: Any, *, progress: float) -> dict[str, Tensor]:
                if ranks.rank == 1 and len(batch.images) > 1:
                    raise MemoryError
                return loss(self, model, batch, progress=progress)

            monkeypatch.setattr(type(task), "loss", tight)
            monkeypatch.setattr(Ranks, "can_divide", lambda *arguments, **settings: True)
            found, _ = gradients(task, task_batch(task, range(ranks.rank, 7, 2)), parts=1, total=7, ranks=ranks)
            return [each.numpy() for each in found]

    for found in run_ranks(2, work):
        assert relative([torch.from_numpy(each) for each in found], wanted) < 1e-5


def settings_for(root: Path, epochs: int, *more: str) -> Config:
    return override_config(
        read_config(None), (*TINY, f"data.path={root}", f"train.epochs={epochs}", "train.lr=0.004", *more)
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 21 training images and 21 validation images, which 2 and 3 processes cannot divide into equal batches."""
    return write_coco_set(tmp_path_factory.mktemp("shapes") / "set", {"train": 21, "val": 21})


def last(folder: Path) -> Mapping[str, Any]:
    return load_checkpoint(folder / "last.pt").training


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_21_images_train_and_score_alike_on_any_number_of_processes(shapes: Path, count: int, tmp_path: Path) -> None:
    """The loss follows that of one process, but for batch normalisation; the scores of one file are the same, bit for bit."""
    alone = train(config=settings_for(shapes, 2), out=tmp_path / "alone", device="cpu")
    lines: list[str] = []

    def work() -> Any:
        run = train(config=settings_for(shapes, 2), out=tmp_path / "run", device="cpu", listener=Listener(lines.append))
        scored = evaluate(alone / "best.pt", shapes, settings={"train.batch_size": 4, "train.workers": 0}, device="cpu")
        return run, lines, scored.metrics.numbers, scored.rows

    results = run_ranks(count, work)
    expected = evaluate(alone / "best.pt", shapes, settings={"train.batch_size": 4, "train.workers": 0}, device="cpu")
    assert len(expected.rows) > 21
    assert [rows for _, _, _, rows in results] == [expected.rows] + [[]] * (count - 1)
    assert all(str(numbers) == str(expected.metrics.numbers) for _, _, numbers, _ in results)  # NaN is not itself
    assert any(f"{count} processes" in line for line in results[0][1])
    assert all(not said for _, said, _, _ in results[1:])
    run = results[0][0]
    assert {path.name for path in run.iterdir()} == {path.name for path in alone.iterdir()}
    losses = [[row["loss_total"] for row in last(folder)["rows"]] for folder in (run, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert last(run).keys() == last(alone).keys()
    # The processes evaluated the average that rank 0 keeps, not their own.
    again = evaluate(run / "last.pt", shapes, settings={"train.batch_size": 8, "train.workers": 0}, device="cpu")
    assert again.metrics.numbers["AP50"] == last(run)["rows"][-1]["AP50"] > 0


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = {"train": {"disc": 7, "bar": 6}, "val": {"disc": 2, "bar": 3}}
    return write_class_set(tmp_path_factory.mktemp("bars") / "set", classes)


def learn_bars(data: Path, out: Path | None, on_epoch: Callable[[Any, bool], None] = lambda row, best: None) -> Path:
    settings = {**QUICK, **NARROW, "train.epochs": 3, "train.batch_size": 6}
    listener = Listener(on_epoch=on_epoch)
    return train_classifier(data, config="yolo_lite-n-cls", settings=settings, out=out, device="cpu", listener=listener)


@pytest.mark.slow
def test_a_killed_run_goes_on_after_a_restart_and_ends_the_same(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is not named: the restarted processes find the run of their launch, and not another one."""
    monkeypatch.chdir(tmp_path)

    def kill(row: Any, best: bool) -> None:
        """Let rank 0 kill itself after the first epoch, when rank 1 has begun the second."""
        os.kill(os.getpid(), signal.SIGKILL)

    whole = run_ranks(2, lambda: learn_bars(bars, Path("whole")))[0]
    first, second = run_ranks(2, lambda: learn_bars(bars, None, kill))
    assert first is None
    assert isinstance(second, RankError)
    assert str(second).startswith("rank 0: ended without a message")
    (tmp_path / "runs" / "train-2").mkdir()  # of another launch
    again = run_ranks(2, lambda: learn_bars(bars, None), restarts=1)
    assert [str(path) for path in again] == ["runs/train-1"] * 2
    end, expected = last(again[0]), last(whole)
    assert end["rows"] == expected["rows"]
    for name, value in expected["model"].items():
        assert torch.equal(end["model"][name], value), name
    assert sorted(path.name for path in again[0].iterdir()) == sorted(path.name for path in whole.iterdir())


def test_a_restart_after_the_last_epoch_is_no_error(bars: Path, tmp_path: Path) -> None:
    run_ranks(2, lambda: learn_bars(bars, tmp_path / "run"))
    assert run_ranks(2, lambda: learn_bars(bars, tmp_path / "run"), restarts=1) == [tmp_path / "run"] * 2


@pytest.mark.parametrize(("before", "after"), [(2, 3), (1, 2), (2, 1)])
def test_a_run_resumes_on_another_number_of_processes(bars: Path, before: int, after: int, tmp_path: Path) -> None:
    def stop(row: Any, best: bool) -> None:
        raise InputError("enough")

    stopped = run_ranks(before, lambda: learn_bars(bars, tmp_path / "run", stop))
    assert [type(error) for error in stopped] == ([RankError, PeerError] if before > 1 else [InputError])
    assert last(tmp_path / "run")["epoch"] == 1
    assert run_ranks(after, lambda: resume(tmp_path / "run", device="cpu")) == [tmp_path / "run"] * after
    assert [row["epoch"] for row in last(tmp_path / "run")["rows"]] == [1, 2, 3]


def test_a_bad_image_on_one_process_ends_all_with_its_name(tmp_path: Path) -> None:
    root = write_coco_set(tmp_path / "set", {"train": 4, "val": 2})
    config = settings_for(root, 1, "train.cache=none")
    order = [index for _, index in next(iter(EpochSampler(4, 8, shuffle=True, seed=config.train.seed)))]
    bad = root / "images" / f"{order[1] + 1:04d}.png"  # rank 1's first image
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    first, second = run_ranks(2, lambda: train(config=config, out=tmp_path / "run", device="cpu"))
    assert isinstance(second, RankError)
    assert str(second).startswith("rank 1: ")
    assert bad.name in str(second)
    assert isinstance(first, PeerError)
    assert str(first) == str(second)


def test_other_data_on_another_machine_is_refused(tmp_path: Path) -> None:
    write_coco_set(tmp_path / "0" / "set", {"train": 4, "val": 2})
    write_coco_set(tmp_path / "1" / "set", {"train": 5, "val": 2})

    def work() -> Any:
        os.chdir(tmp_path / os.environ["RANK"])
        return train(config=settings_for(Path("set"), 1), out="run", device="cpu")

    _, second = run_ranks(2, work)
    assert "rank 1: set on this machine is not the data of rank 0: train was 4 images" in str(second)


@pytest.mark.slow
def test_crops_and_other_sizes_work_on_two_processes(shapes: Path, tmp_path: Path) -> None:
    crops = settings_for(shapes, 1, "pretrain.crops=1", "pretrain.image_size=32", 'augment={"multi_scale": 0.3}')
    assert run_ranks(2, lambda: train(config=crops, out=tmp_path / "run", device="cpu")) == [tmp_path / "run"] * 2
    assert last(tmp_path / "run" / "crops")["epoch"] == 1
    assert np.isfinite(last(tmp_path / "run")["rows"][-1]["loss_total"])


@pytest.mark.slow
def test_rank_0_fits_the_epochs_to_the_time(bars: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    def work() -> Any:
        settings = {**QUICK, **NARROW, "train.batch_size": 6, "train.minutes": 0.4}
        run = train_classifier(
            bars,
            config="yolo_lite-n-cls",
            settings=settings,
            out=tmp_path / "run",
            device="cpu",
            listener=Listener(lines.append),
        )
        return run, lines

    (run, said), (_, silent) = run_ranks(2, work)
    assert any(line.startswith("time limit 24s: ") for line in said)
    assert silent == []
    assert last(run)["epoch"] > 1
