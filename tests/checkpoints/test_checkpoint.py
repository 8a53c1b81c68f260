"""Checkpoints hold plain values, are written whole, and refuse all that is not theirs."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from yolo_lite.checkpoints.checkpoint import (
    Checkpoint,
    build_from_checkpoint,
    half,
    load_checkpoint,
    save_checkpoint,
    write_atomically,
)
from yolo_lite.config.resolve import override_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector

CONFIG = override_config(Config(), ["model.widths=[8, 8, 16, 16]", "model.neck_width=16", "model.head_width=8"])


def example() -> Checkpoint:
    weights = build_detector(CONFIG, 2, seed=3).state_dict()
    return Checkpoint(
        CONFIG, ("cat", "Kätzchen"), category_ids=(17, 90), weights=weights, about={"AP": 0.5, "note": "none"}
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", example())
    back = load_checkpoint(tmp_path / "a.pt")
    assert (back.config, back.class_names, back.category_ids) == (CONFIG, ("cat", "Kätzchen"), (17, 90))
    assert back.about == {"AP": 0.5, "note": "none"}
    assert all(torch.equal(back.weights[name], value) for name, value in example().weights.items())


def test_half_keeps_the_predictions_near(tmp_path: Path) -> None:
    checkpoint = dataclasses.replace(example(), weights=half(example().weights))
    images = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    full = build_from_checkpoint(example(), tmp_path)(images)
    short = build_from_checkpoint(checkpoint, tmp_path)(images)
    assert torch.allclose(full.class_logits, short.class_logits, atol=0.05)
    halved = {name for name, value in checkpoint.weights.items() if value.dtype == torch.float16}
    assert halved == {name for name, value in example().weights.items() if value.ndim > 1} - {"mean", "std"}


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, writer: str) -> None:
    trap, file = tmp_path / "trap", tmp_path / "evil.pt"
    if writer == "torch":
        torch.save({"format": "yolo_lite checkpoint", "payload": Payload(trap)}, file)
    else:
        file.write_bytes(pickle.dumps(Payload(trap)))
    with pytest.raises(InputError, match="evil.pt is not a yolo_lite checkpoint"):
        load_checkpoint(file)
    assert not trap.exists()


def test_foreign_files_are_refused_with_a_line(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    save_checkpoint(good, example())
    cases: dict[str, bytes] = {"empty.pt": b"", "text.pt": b"hello", "short.pt": good.read_bytes()[:2000]}
    cases["yaml.pt"] = b"augment: none\ntrain: 1\n"
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} is not a yolo_lite checkpoint, or is damaged"):
            load_checkpoint(tmp_path / name)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other.pt holds weights, but not of yolo_lite"):
        load_checkpoint(tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"none.pt does not exist"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="is a folder"):
        load_checkpoint(tmp_path)


def test_a_newer_format_and_a_lacking_part_are_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", example())
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save({**content, "version": 99}, tmp_path / "new.pt")
    with pytest.raises(InputError, match="newer yolo_lite"):
        load_checkpoint(tmp_path / "new.pt")
    del content["class_names"]
    torch.save(content, tmp_path / "less.pt")
    with pytest.raises(InputError, match=r"lacks a part of a yolo_lite checkpoint: class_names"):
        load_checkpoint(tmp_path / "less.pt")


def test_weights_that_do_not_fit_the_configuration_are_refused() -> None:
    other = override_config(CONFIG, ["model.neck_width=24"])
    checkpoint = dataclasses.replace(example(), config=other)
    with pytest.raises(InputError, match="do not fit the network"):
        build_from_checkpoint(checkpoint, Path("a.pt"))


@pytest.mark.parametrize(("free", "told"), [(0, "no space is left on the disk"), (2**30, "unexpected pos 1 vs 2")])
def test_what_torch_says_of_a_full_disk_becomes_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, told: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))

    def fail(part: Path) -> None:
        raise RuntimeError("unexpected pos 1 vs 2")

    with pytest.raises(InputError, match=rf"cannot write .*a.pt: {told}"):
        write_atomically(tmp_path / "a.pt", fail)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(InputError, match=r"cannot write .*a.txt: disk full"):
        write_atomically(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
