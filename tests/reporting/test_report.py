"""The report of a detector, from the command and from Python."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo_lite import report
from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.schema import ClassifierConfig, Config
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.reporting.page import render_page
from yolo_lite.reporting.report import store_threshold, write_report


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own(finished_run: tuple[Path, Path]) -> tuple[str, str]:
    """Return a copy of trained weights, and the data that they know."""
    shutil.copy(finished_run[0] / "best.pt", "own.pt")
    return "own.pt", str(finished_run[1])


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_the_command_writes_a_page_and_its_numbers(own: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    weights, data = own
    rows = ["--weights", weights, "--data", data, "--save-json", "rows.json"]
    assert main(["eval", *rows, "--report", "seen", "--resamples", "30", "--out", "e"]) == 0
    assert "report: seen/report.html" in capsys.readouterr().out
    content = json.loads(Path("seen/report.json").read_text())
    metrics = json.loads(Path("e/metrics.json").read_text())
    assert content["numbers"] == metrics["metrics"]
    assert content["resamples"] == 30
    assert [content["headline"][0]["low"], content["headline"][0]["high"]] == metrics["intervals"]["AP"]
    assert content["threshold"]["stored"] is False
    assert content["card"].startswith("# ")
    assert Path("seen/report.html").read_text() == render_page(content)


def test_the_same_from_python(own: tuple[str, str]) -> None:
    made = report(*own, out="seen", against="own.pt", device="cpu", settings={"evaluate.resamples": 20})
    assert made == json.loads(Path("seen/report.json").read_text())
    assert made["comparison"]["overall"][0]["p"] == 1
    assert made["comparison"]["resamples"] == 20


def test_missed_objects_have_a_reason(own: tuple[str, str]) -> None:
    """In darkness the network finds less; each object that it misses is explained."""
    weights, data = own
    shutil.copytree(data, "dark")
    for path in Path("dark/images").glob("*.png"):
        from PIL import Image, ImageEnhance

        ImageEnhance.Brightness(Image.open(path)).enhance(0.15).save(path)
    worst = report(weights, "dark", out="seen", device="cpu", settings={"evaluate.resamples": 2})["worst"]
    assert worst["missed"]
    reasons = [reason for image in worst["missed"] for reason in image["reasons"] if reason.startswith("Missed")]
    assert len(reasons) >= len(worst["missed"])
    assert all("pixels at" in reason for reason in reasons)


@pytest.mark.slow
def test_two_detectors_are_compared_in_lines(own: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    weights, data = own
    assert main(["eval", "--weights", weights, "--data", data, "--save-json", "rows.json", "--out", "e"]) == 0
    rows: list[dict[str, Any]] = json.loads(Path("rows.json").read_text())
    Path("fewer.json").write_text(json.dumps([row for row in rows if row["image_id"] != 1]))
    capsys.readouterr()
    command = ["eval", "--detections", "rows.json", "--data", data, "--against", "fewer.json", "--resamples", "100"]
    assert main([*command, "--out", "e"]) == 0
    out = capsys.readouterr().out
    assert "A: rows, B: fewer, 8 images, 100 resamples" in out
    assert "no clear difference in AP" in out
    section = json.loads(Path("e/metrics.json").read_text())["comparison"]
    assert [image["image"] for image in section["worse"]] == ["0001.png"]


def test_the_best_threshold_is_stored_on_request(own: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    weights, data = own
    store_threshold(weights, 0.77)
    command = ["eval", "--weights", weights, "--data", data, "--out", "e", "--store-threshold", "--report", "seen"]
    assert main([*command, "--resamples", "2"]) == 0
    best = json.loads(Path("e/metrics.json").read_text())["best_f1"]["score_threshold"]
    assert load_checkpoint(Path(weights)).score_threshold == best != 0.77
    assert f"score threshold {best:g} stored in own.pt" in capsys.readouterr().out
    assert json.loads(Path("seen/report.json").read_text())["threshold"]["stored"] is True


@pytest.mark.slow
def test_reasons_name_no_class_that_was_not_evaluated(own: tuple[str, str]) -> None:
    """Discs hide as squares in the labels: a network that may report squares alone has not detected a disc there."""
    weights, data = own
    shutil.copytree(data, "renamed")
    path = Path("renamed/annotations/instances_val.json")
    content = json.loads(path.read_text())
    assert {each["name"] for each in content["categories"]} == {"disc", "square"}
    for annotation in content["annotations"]:
        annotation["category_id"] = 3
    content["categories"] = [{"id": 3, "name": "square"}]
    path.write_text(json.dumps(content))
    worst = report(weights, "renamed", out="seen", device="cpu", settings={"evaluate.resamples": 2})["worst"]
    reasons = [reason for image in worst["missed"] for reason in image["reasons"] if reason.startswith("Missed")]
    assert len(reasons) > 3
    assert not [reason for reason in reasons if "disc" in reason]


@pytest.mark.slow
def test_reasons_know_a_class_that_the_data_spells_differently(own: tuple[str, str]) -> None:
    """A threshold that nothing reaches leaves every object without a detection; the reason must not be its class."""
    weights, data = own
    shutil.copytree(data, "renamed")
    path = Path("renamed/annotations/instances_val.json")
    path.write_text(path.read_text().replace('"disc"', '"DISC"').replace('"square"', '"Square"'))
    chosen = {"input.image_size": [32, 32], "evaluate.resamples": 2}
    worst = report(weights, "renamed", out="seen", device="cpu", settings=chosen)["worst"]
    as_before = report(weights, data, out="seen", device="cpu", settings=chosen)["worst"]
    assert worst["missed"]
    for image, before in zip(worst["missed"], as_before["missed"]):
        reasons = [reason.replace("DISC", "disc").replace("Square", "square") for reason in image["reasons"]]
        assert reasons == before["reasons"]


@pytest.mark.parametrize("settings", [{"evaluate.tiles": "2x2"}, {"evaluate.tta": True}], ids=str)
def test_no_reason_is_invented_where_an_image_is_looked_at_more_than_once(
    own: tuple[str, str], settings: dict[str, Any]
) -> None:
    chosen = {"evaluate.resamples": 2, "input.image_size": [32, 32], **settings}
    made = report(*own, out="seen", device="cpu", settings=chosen)
    assert made["worst"]["missed"]
    assert not [r for image in made["worst"]["missed"] for r in image["reasons"] if r.startswith("Missed")]
    assert made["notes"][-1].startswith("Why objects were missed is known only for a checkpoint")


def test_an_exported_file_keeps_its_resamples_and_a_fixed_flag_is_refused_early(
    pico: Path, coco_set: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = coco_set({"val": 3})
    annotations = data / "annotations" / "instances_val.json"
    annotations.write_text(annotations.read_text().replace('"disc"', '"person"').replace('"square"', '"car"'))
    made = report(pico, data, out="seen", against=pico, settings={"evaluate.resamples": 7})
    assert made["resamples"] == made["comparison"]["resamples"] == 7
    assert "intervals from 7 resamples are rough; use at least 100" in made["notes"]
    monkeypatch.setattr("yolo_lite.reporting.report.score", None)  # no detector is scored before the refusal
    against = ["--data", str(data), "--against", str(pico), "--image-size", "64", "--weights", "yolo_lite-pico-voc5"]
    assert "--image-size is fixed in an exported file" in _refused(["eval", *against, "--report", "late"], capsys)
    assert not Path("late").exists()
    Path("some.pt2").write_bytes(b"x")
    wrong = ["eval", "--data", str(data), "--against", "some.pt2", "--weights", "yolo_lite-pico-voc5"]
    assert "some.pt2 is not an exported file: expected .onnx or .xml" in _refused(wrong, capsys)


@pytest.mark.slow
def test_nobody_is_told_to_store_a_threshold_where_there_is_no_place_for_it(own: tuple[str, str]) -> None:
    """Result files and shipped weights hold none; a checkpoint of one's own does."""
    weights, data = own
    assert main(["eval", "--weights", weights, "--data", data, "--save-json", "rows.json", "--out", "e"]) == 0
    for source, stored in ((weights, False), ("rows.json", None)):
        made = report(source, data, out="seen", device="cpu", settings={"evaluate.resamples": 2})
        assert made["threshold"]["stored"] is stored
        assert ("--store-threshold" in Path("seen/report.html").read_text()) == (stored is False)


