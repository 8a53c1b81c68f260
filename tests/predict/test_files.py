"""Detection in files: what is written, under which name, and what is never written."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite import Detector
from yolo_lite.errors import InputError, Stopped
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import find_source, open_video, read_frames
from yolo_lite.media.writers import JsonRows, VideoWriter, write_image
from yolo_lite.predict.files import detect_images, detect_video, image_ids


@pytest.fixture(scope="module")
def detector(finished_run: tuple[Path, Path]) -> Detector:
    return Detector(finished_run[0] / "best.pt", device="cpu")


@pytest.fixture
def video(finished_run: tuple[Path, Path], tmp_path: Path) -> Path:
    """Five times each of four images, as a film."""
    path = tmp_path / "film.mp4"
    writer = VideoWriter(path, 10.0, hw=(96, 128))
    for file in sorted((finished_run[1] / "images").iterdir())[:4]:
        for _ in range(5):
            writer.write(read_image(file))
    writer.close()
    return path


def test_image_ids_are_numeric_names_then_free_numbers() -> None:
    names = ["b.jpg", "000000000002.jpg", "x/2.jpg", "c.jpg", "7.png"]
    ids = image_ids([Path(name) for name in names])
    # 2 and 7 are named; the second "2" and the words take 1, 3, 4 in order
    assert [ids[Path(name)] for name in names] == [1, 2, 3, 4, 7]


def test_annotated_images_and_rows_are_written(
    detector: Detector, finished_run: tuple[Path, Path], tmp_path: Path
) -> None:
    files = find_source(str(finished_run[1] / "images"))
    assert isinstance(files, list)
    with JsonRows(tmp_path / "rows.json") as rows_file:
        results = list(detect_images(detector, files, out=tmp_path / "out", json_file=rows_file))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == sum(len(result.detections or ()) for result in results) == 16
    assert {row["category_id"] for row in rows} == {7, 3}  # the ids it was trained on, not labels
    assert rows[0]["image_id"] == 1
    assert rows[0]["file_name"] == "0001.png"
    annotated = read_image(tmp_path / "out" / "0001.png")
    assert annotated.shape == (96, 128, 3)
    assert not np.array_equal(annotated, read_image(files[0]))
    x, y, _, _ = rows[0]["bbox"]
    assert np.allclose([x, y], results[0].detections.boxes[0][:2])  # type: ignore[union-attr]


def test_a_bad_image_is_reported_and_the_rest_goes_on(
    detector: Detector, finished_run: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(finished_run[1] / "images", folder)
    (folder / "0003.png").write_bytes(b"")
    results = list(detect_images(detector, sorted(folder.iterdir()), out=tmp_path / "out"))
    assert [result.path.name for result in results if result.error] == ["0003.png"]
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_a_source_is_never_overwritten(detector: Detector, finished_run: tuple[Path, Path]) -> None:
    files = sorted((finished_run[1] / "images").iterdir())
    before = files[0].read_bytes()
    with pytest.raises(InputError, match="would replace .*0001.png; choose another --out"):
        list(detect_images(detector, files, out=finished_run[1] / "images"))
    assert files[0].read_bytes() == before


@pytest.mark.parametrize("link", ["symbolic", "hard"])
@pytest.mark.parametrize("what", ["image", "video"])
def test_a_source_behind_a_link_is_never_overwritten(
    detector: Detector, finished_run: tuple[Path, Path], video: Path, tmp_path: Path, link: str, what: str
) -> None:
    """The output folder is where the file really is, which is not the folder it was reached through."""
    (tmp_path / "store").mkdir()
    (tmp_path / "work").mkdir()
    original = video if what == "video" else finished_run[1] / "images" / "0001.png"
    source, reached = (tmp_path / folder / original.name for folder in ("store", "work"))
    shutil.copy(original, source)
    if link == "symbolic":
        reached.symlink_to(source)
    else:
        reached.hardlink_to(source)
    before = source.read_bytes()
    with pytest.raises(InputError, match=f"the annotated {what} would replace .*; choose another --out"):
        if what == "video":
            list(detect_video(detector, open_video(reached), target=source))
        else:
            list(detect_images(detector, [reached], out=source.parent))
    assert source.read_bytes() == before
    assert len(list(source.parent.iterdir())) == 1


def test_a_neighbour_of_a_video_is_never_overwritten(detector: Detector, video: Path, tmp_path: Path) -> None:
    shutil.copy(video, tmp_path / "film.mov")
    with pytest.raises(InputError, match=r"would replace .*film.mp4"):
        list(detect_video(detector, open_video(tmp_path / "film.mov"), target=video))


def test_an_older_output_is_replaced(detector: Detector, video: Path, tmp_path: Path) -> None:
    for _ in range(2):
        list(detect_video(detector, open_video(video), target=tmp_path / "out" / "film.mp4"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["film.mp4"]


def test_one_bad_file_stops_no_others(detector: Detector, tmp_path: Path) -> None:
    """A link to itself, names of the greatest length in bytes, a line break in a name, and a side that no JPEG holds."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    longest = ("n" * 251 + ".bmp", "é" * 125 + ".bmp", "sub/" + "n" * 251 + ".bmp", "two\nlines.png")
    for name in (*longest, "z.png"):
        Image.new("RGB", (64, 64)).save(folder / name)
    Image.new("RGB", (70_000, 10)).save(folder / "wide.bmp")
    files = [file for file in sorted(folder.rglob("*")) if not file.is_dir()]
    results = {result.path.name: result for result in detect_images(detector, files, out=tmp_path / "out")}
    assert [name for name, result in results.items() if result.error] == ["loop.jpg"]
    written = [result.annotated for result in results.values() if result.annotated]
    assert len(written) == len(set(written)) == 5 == len(list((tmp_path / "out").iterdir())) - 1
    wide = results["wide.bmp"].annotated
    assert wide
    assert wide.name == "wide.png"
    with Image.open(wide) as annotated:
        assert annotated.size == (70_000, 10)


