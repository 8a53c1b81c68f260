"""Checkpoint files are looked at as a whole: whatever is odd in one is named in a line, and nothing is built from it."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import SMALL, write_coco_set
from yolo_lite.checkpoints import checkpoint as checkpoint_module
from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.checkpoints.contents import check_optimizer
from yolo_lite.cli import main
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config, DataConfig
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector
from yolo_lite.training.optim.schedule import OPTIMIZERS, build_optimizer
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.resume import stored_run
from yolo_lite.training.task import Listener

CONFIG = override_config(Config(), ["model.widths=[8, 8, 16, 16]", "model.neck_width=16", "model.head_width=8"])
Change = Callable[[dict[str, Any]], object]


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _put(*path: Any) -> Change:
    """Return a function that puts the last of the path where the others lead."""

    def change(content: dict[str, Any]) -> None:
        *keys, last, value = path
        for key in keys:
            content = content[key]
        content[last] = value

    return change


def _written(path: Path, change: Change) -> Path:
    save_checkpoint(
        path, Checkpoint(CONFIG, ("cat", "dog"), category_ids=(17, 90), weights=build_detector(CONFIG, 2).state_dict())
    )
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def _refused(function: Callable[..., object], *arguments: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message.replace(str(arguments[0]), "")) < 800
    return message


def _as_version_01(**run: Any) -> Change:
    """Return a function that makes of a checkpoint one of version 0.1, which kept what was asked for beside the config."""

    def change(content: dict[str, Any]) -> None:
        for key in ("task", "data"):
            del content["config"][key]
        content["training"]["run"] = run

    return change


FIRST = "backbone.stem.0.weight"
ODD: dict[str, tuple[Change, str]] = {
    "a version that is text": (_put("version", "none"), "lacks a part of a yolo_lite checkpoint: version"),
    "names that are numbers": (_put("class_names", [1, 2]), "class_names must be names"),
    "no names": (_put("class_names", []), "class_names must be 1 to 100,000 names"),
    "a name twice": (_put("class_names", ["cat", "cat"]), "class_names must be different names"),
    "a name that cannot be written": (_put("class_names", ["cat", "\ud800"]), "must be a text"),
    "a name of a million letters": (_put("class_names", ["cat", "x" * 1_000_000]), "names of at most 1,000 characters"),
    "an id missing": (_put("category_ids", [17]), "category_ids must be 2 whole numbers"),
    "an id that is true": (_put("category_ids", [True, 90]), "category_ids must be 2 whole numbers"),
    "an id of 100 digits": (_put("category_ids", [10**100, 90]), "a number of at most 64 bits"),
    "an input of 10^9": (_put("config", "input", "image_size", [10**9, 10**9]), "'input.image_size' must be from 1"),
    "widths of 1": (_put("config", "model", "widths", [1, 1, 1, 1]), "'model.widths' must be at least 2, got 1"),
    "widths of 10^30": (_put("config", "model", "widths", [10**30] * 4), "a number of at most 64 bits"),
    "widths of 10^15": (_put("config", "model", "widths", [10**15] * 4), "'model.widths' must be from 2 to 16,384"),
    "the largest widths": (_put("config", "model", "widths", [16384] * 4), "the network is too large"),
    "a head of 10^4 layers": (_put("config", "model", "head_depth", 10**4), "'model.head_depth' must be from 1 to 100"),
    "other widths": (_put("config", "model", "widths", [8, 8, 16, 24]), "do not fit the network"),
    "a config without an end": (_put("config", "model", _deep(200)), "a plain value, in at most 12 levels"),
    "a config of tensors": (_put("config", "train", torch.zeros(3)), "a plain value"),
    "a setting that no one knows": (_put("config", "train", {"x" * 900: 1}), "unknown key"),
    "darknet without a cfg": (_put("config", "model", "head", "darknet"), "the cfg does not begin with a [net]"),
    "a weight missing": (
        lambda c: c["weights"].pop(FIRST),
        f"'{FIRST}' should be torch.float32 [16, 3, 3, 3], got nothing",
    ),
    "a weight too many": (_put("weights", "more", torch.zeros(1)), "'more' should be nothing"),
    "a weight turned": (_put("weights", FIRST, torch.zeros(3, 16, 3, 3)), "got torch.float32 [3, 16, 3, 3]"),
    "a weight that is no number": (_put("weights", FIRST, torch.full((16, 3, 3, 3), torch.nan)), "not finite"),
    "a weight that is text": (_put("weights", FIRST, "x"), "weights must be tensors by name"),
    "a weight of truths": (
        _put("weights", FIRST, torch.ones(16, 3, 3, 3).bool()),
        "a dense tensor that the file holds",
    ),
    "a sparse weight": (_put("weights", FIRST, torch.ones(3).to_sparse()), "a dense tensor that the file holds"),
    "a weight nowhere": (_put("weights", FIRST, torch.empty(3, device="meta")), "a dense tensor that the file holds"),
    "a weight of 10^12 values": (_put("weights", FIRST, torch.ones(1).expand(10**6, 10**6)), "a dense tensor"),
    "a seed below 0": (_put("about", "seed", -1), "about.seed must be a whole number from 0"),
    "metrics of text": (_put("about", "metrics", {"AP": "high"}), "about.metrics must be numbers by name"),
    "a run that is no settings": (_put("training", {"run": 1}), "training.run must be the settings of a run"),
    "an epoch of text": (_put("training", {"run": {}, "epoch": "2"}), "training.epoch must be a whole number"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_checkpoint_is_refused_in_one_line_that_names_the_entry(name: str, tmp_path: Path) -> None:
    change, message = ODD[name]
    assert message in _refused(load_checkpoint, _written(tmp_path / "odd.pt", change))


def test_the_command_line_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _written(tmp_path / "odd.pt", _put("config", "model", "widths", [16384] * 4))
    for command in (["card", "--weights", str(path)], ["inspect", "model", "--weights", str(path)]):
        assert main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_built_before_the_file_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(checkpoint_module, "outline_detector", lambda *arguments: built.append(1))
    _refused(load_checkpoint, _written(tmp_path / "odd.pt", _put("category_ids", [17])))
    assert not built


def test_a_network_that_the_file_does_not_hold_takes_no_memory(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = _written(tmp_path / "odd.pt", _put("config", "model", "widths", [4096] * 4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "too large" in _refused(load_checkpoint, path)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17
    )  # KiB; its weights would be 1.5 GiB and more


def _packed(source: Path, target: Path, **change: bytes) -> Path:
    """Write the archive anew, deflated, with other content of the entries named."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry, change.get(Path(entry.filename).name, old.read(entry)), zipfile.ZIP_DEFLATED)
    return target


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    good = _written(tmp_path / "good.pt", lambda content: None)
    bomb = _packed(good, tmp_path / "bomb.pt", **{"0": bytes(50_000_000)})
    assert bomb.stat().st_size < good.stat().st_size
    assert "bomb.pt is not a yolo_lite checkpoint, or is damaged" in _refused(load_checkpoint, bomb)