def test_what_cannot_be_written_or_compared_is_refused_before_the_work(
    own: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo_lite.reporting.report.score", None)
    Path("pico.onnx").write_bytes(b"x")
    for wrong, message in (
        ({"out": "own.pt/seen"}, "own.pt is a file"),
        ({"out": "seen", "against": "missing.pt"}, "missing.pt does not exist"),
        (
            {"out": "seen", "against": "pico.onnx", "settings": {"evaluate.tta": True}},
            "--tta is fixed in an exported file",
        ),
    ):
        with pytest.raises(InputError, match=message):
            report(*own, **wrong)  # type: ignore[arg-type]


def test_a_report_is_never_without_its_page() -> None:
    """The page is larger than the numbers here, and does not fit on the disk."""
    resource = pytest.importorskip("resource")
    content = {"format": "yolo_lite report", "version": 1, "task": "detect", "title": "empty"}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write seen/report.html: File too large"):
            write_report(content, Path("seen"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not Path("seen").exists()


@pytest.mark.parametrize("before", [[], ["a"], ["a", "a/b"]], ids=len)
def test_a_report_that_cannot_be_written_leaves_no_folder_that_was_made_for_it(
    before: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for folder in before:
        Path(folder).mkdir()
    monkeypatch.setattr(Path, "write_text", fail)
    content = {"format": "yolo_lite report", "version": 1, "task": "detect", "title": "empty"}
    with pytest.raises(InputError, match=r"cannot write a/b/report.json: No space left on device"):
        write_report(content, Path("a/b"))
    assert sorted(map(str, Path().rglob("*"))) == before


def test_an_evaluation_that_cannot_be_written_leaves_no_folder(
    own: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nothing.json").write_text("[]")
    before = sorted(Path().iterdir())
    command = ["eval", "--detections", "nothing.json", "--data", own[1], "--report", "seen", "--resamples", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied"))
        )
        assert "cannot write made/here/metrics.json: Permission denied" in _refused(
            [*command, "--out", "made/here"], capsys
        )
    assert sorted(Path().iterdir()) == before


def test_a_command_that_fails_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in _refused(["eval", "--data", "missing", "--report", "seen", "--out", "e"], capsys)
    assert not list(Path().iterdir())


def test_a_threshold_of_the_configuration_gives_way(own: tuple[str, str]) -> None:
    checkpoint = load_checkpoint(Path("own.pt"))
    chosen = dataclasses.replace(checkpoint.config.postprocess, score_threshold=0.9)
    config = dataclasses.replace(checkpoint.config, postprocess=chosen)
    save_checkpoint(Path("own.pt"), dataclasses.replace(checkpoint, config=config))
    store_threshold("own.pt", 0.3)
    after = load_checkpoint(Path("own.pt"))
    assert after.score_threshold == 0.3
    assert after.class_names == checkpoint.class_names
    assert after.about["metrics"].keys() == checkpoint.about["metrics"].keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--store-threshold"], "--store-threshold needs a checkpoint of yours"),
        (["--store-threshold", "--weights", "yolo_lite-pico-voc5"], "is shipped with the package and stays as it is"),
        (["--store-threshold", "--weights", "some.onnx"], "some.onnx does not exist"),
        (["--weights", "own.pt", "--against", "other.json"], "other.json does not exist"),
        (["--weights", "own.pt", "--report", "own.pt"], "own.pt"),
    ],
)
def test_what_cannot_be_done_is_refused(
    own: tuple[str, str], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _refused(["eval", "--data", own[1], "--out", "e", *flags], capsys)


def test_a_checkpoint_that_cannot_be_replaced_is_refused_before_the_work(
    own: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system lets root write everywhere, so its answer is replaced."""
    from yolo_lite.reporting import report as module

    monkeypatch.setattr(module, "score", None)
    flags = ["eval", "--data", own[1], "--weights", own[0], "--store-threshold", "--out", "e"]
    for locked in (Path("own.pt"), Path.cwd()):
        monkeypatch.setattr(module.os, "access", lambda path, mode, locked=locked: Path(path) != locked)
        assert f"{locked} is not writable, so no threshold can be stored in own.pt" in _refused(flags, capsys)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.json", "{}", "other.json is not a COCO result file: expected a list of detections"),
        ("other.json", '[{"image_id": 1}]', "other.json: row 0 needs image_id, category_id, bbox and score"),
        (
            "other.json",
            '[{"image_id": 999, "category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.5}]',
            "other.json: row 0 is for image 999",
        ),
        ("other.pt", "x", "other.pt is not a yolo_lite checkpoint"),
    ],
)
def test_a_file_to_compare_with_is_read_before_the_work(
    own: tuple[str, str],
    name: str,
    content: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(name).write_text(content)
    monkeypatch.setattr("yolo_lite.reporting.report.score", None)
    assert message in _refused(["eval", "--data", own[1], "--weights", own[0], "--against", name], capsys)


def test_a_classifier_to_compare_with_is_refused_before_the_work(
    own: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config("classify", classifier=ClassifierConfig("mnist_small"))
    weights = build_classifier(config, 2).state_dict()
    save_checkpoint(Path("other.pt"), Checkpoint(config, ("disc", "square"), category_ids=(1, 2), weights=weights))
    monkeypatch.setattr("yolo_lite.reporting.report.score", None)
    flags = ["eval", "--data", own[1], "--weights", own[0], "--against", "other.pt"]
    assert "other.pt is a classifier" in _refused(flags, capsys)


def test_an_exported_file_has_no_threshold_to_store() -> None:
    Path("some.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match="exported file, whose threshold is fixed"):
        store_threshold("some.onnx", 0.5)
