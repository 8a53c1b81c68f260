"""Detection in files: what is written, under which name, and what is never written."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import yolo_lite.predict.files as files_module
from yolo_lite import Detector
from yolo_lite.draw.boxes import draw_detections
from yolo_lite.errors import InputError, Stopped
from yolo_lite.media.detections import CocoRows
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import batches, find_source, open_video, read_frames
from yolo_lite.media.writers import JsonRows, VideoWriter, write_image
from yolo_lite.predict.files import detect_images, detect_video, image_ids, sample_image
from yolo_lite.runtime import Detector as ExportedDetector
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.results import Detections
from yolo_lite.structures.rows import to_rows


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


def serial_images(detector: Any, images: list[Path], *, out: Path, rows_file: JsonRows) -> Iterator[Any]:
    """Read, detect, draw and write without a thread: the reference for what `detect_images` does with threads."""
    outputs = [out / f"{path.stem}{'.png' if path.suffix in ('.png', '.wide') else '.jpg'}" for path in images]
    for start in range(0, len(images), detector.batch_size):
        read = []
        for number, path in enumerate(images[start : start + detector.batch_size], start):
            try:
                read.append((number, read_image(path)))
            except InputError as error:
                yield path, str(error)
        for (number, image), detections in zip(read, detector([image for _, image in read])):
            out.mkdir(exist_ok=True)
            write_image(outputs[number], draw_detections(image, detections))
            rows = to_rows(detections, number + 1, category_ids=detector.category_ids)
            rows_file.write([{**row, "file_name": images[number].name} for row in rows])
            yield images[number], detections.boxes.tobytes(), detections.scores.tobytes(), outputs[number]


def serial_video(detector: Any, film: Path, *, target: Path, rows_file: JsonRows) -> None:
    frames = list(read_frames(open_video(film)))
    with VideoWriter(target, 10.0, hw=frames[0].shape[:2]) as writer:
        for start in range(0, len(frames), detector.batch_size):
            batch = frames[start : start + detector.batch_size]
            for number, detections in enumerate(detector(batch), start):
                writer.write(draw_detections(frames[number], detections))
                rows = to_rows(detections, number, category_ids=detector.category_ids)
                rows_file.write([{**row, "file_name": film.name} for row in rows])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(params=["checkpoint", "exported"])
def any_detector(request: pytest.FixtureRequest) -> Callable[[int], Any]:
    """Return a function that opens a detector with a batch size."""
    if request.param == "exported":
        path = request.getfixturevalue("pico")
        return lambda size: ExportedDetector(path, batch_size=size, score_threshold=0.05, threads=1)
    run = request.getfixturevalue("finished_run")[0]
    return lambda size: Detector(run / "best.pt", device="cpu", batch_size=size, score_threshold=0.05)


@pytest.fixture
def mixed(finished_run: tuple[Path, Path], tmp_path: Path) -> list[Path]:
    """Images of several kinds, a side that no JPEG holds, and files that cannot be read."""
    folder = tmp_path / "in"
    shutil.copytree(finished_run[1] / "images", folder)
    for number in range(9, 21):
        with Image.open(folder / f"{(number - 9) % 8 + 1:04d}.png") as image:
            image.resize((64 + 16 * number, 96)).save(folder / f"{number:04d}.jpg")
    with Image.open(sample_image()) as image:
        image.crop((0, 0, 512, 512)).resize((224, 224)).save(folder / "0022.jpg")
    Image.new("RGB", (70_000, 10)).save(folder / "0021.bmp")
    (folder / "0021.bmp").rename(folder / "0021.wide")
    for number in (4, 12, 13):
        next(folder.glob(f"{number:04d}.*")).write_bytes(b"not an image")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_images_give_what_they_give_without_threads(
    any_detector: Callable[[int], Any], mixed: list[Path], tmp_path: Path, batch_size: int
) -> None:
    """The same results in the same order, and files of the same bytes."""
    detector = any_detector(batch_size)
    with JsonRows(tmp_path / "expected.json") as rows_file:
        expected = list(serial_images(detector, mixed, out=tmp_path / "expected", rows_file=rows_file))
    with JsonRows(tmp_path / "rows.json") as rows_file:
        results = list(
            detect_images(
                detector, mixed, out=tmp_path / "out", outputs=[CocoRows(rows_file, category_ids=detector.category_ids)]
            )
        )
    assert [
        (result.path, str(result.error))
        if result.detections is None
        else (result.path, result.detections.boxes.tobytes(), result.detections.scores.tobytes(), result.annotated)
        for result in results
    ] == [(*row[:3], tmp_path / "out" / row[3].name) if len(row) == 4 else row for row in expected]
    assert [len(row) for row in expected].count(2) == 3
    assert sum(len(result.detections or ()) for result in results) > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert (tmp_path / "rows.json").read_bytes() == (tmp_path / "expected.json").read_bytes()


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_video_gives_what_it_gives_without_threads(
    any_detector: Callable[[int], Any], video: Path, tmp_path: Path, batch_size: int
) -> None:
    detector = any_detector(batch_size)
    for name in ("expected", "out"):
        (tmp_path / name).mkdir()
    with JsonRows(tmp_path / "expected" / "rows.json") as rows_file:
        serial_video(detector, video, target=tmp_path / "expected" / "film.mp4", rows_file=rows_file)
    with JsonRows(tmp_path / "out" / "rows.json") as rows_file:
        target = tmp_path / "out" / "film.mp4"
        found = list(
            detect_video(
                detector,
                open_video(video),
                target=target,
                outputs=[CocoRows(rows_file, category_ids=detector.category_ids)],
            )
        )
    assert len(found) == 20
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


class Counting:
    """A detector that finds nothing, and counts the images that are in memory."""

    batch_size, max_16bit, category_ids = 4, 65535, (1,)
    tiling = None

    def __init__(self) -> None:
        self.alive = self.most = self.seen = 0

    def count(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self.drop)
        return image

    def drop(self) -> None:
        self.alive -= 1

    def __call__(self, images: list[Any]) -> list[Detections]:
        self.seen += len(images)
        return [Detections([], [], labels=[], class_names=("x",)) for _ in images]

    def stream(self, film: Any, *, images: bool) -> Iterator[DetectedFrame]:
        for batch in batches(map(self.count, read_frames(film)), self.batch_size):
            for frame, found in zip(batch, self(batch)):
                yield DetectedFrame("film", 0, 0.0, 0.0, found, frame.shape[:2], image=frame if images else None)


def test_memory_does_not_grow_with_the_number_of_images(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most three batches: the next, the current, and the last; and an image in the hands of each of three threads.

    There is one annotated copy at a time.
    """
    detector, copies = Counting(), Counting()
    monkeypatch.setattr(files_module, "read_image", lambda path, most: detector.count(read_image(path, most)))
    monkeypatch.setattr(
        files_module, "draw_detections", lambda *given, font: copies.count(draw_detections(*given, font=font))
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    (tmp_path / "in").mkdir()
    for number in range(60):
        (tmp_path / "in" / f"{number}.jpg").hardlink_to(tmp_path / "a.jpg")
    assert len(list(detect_images(detector, sorted((tmp_path / "in").iterdir()), out=tmp_path / "out"))) == 60
    assert (detector.seen, detector.alive) == (60, 0)
    assert 4 <= detector.most <= 3 * 4 + 3
    detector = Counting()
    assert len(list(detect_video(detector, open_video(video), target=tmp_path / "out" / "film.mp4"))) == 20
    assert (detector.seen, detector.alive) == (20, 0)
    assert 4 <= detector.most <= 3 * 4 + 3
    assert (copies.alive, copies.most) == (0, 1)


@pytest.mark.parametrize("taken", [1, 5])
def test_no_copy_is_stored_before_its_image_is_returned(
    detector: Detector, finished_run: tuple[Path, Path], tmp_path: Path, taken: int
) -> None:
    files = sorted((finished_run[1] / "images").iterdir())
    results = detect_images(detector, files, out=tmp_path / "out")
    for _ in range(taken):
        next(results)
    results.close()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [file.name for file in files[:taken]]


def test_results_are_shown_in_the_main_thread_and_in_order(
    detector: Detector, finished_run: tuple[Path, Path], video: Path, tmp_path: Path
) -> None:
    shown: list[npt.NDArray[np.uint8]] = []

    def show(image: npt.NDArray[np.uint8]) -> None:
        assert threading.current_thread() is threading.main_thread()
        shown.append(image)

    files = sorted((finished_run[1] / "images").iterdir())
    results = list(detect_images(detector, files, out=tmp_path / "out", show=show))
    assert len(shown) == len(results) == 8
    for image, result in zip(shown, results):
        assert result.annotated
        np.testing.assert_array_equal(image, read_image(result.annotated))
    shown.clear()
    assert len(list(detect_video(detector, open_video(video), target=tmp_path / "a.mp4", show=show))) == 20
    expected = [draw_detections(result.image, result.detections) for result in detector.stream(video, images=True)]
    np.testing.assert_array_equal(shown, expected)


def test_a_copy_that_cannot_be_written_ends_a_video_and_is_removed(
    detector: Detector, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: VideoWriter, frame: object) -> None:
        self.frames += 1
        if self.frames == 3:
            raise InputError("no space left on the disk")

    monkeypatch.setattr(VideoWriter, "write", write)
    seen = []
    with pytest.raises(InputError, match="no space left"):
        for detections in detect_video(detector, open_video(video), target=tmp_path / "out" / "a.mp4"):
            seen.append(detections)
    assert 2 <= len(seen) <= 3 + detector.batch_size
    assert list((tmp_path / "out").iterdir()) == []


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
        results = list(
            detect_images(
                detector, files, out=tmp_path / "out", outputs=[CocoRows(rows_file, category_ids=detector.category_ids)]
            )
        )
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
        results = list(
            detect_images(
                detector, files, out=tmp_path / "out", outputs=[CocoRows(rows, category_ids=detector.category_ids)]
            )
        )
    assert [result.name for result in results] == ["a/x.png", "b/c/x.png"]
    told = [row["file_name"] for row in json.loads((tmp_path / "rows.json").read_text())]
    assert list(dict.fromkeys(told)) == ["a/x.png", "b/c/x.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["x-2.png", "x.png"]


@pytest.mark.slow
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
    stream = detector.stream(video, images=True)
    result = next(stream)
    assert result.image is not None
    assert result.image_hw == result.image.shape[:2] == (96, 128)
    alone = detector(result.image)  # not in a batch
    np.testing.assert_allclose(result.detections.boxes, alone.boxes, rtol=1e-4)
    assert [frame.number for frame in stream] == list(range(1, 20))


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


@pytest.mark.slow
def test_a_process_that_is_stopped_reports_what_it_has_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(400):
        shutil.copy(sample_image(), tmp_path / "in" / f"{number:03d}.jpg")
    command = [sys.executable, "-m", "yolo_lite", "detect", "--weights", "yolo_lite-pico-voc5", "--source", "in"]
    words = ["--out", "out", "--save-json", "rows.json", "--device", "cpu", "--score-threshold", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(files_module.__file__).parents[2])}
    with subprocess.Popen(
        [*command, *words], cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read()
    assert process.returncode == 143
    summary = re.search(r"finished (\d+) of 400 images: ", output)  # perhaps after half a line
    assert summary, output
    finished = int(summary[1])
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == [f"{number:03d}.jpg" for number in range(len(written))]
    assert finished <= len(written) <= finished + 1  # the signal may come between a file and its line
    assert len(written) < 400
    with_rows = {row["file_name"] for row in json.loads((tmp_path / "rows.json").read_text())}
    assert with_rows <= set(written)
    assert len(with_rows) >= finished  # which is 0 if the signal comes amid the lines of the first image