def test_a_name_that_the_output_folder_cannot_hold_is_skipped(
    detector: Detector, finished_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an encrypted folder does, whose names are shorter."""
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if "2" in Path(target).name:
            raise OSError(36, "File name too long")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    files = sorted((finished_run[1] / "images").iterdir())[:3]
    errors = [str(result.error) for result in detect_images(detector, files, out=tmp_path / "out") if result.error]
    assert errors == [f"cannot write {tmp_path / 'out' / '0002.png'}: File name too long"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0001.png", "0003.png"]


def test_rows_and_results_tell_files_of_one_name_apart(
    detector: Detector, finished_run: tuple[Path, Path], tmp_path: Path
) -> None:
    files = []
    for folder in ("a", "b/c"):
        files.append(tmp_path / "in" / folder / "x.png")
        files[-1].parent.mkdir(parents=True)
        shutil.copy(finished_run[1] / "images" / "0001.png", files[-1])
    with JsonRows(tmp_path / "rows.json") as rows:
        results = list(detect_images(detector, files, out=tmp_path / "out", json_file=rows))
    assert [result.name for result in results] == ["a/x.png", "b/c/x.png"]
    told = [row["file_name"] for row in json.loads((tmp_path / "rows.json").read_text())]
    assert list(dict.fromkeys(told)) == ["a/x.png", "b/c/x.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["x-2.png", "x.png"]


def test_naming_many_files_of_one_name_takes_no_time(detector: Detector, tmp_path: Path) -> None:
    """Where each file tries every number, four times as many take sixteen times as long: 8,000 took 31 seconds."""

    def seconds(count: int) -> float:
        began = time.process_time()
        files = [tmp_path / str(number) / "x.jpg" for number in range(count)]
        assert next(detect_images(detector, files, out=tmp_path / "out")).error
        return time.process_time() - began

    few = min(seconds(3000) for _ in range(2))
    assert min(seconds(12_000) for _ in range(2)) < 8 * few


def test_images_of_one_name_do_not_overwrite_each_other(detector: Detector, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "a/x.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    files = [tmp_path / name for name in ("a/x.png", "b/x.png", "a/x.bmp")]
    list(detect_images(detector, files, out=tmp_path / "out"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["x-2.png", "x.jpg", "x.png"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_is_annotated_frame_by_frame(
    finished_run: tuple[Path, Path], video: Path, tmp_path: Path, suffix: str
) -> None:
    detector = Detector(
        finished_run[0] / "best.pt", score_threshold=0.005, device="cpu"
    )  # the film's codec blurs the shapes
    target = tmp_path / "out" / f"film{suffix}"
    found = list(detect_video(detector, open_video(video), target=target))
    expected = [detector(frame) for frame in read_frames(open_video(video))]
    assert [len(one) for one in found] == [len(one) for one in expected]
    assert sum(len(one) for one in found) > 0
    assert sum(1 for _ in read_frames(open_video(target))) == 20
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_frames_stream_one_at_a_time(detector: Detector, video: Path) -> None:
    stream = detector.stream(video)
    frame, found = next(stream)
    assert frame.shape == (96, 128, 3)
    np.testing.assert_allclose(found.boxes, detector(frame).boxes, rtol=1e-4)  # alone, not one of a batch
    assert sum(1 for _ in stream) == 19


def test_a_stopped_video_keeps_its_frames(detector: Detector, video: Path, tmp_path: Path) -> None:
    results = detect_video(detector, open_video(video), target=tmp_path / "out" / "film.mp4")
    for _ in range(7):
        next(results)
    results.close()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["film.mp4"]
    assert sum(1 for _ in read_frames(open_video(tmp_path / "out" / "film.mp4"))) == 7


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped(15), InputError("the disk is full"), RuntimeError()])
def test_rows_that_are_finished_are_kept_whatever_ends_them(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(type(error)), JsonRows(tmp_path / "rows.json") as rows:
        rows.write([{"a": 1}, {"a": 2}])
        rows.write([])
        raise error
    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]
    assert json.loads((tmp_path / "rows.json").read_text()) == [{"a": 1}, {"a": 2}]
    assert rows.kept


def test_rows_that_were_not_begun_leave_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"a": 0}]')
    with pytest.raises(KeyboardInterrupt), JsonRows(tmp_path / "rows.json") as rows:
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]
    assert (tmp_path / "rows.json").read_text() == '[{"a": 0}]'
    assert not rows.kept


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, which fails as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_on_a_full_disk_leave_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    reason = r"cannot write .*rows.json: File too large"
    with full_disk(2000), pytest.raises(InputError, match=reason), JsonRows(tmp_path / "rows.json") as rows:
        for number in range(100):
            rows.write([{"a": "x" * 1000, "number": number}])
    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]
    assert (tmp_path / "rows.json").read_text() == "[]"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_annotated_image_on_a_full_disk_is_an_error(tmp_path: Path, suffix: str) -> None:
    """Pillow writes a JPEG by one call and does not look how much of it was written."""
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    target = tmp_path / f"a{suffix}"
    target.write_bytes(b"an older one")
    with full_disk(20_000), pytest.raises(InputError, match="File too large"):
        write_image(target, image)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(target.name, b"an older one")]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("size", [100, 4000, 20_000])
def test_a_video_on_a_full_disk_is_an_error_and_leaves_the_old_one(tmp_path: Path, suffix: str, size: int) -> None:
    """OpenCV's writer reports nothing."""
    target = tmp_path / f"film{suffix}"
    target.write_bytes(b"an older one")
    noise = np.random.default_rng(0).integers(0, 256, (10, 96, 128, 3)).astype(np.uint8)
    reason = r"no space left for it \(File too large\)"
    with full_disk(size), pytest.raises(InputError, match=reason), VideoWriter(target, 10.0, hw=(96, 128)) as writer:
        for frame in noise:
            writer.write(frame)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(target.name, b"an older one")]


def test_no_rows_are_an_empty_list(tmp_path: Path) -> None:
    with JsonRows(tmp_path / "new" / "rows.json"):
        pass
    assert json.loads((tmp_path / "new" / "rows.json").read_text()) == []