# What a run goes on from


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a run that was stopped after its first epoch of two, and what its last.pt holds."""
    root = tmp_path_factory.mktemp("begun")
    write_coco_set(root / "set", {"train": 8, "val": 2})

    def stop(row: Any, best: bool) -> None:
        raise KeyboardInterrupt

    config = override_config(read_config(None), (*SMALL, "train.epochs=2"))
    with pytest.raises(KeyboardInterrupt):
        train(root / "set", config=config, out=root / "run", device="cpu", listener=Listener(on_epoch=stop))
    return root / "run", torch.load(root / "run" / "last.pt", weights_only=True)


ODD_RUNS: dict[str, tuple[Change, str]] = {
    "no model": (lambda c: c["training"].pop("model"), "training.model must be tensors by name"),
    "a model of another shape": (
        _put("training", "model", FIRST, torch.zeros(2)),
        "weights of training.model do not fit",
    ),
    "an average of another shape": (
        _put("training", "ema", FIRST, torch.zeros(2)),
        "weights of training.ema do not fit",
    ),
    "updates of text": (_put("training", "ema_updates", "7"), "training.ema_updates must be a whole number"),
    "a row missing": (_put("training", "rows", []), "training.rows must be 1 rows"),
    "a row of text": (_put("training", "rows", [{"AP": "1"}]), "training.rows must be numbers by name"),
    "parts below 1": (_put("training", "parts", 0), "training.parts must be a whole number from 1"),
    "a best that is text": (_put("training", "best", "x"), "training.best must be a number"),
    "no optimiser": (_put("training", "optimizer", []), "training.optimizer must be state and param_groups"),
    "a run without data": (_put("config", "data", "path", ""), "lacks data.path of the run"),
    "an unknown setting": (_put("config", "data", "speed", 9), "unknown key 'data.speed'"),
    "a share of text": (_put("config", "data", "fraction", "half"), "'data.fraction' must be a number, got 'half'"),
    "classes that are a number": (
        _put("config", "data", "classes", 5),
        "'data.classes' must be a list of texts, got 5",
    ),
    "0.1: no data": (_as_version_01(), "lacks data.path of the run"),
    "0.1: an unknown setting": (_as_version_01(data="d", speed=9), "the run has an unknown setting: 'speed'"),
    "0.1: a share of text": (_as_version_01(data="d", fraction="half"), "'data.fraction' must be a number, got 'half'"),
    "0.1: classes that are a number": (
        _as_version_01(data="d", classes=5),
        "'data.classes' must be a list of texts, got 5",
    ),
    "no fingerprint": (lambda c: c["about"].pop("fingerprint"), "lacks fingerprint"),
}


def _copied(begun: tuple[Path, dict[str, Any]], folder: Path, change: Change) -> Path:
    content = copy.deepcopy(begun[1])
    change(content)
    shutil.copytree(begun[0], folder)
    torch.save(content, folder / "last.pt")
    return folder


@pytest.mark.parametrize("name", ODD_RUNS)
def test_an_odd_run_is_refused_in_one_line(name: str, begun: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    change, message = ODD_RUNS[name]
    assert message in _refused(stored_run, _copied(begun, tmp_path / "run", change))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"data": "d", "weights": None, "classes": [], "fraction": 1.0}, DataConfig("d")),
        (
            {"data": "d", "classes": ["disc"], "fraction": 0.5, "per_class": 7, "split": "60/20/20", "difficult": True},
            DataConfig("d", classes=("disc",), fraction=0.5, per_class=7, shares="60/20/20", difficult=True),
        ),
    ],
    ids=["before classifiers came", "everything"],
)
def test_what_a_run_of_version_01_asked_for_is_read_as_settings(
    run: dict[str, Any], expected: DataConfig, begun: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = _copied(begun, tmp_path / "run", _as_version_01(**run, minutes=2.0))
    config = stored_run(folder)[2]
    assert (config.task, config.data) == ("detect", expected)
    assert (config.train.minutes, config.train.weights, config.train.epochs) == (2.0, "", 2)


def test_resuming_looks_at_the_state_of_the_optimiser(begun: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    change = _put("training", "optimizer", "state", 0, "exp_avg", torch.zeros(3))
    folder = _copied(begun, tmp_path / "run", change)
    assert f"{folder / 'last.pt'}: the state of the optimiser does not fit" in _refused(resume, folder, device="cpu")


def _stepped(name: str, momentum: float = 0.9) -> tuple[dict[str, Any], torch.optim.Optimizer]:
    """Return the state of an optimiser after a step, and a new one for the same network."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4))
    settings = dataclasses.replace(Config().train, optimizer=name, momentum=momentum)
    optimizer = build_optimizer(network, settings)
    output: Tensor = network(torch.ones(2, 3, 8, 8))
    output.square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return copy.deepcopy(optimizer.state_dict()), build_optimizer(network, settings)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimiser_is_taken_back(name: str, momentum: float) -> None:
    check_optimizer(*_stepped(name, momentum), source="last.pt")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_put("param_groups", []), id="no groups"),
        pytest.param(_put("param_groups", 0, "lr", "x"), id="a rate of text"),
        pytest.param(_put("param_groups", 0, "lr", torch.inf), id="a rate without an end"),
        pytest.param(_put("param_groups", 0, "betas", [0.9]), id="a beta missing"),
        pytest.param(_put("param_groups", 0, "params", 0, 5), id="another parameter"),
        pytest.param(_put("param_groups", 0, "params", 0, torch.zeros(2)), id="a tensor for a parameter"),
        pytest.param(_put("state", 0, {}), id="a parameter without a state"),
        pytest.param(lambda state: state["state"][0].pop("exp_avg"), id="a mean missing"),
        pytest.param(_put("state", 0, "exp_avg", torch.zeros(3)), id="a mean of another shape"),
        pytest.param(_put("state", 0, "exp_avg", None), id="a mean of nothing"),
        pytest.param(_put("state", 0, "step", "x"), id="a step of text"),
        pytest.param(_put("state", 10**6, {}), id="a parameter that is not there"),
    ],
)
def test_another_state_of_the_optimiser_is_refused(change: Change) -> None:
    state, optimizer = _stepped("adamw")
    change(state)
    assert "last.pt: the state of the optimiser does not fit" in _refused(
        check_optimizer, state, optimizer, source="last.pt"
    )
