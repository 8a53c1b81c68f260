"""What a source can be, and videos: written, read back, cut short."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import yolo_lite
from yolo_lite.errors import InputError
from yolo_lite.media.sources import (
    EndsEarlyError,
    Video,
    batches,
    find_source,
    find_sources,
    open_video,
    read_frames,
    relative_names,
)
from yolo_lite.media.writers import VIDEO_CODECS, VideoWriter

HW = (48, 64)


def _frame(number: int) -> npt.NDArray[np.uint8]:
    """Red rises and blue falls with the number; the right half is green."""
    frame = np.full((*HW, 3), (4 * number, 0, 240 - 4 * number), np.uint8)
    frame[:, 32:] = (0, 200, 0)
    return frame


def _by_opencv(path: Path, count: int = 40, codec: str = "mp4v") -> Path:
    """Write a video by OpenCV alone."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (HW[1], HW[0]))
    assert writer.isOpened()
    for number in range(count):
        writer.write(_frame(number)[..., ::-1].copy())
    writer.release()
    return path


def _by_writer(path: Path, count: int = 40, fps: float = 10) -> Path:
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, fps, hw=HW) as writer:
        for number in range(count):
            writer.write(_frame(number))
    return path


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


CODECS = {
    **dict.fromkeys((".ts", ".mts", ".m2ts", ".3gp", ".asf", ".mkv", ".mov", ".vob"), "mp4v"),
    ".flv": "FLV1",
    ".ogv": "VP80",
    ".avi": "MJPG",
}


def _clip(folder: Path, suffix: str) -> Path:
    """Write 12 frames in a container, as an animation where that is GIF."""
    path = folder / f"clip{suffix}"
    if suffix == ".gif":
        frames = [Image.fromarray(_frame(number)) for number in range(12)]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        return path
    return _by_opencv(path, 12, CODECS[suffix])


def _message(source: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        found = find_source(str(source))
        if isinstance(found, Video):
            list(read_frames(found))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Images


def test_a_folder_gives_its_images_sorted_and_not_those_of_its_subfolders(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.webp", "sub/d.png"):
        _image(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "clip.mp4").touch()
    assert find_source(str(tmp_path)) == [tmp_path / name for name in ("a.JPG", "b.png", "c.webp")]


def test_a_folder_gives_images_of_any_name_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    for name, form in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c", "PNG"), ("d.tga", "TGA"), ("e.photo", "WEBP")):
        Image.new("RGB", (4, 4)).save(tmp_path / name, form)
    _image(tmp_path / "sub" / "f.png")
    _image(tmp_path / ".hidden" / "g.png")
    _image(tmp_path / "folder.jpg" / "h.png")
    for name in ("i.heic", "j.MP4", "k.dng", "l.txt", "._a.jfif", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7 no image")
    said: list[str] = []
    found = find_source(str(tmp_path), say=said.append)
    assert found == [tmp_path / name for name in ("a.jfif", "b.jpe", "c", "d.tga", "e.photo")]
    assert said == [
        f"left out of {tmp_path}: 2 files that cannot be read as images (i.heic, l.txt), 1 video (j.MP4), "
        "1 camera raw file (k.dng), 2 sub-folders (folder.jpg, sub)"
    ]


def test_what_a_folder_without_images_holds_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "sub").mkdir()
    assert _message(tmp_path).endswith(f"left out of {tmp_path}: 1 video (a.mp4), 1 sub-folder (sub)")
    assert "1 video (a.mp4)" in _message(tmp_path / "*")


def test_patterns_pass_over_what_macos_leaves_and_say_what_else(tmp_path: Path) -> None:
    for name in ("a.png", "b.avif"):
        _image(tmp_path / name)
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "c.heic").write_bytes(b"no image")
    said: list[str] = []
    assert find_source(str(tmp_path / "*"), say=said.append) == [tmp_path / "a.png", tmp_path / "b.avif"]
    assert said == [f"left out of what matches {tmp_path / '*'}: 1 file that cannot be read as an image (c.heic)"]
    assert find_source(str(tmp_path / "[.ab]*g")) == [tmp_path / "a.png"]


@pytest.mark.parametrize("pattern", ["**/*.png", "**", "**/*", "*/../**/*.png"])
def test_patterns_end_where_links_lead_back_up(tmp_path: Path, pattern: str) -> None:
    """With two links that lead back, following both again and again would not end."""
    _image(tmp_path / "set" / "a.png")
    _image(tmp_path / "set" / "sub" / "b.png")
    _image(tmp_path / "elsewhere" / "c.png")
    for name in ("one", "two"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "set")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "itself").symlink_to(tmp_path / "set" / "itself")
    found = find_source(str(tmp_path / "set" / pattern))
    assert isinstance(found, list)
    assert sorted(path.name for path in found) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        pytest.param("*.png", ["a.png", "b.png"], id="star"),
        pytest.param("?.png", ["a.png", "b.png"], id="question mark"),
        pytest.param("[b-z].*", ["b.png", "c.jpg"], id="range, other files left out"),
        pytest.param("*", ["a.png", "b.png", "c.jpg"], id="everything"),
        pytest.param("**/*.png", ["a.png", "b.png", "sub/a.png"], id="subfolders"),
    ],
)
def test_a_pattern_gives_the_images_that_match(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("b.png", "a.png", "c.jpg", "sub/a.png"):
        _image(tmp_path / name)
    (tmp_path / "d.txt").touch()
    assert find_source(str(tmp_path / pattern)) == [tmp_path / name for name in names]


def test_a_single_file_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    for name in ("a.png", "a.xyz", "what[1].png"):
        (tmp_path / name).touch()
        assert find_source(str(tmp_path / name)) == [tmp_path / name]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert _message(tmp_path / "absent.jpg") == (
        f"{tmp_path / 'absent.jpg'} does not exist; --source takes an image, folder, pattern or video"
    )
    assert _message(tmp_path).startswith(f"no images in the folder {tmp_path}; looked for .jpg, ")
    assert _message(tmp_path / "*.jpg").startswith(f"no images match {tmp_path / '*.jpg'}; looked for .jpg, ")


def test_several_sources_are_taken_in_their_order_and_each_image_once(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "sub/a.png", "sub/c.png"):
        _image(tmp_path / name)
    sources = ["b.png", "*.png", "sub", "./sub/../b.png"]
    found = find_sources([str(tmp_path / source) for source in sources])
    assert found == [tmp_path / name for name in ("b.png", "a.png", "sub/a.png", "sub/c.png")]


def test_what_a_shell_names_besides_images_stops_nothing(tmp_path: Path) -> None:
    """`shots/*` names empty folders and broken links too; a name that was mistyped is another matter."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    names = [_image(tmp_path / "a.png"), *(tmp_path / name for name in ("empty", "gone.png", "loop.png"))]
    assert find_sources([str(name) for name in names]) == names
    with pytest.raises(InputError, match=r"b.png does not exist"):
        find_sources([str(tmp_path / "a.png"), str(tmp_path / "b.png")])


def test_a_video_is_taken_alone(tmp_path: Path) -> None:
    clip = str(_by_opencv(tmp_path / "clip.mp4", 3))
    assert isinstance(find_sources([clip]), Video)
    with pytest.raises(InputError, match=r"clip.mp4 is a video, which must be the only source; pass it alone"):
        find_sources([str(_image(tmp_path / "a.png")), clip])


def test_relative_names_begin_where_the_folders_part() -> None:
    files = [Path("in/a/x.jpg"), Path("in/b/c/x.jpg"), Path("in/y.jpg")]
    assert list(relative_names(files).values()) == ["a/x.jpg", "b/c/x.jpg", "y.jpg"]
    assert list(relative_names(files[:1]).values()) == ["x.jpg"]
    assert list(relative_names([Path("in/x.jpg"), Path("in/sub/../y.jpg")]).values()) == ["x.jpg", "y.jpg"]
    assert relative_names([]) == {}


# Videos that are read


def test_a_video_is_opened_and_its_frames_read_in_order(tmp_path: Path) -> None:
    path = _by_opencv(tmp_path / "clip.mp4")
    video = find_source(str(path))
    assert video == Video(path, 10.0, hw=HW, frames=40)
    frames = list(read_frames(open_video(path)))
    assert len(frames) == 40
    for number, frame in enumerate(frames):
        assert (frame.shape, frame.dtype) == ((*HW, 3), np.uint8)
        np.testing.assert_allclose(frame[24, 10], (4 * number, 0, 240 - 4 * number), atol=25)  # RGB, and lossy
        np.testing.assert_allclose(frame[24, 54], (0, 200, 0), atol=25)


def test_read_frames_holds_one_frame_at_a_time(tmp_path: Path) -> None:
    frames = read_frames(open_video(_by_opencv(tmp_path / "clip.mp4")))
    assert isinstance(frames, Iterator)
    assert isinstance(frames, types.GeneratorType)
    next(frames)
    frames.close()  # leaving early is no error


def test_a_suffix_in_capitals_is_a_video_too(tmp_path: Path) -> None:
    _by_opencv(tmp_path / "clip.mp4").rename(tmp_path / "CLIP.MP4")
    assert isinstance(find_source(str(tmp_path / "CLIP.MP4")), Video)


@pytest.mark.parametrize("suffix", [*CODECS, ".gif"])
def test_videos_of_many_containers_are_read(tmp_path: Path, suffix: str) -> None:
    path = _clip(tmp_path, suffix)
    video = find_source(str(path))
    assert isinstance(video, Video)
    assert 11 <= len(list(read_frames(video))) <= 12


@pytest.mark.parametrize("suffix", sorted(set(CODECS)))
@pytest.mark.parametrize("name", ["clip", "clip.download"])
def test_a_video_without_a_known_suffix_is_told_by_its_first_bytes(tmp_path: Path, suffix: str, name: str) -> None:
    _clip(tmp_path, suffix).rename(tmp_path / name)
    assert isinstance(find_source(str(tmp_path / name)), Video)


def test_a_gif_of_one_frame_is_an_image_and_in_a_folder_every_gif_is(tmp_path: Path) -> None:
    _image(tmp_path / "still.gif")
    assert find_source(str(tmp_path / "still.gif")) == [tmp_path / "still.gif"]
    _clip(tmp_path, ".gif")
    gifs = [tmp_path / "clip.gif", tmp_path / "still.gif"]
    assert find_source(str(tmp_path)) == gifs
    assert find_sources([str(gif) for gif in gifs]) == gifs


@pytest.mark.parametrize("others", [(), ("a.png",)], ids=["alone", "among others"])
def test_what_a_folder_leaves_out_is_said_of_each_source(tmp_path: Path, others: tuple[str, ...]) -> None:
    _image(tmp_path / "a.png")
    _image(tmp_path / "set" / "b.png")
    (tmp_path / "set" / "clip.mp4").write_bytes(b"a video")
    said: list[str] = []
    find_sources([str(tmp_path / source) for source in ("set", *others)], say=said.append)
    assert said == [f"left out of {tmp_path / 'set'}: 1 video (clip.mp4)"]


def test_what_is_neither_image_nor_video_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo\n" * 200)
    message = _message(tmp_path / "run.sh")
    assert message.startswith(f"{tmp_path / 'run.sh'} is neither an image nor a video that can be read; looked for ")
    assert ".jpg" in message
    assert ".mp4" in message


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90000.0])
def test_a_rate_that_cannot_be_is_taken_as_25(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fps: float) -> None:
    path = _by_opencv(tmp_path / "clip.mp4", count=3)
    real = cv2.VideoCapture

    class Odd:
        def __init__(self, name: str) -> None:
            self.inner = real(name)

        def get(self, key: int) -> float:
            return fps if key == cv2.CAP_PROP_FPS else float(self.inner.get(key))

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    monkeypatch.setattr(cv2, "VideoCapture", Odd)
    assert open_video(path).fps == 25.0


# Videos that cannot be read


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.85])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mp4v"), (".webm", "VP90"), (".avi", "MJPG")])
def test_a_truncated_video_is_refused_at_its_opening_or_at_its_end(
    tmp_path: Path, suffix: str, codec: str, share: float
) -> None:
    data = _by_opencv(tmp_path / f"whole{suffix}", 60, codec).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(share * len(data))])
    assert str(path) in _message(path)


def test_a_video_that_ends_early_counts_its_frames(tmp_path: Path) -> None:
    path = _by_opencv(tmp_path / "clip.mp4", 40)
    with pytest.raises(EndsEarlyError) as caught:
        list(read_frames(Video(path, 10, hw=HW, frames=60)))
    assert f"{path} ends early: 40 of 60 frames could be read" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        pytest.param(0, False, id="the file does not say"),
        pytest.param(30, False, id="more than it says"),
        pytest.param(42, False, id="two fewer: headers count so"),
        pytest.param(43, True, id="three fewer"),
    ],
)
def test_a_frame_or_two_too_few_is_no_error(tmp_path: Path, said: int, error: bool) -> None:
    """The margin is the larger of 2 and a fiftieth, which is 0 here."""
    video = Video(_by_opencv(tmp_path / "clip.mp4", 40), 10, hw=HW, frames=said)
    count = 0
    try:
        for _ in read_frames(video):
            count += 1
    except InputError:
        assert error
    else:
        assert not error
    assert count == 40


def test_a_varying_rate_is_no_early_end(tmp_path: Path) -> None:
    """Without an index the number of frames is the length, here 4 seconds, times the highest rate."""
    path = _by_opencv(tmp_path / "clip.mkv", 40)
    assert sum(1 for _ in read_frames(Video(path, 100, hw=HW, frames=400))) == 40
    with pytest.raises(EndsEarlyError):
        list(read_frames(Video(path, 100, hw=HW, frames=500)))


def _trimmed(path: Path, first: int, last: int) -> Path:
    """Hide the frames before the first and after the last of a film at 10 frames a second, by its edit list alone.

    The list and the header of the movie count in thousandths of a second; the track in units of its own, `scale`.
    """
    data = bytearray(path.read_bytes())
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    movie_scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    at = data.index(b"elst") + 4
    assert struct.unpack_from(">II", data, at) == (0, 1)  # version 0, one entry
    struct.pack_into(">Ii", data, at + 8, (last - first + 1) * movie_scale // 10, first * scale // 10)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(("first", "last"), [(20, 39), (0, 24), (12, 30)])
def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path: Path, suffix: str, first: int, last: int) -> None:
    path = _trimmed(_by_opencv(tmp_path / f"clip{suffix}"), first, last)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 40  # the hidden ones too
    video = open_video(path)
    frames = list(read_frames(video))
    assert abs(len(frames) - (last - first + 1)) <= 1
    assert abs(video.frames - len(frames)) <= 1
    np.testing.assert_allclose(frames[0][24, 10], (4 * first, 0, 240 - 4 * first), atol=30)


def test_a_trimmed_video_that_is_cut_short_ends_early(tmp_path: Path) -> None:
    path = _trimmed(_by_opencv(tmp_path / "clip.mp4"), 0, 29)
    assert len(list(read_frames(open_video(path)))) == 30
    video = open_video(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    middle = start + (end - start) // 4
    data[middle:end] = bytes(end - middle)  # as a download that reserved its space and broke off
    path.write_bytes(data)
    with pytest.raises(EndsEarlyError):
        list(read_frames(video))


@pytest.mark.parametrize("cut", [b"mvhd", b"mdhd", b"elst", b"hdlr"])
@pytest.mark.parametrize("value", [0, 0xFFFFFFFF])
def test_damaged_headers_of_a_video_are_no_traceback(tmp_path: Path, cut: bytes, value: int) -> None:
    path = _by_opencv(tmp_path / "clip.mp4", 5)
    data = bytearray(path.read_bytes())
    at = data.index(cut)
    for offset in range(-4, 24, 4):
        changed = data.copy()
        struct.pack_into(">I", changed, at + offset if offset else at - 4, value)
        path.write_bytes(changed)
        with contextlib.suppress(InputError):
            assert open_video(path).frames >= 0


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi", ".mkv", ".mov"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty (0 bytes)", id="zero bytes"),
        pytest.param(b"these are only words\n" * 100, "cannot be read as a video", id="text"),
        pytest.param(bytes(1000), "", id="zeros"),
    ],
)
def test_what_is_no_video_is_named_in_one_line(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    said = _message(path)
    assert str(path) in said
    assert message in said


def _printed(code: str, *arguments: str) -> str:
    """Run code in a fresh process, since OpenCV reads how much it should say only once; return all that it printed."""
    root = Path(yolo_lite.__file__).parents[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV")}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_decoders_add_no_lines_to_an_error_that_is_explained(tmp_path: Path) -> None:
    code = """
import sys
from yolo_lite.media.sources import find_source, read_frames
for name in sys.argv[1:]:
    try:
        list(read_frames(find_source(name)))
    except ValueError:
        continue
    print("no error for", name)
"""
    files = []
    for suffix in (".mp4", ".webm", ".avi", ".mkv"):
        for number, content in enumerate((b"these are only words\n" * 100, bytes(1000))):
            files.append(tmp_path / f"{number}{suffix}")
            files[-1].write_bytes(content)
    for suffix, codec in ((".mp4", "mp4v"), (".webm", "VP90")):
        data = _by_opencv(tmp_path / f"whole{suffix}", 60, codec).read_bytes()
        files.append(tmp_path / f"cut{suffix}")
        files[-1].write_bytes(data[: len(data) // 2])
    assert _printed(code, *map(str, files)) == ""


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_encoders_print_nothing(tmp_path: Path, suffix: str) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from yolo_lite.media.writers import VideoWriter
with VideoWriter(Path(sys.argv[1]), 10, hw=(48, 64)) as writer:
    writer.write(np.zeros((48, 64, 3), np.uint8))
"""
    assert _printed(code, str(tmp_path / f"clip{suffix}")) == ""


def test_a_video_that_vanished_is_an_error(tmp_path: Path) -> None:
    video = Video(tmp_path / "gone.mp4", 10, hw=HW, frames=5)
    with pytest.raises(InputError, match=r"gone\.mp4"):
        list(read_frames(video))


# Videos that are written


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_a_written_video_can_be_read_back(tmp_path: Path, suffix: str) -> None:
    path = _by_writer(tmp_path / f"clip{suffix}", fps=12.5)
    assert sorted(tmp_path.iterdir()) == [path]
    video = open_video(path)
    assert video.fps == pytest.approx(12.5, rel=0.01)
    assert video.hw == HW
    assert abs(video.frames - 40) <= 1
    frames = list(read_frames(video))
    assert len(frames) == 40
    for number in (0, 20, 39):
        np.testing.assert_allclose(frames[number][24, 10], (4 * number, 0, 240 - 4 * number), atol=25)


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
@pytest.mark.parametrize(
    "fps", [211.222, 105611 / 500, 65.5361, 119.88, 239.76, 999.999, 29.97003, 0.1, 0.0004, 655.361]
)
def test_every_rate_can_be_written(tmp_path: Path, suffix: str, fps: float) -> None:
    """MPEG-4 counts at most 65,535 parts of a second, and OpenCV writes 211.222 as 211222 / 1000."""
    path = _by_writer(tmp_path / f"clip{suffix}", 3, fps)
    assert open_video(path).fps == pytest.approx(fps, abs=max(0.01, 0.002 * fps))


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", "café".encode()], ids=["Latin-1", "bytes", "UTF-8"])
@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_a_video_can_have_any_name(tmp_path: Path, name: bytes, suffix: str) -> None:
    """OpenCV ends the process where it is handed a text with lone surrogates."""
    path = _by_writer(tmp_path / os.fsdecode(name) / f"{os.fsdecode(name)}{suffix}")
    video = find_source(str(path))
    assert isinstance(video, Video)
    assert len(list(read_frames(video))) == 40


def test_a_name_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _by_writer(Path("http:clip.mp4"), 3)
    assert open_video(Path("http:clip.mp4")).frames == 3


def test_both_formats_can_be_written() -> None:
    assert set(VIDEO_CODECS) == {".mp4", ".webm"}


@pytest.mark.parametrize("error", [RuntimeError, InputError])
@pytest.mark.parametrize("suffix", VIDEO_CODECS)
@pytest.mark.parametrize("frames", [0, 5])
def test_a_video_that_an_error_broke_off_leaves_nothing(
    tmp_path: Path, suffix: str, frames: int, error: type[BaseException]
) -> None:
    path = tmp_path / f"clip{suffix}"
    with pytest.raises(error), VideoWriter(path, 10, hw=HW) as writer:
        for number in range(frames):
            writer.write(_frame(number))
        raise error("broken off")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frames", [0, 5])
@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_a_stopped_video_keeps_its_frames(tmp_path: Path, suffix: str, frames: int) -> None:
    path = tmp_path / f"clip{suffix}"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 10, hw=HW) as writer:
        for number in range(frames):
            writer.write(_frame(number))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == ([path] if frames else [])
    assert not frames or len(list(read_frames(open_video(path)))) == frames


def test_what_was_read_of_a_video_that_ends_early_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(EndsEarlyError), VideoWriter(path, 10, hw=HW) as writer:
        for number in range(5):
            writer.write(_frame(number))
        raise EndsEarlyError("early")
    assert list(tmp_path.iterdir()) == [path]
    assert len(list(read_frames(open_video(path)))) == 5


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_an_unfinished_video_has_not_its_own_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(b"the last one")
    with pytest.raises(RuntimeError), VideoWriter(path, 10, hw=HW) as writer:
        writer.write(_frame(0))
        assert path.read_bytes() == b"the last one"
        raise RuntimeError
    assert path.read_bytes() == b"the last one"


def test_a_frame_of_another_size_is_stretched_and_not_lost(tmp_path: Path) -> None:
    """Films from the web change their size; OpenCV leaves such frames out."""
    with VideoWriter(tmp_path / "clip.mp4", 10, hw=HW) as writer:
        for height in (48, 96, 30):
            writer.write(np.full((height, 64, 3), 100, np.uint8))
    assert [frame.shape for frame in read_frames(open_video(tmp_path / "clip.mp4"))] == [(*HW, 3)] * 3


def test_write_does_not_modify_the_frame(tmp_path: Path) -> None:
    frame = _frame(3)
    frame.flags.writeable = False
    with VideoWriter(tmp_path / "clip.mp4", 10, hw=HW) as writer:
        writer.write(frame)
    np.testing.assert_array_equal(frame, _frame(3))


# Frames gathered


@pytest.mark.parametrize(
    ("total", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])], ids=str
)
@pytest.mark.parametrize("early", [False, True])
def test_batches_gather_all_frames_in_order_and_raise_last(total: int, sizes: list[int], early: bool) -> None:
    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        for number in range(total):
            yield np.full((1, 1, 3), number, np.uint8)
        if early:
            raise EndsEarlyError("early")

    seen: list[list[int]] = []
    with pytest.raises(EndsEarlyError) if early else contextlib.nullcontext():
        for batch in batches(frames(), 3):
            seen.append([int(frame[0, 0, 0]) for frame in batch])
    assert [len(batch) for batch in seen] == sizes
    assert [number for batch in seen for number in batch] == list(range(total))


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "clip.mp4"
    with pytest.raises(InputError) as caught:
        VideoWriter(path, 10, hw=HW)
    assert f"cannot write {path}" in str(caught.value)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "video"),
    [  # as $YOLO_LITE_DATA/README.md describes them
        ("car-detection.mp4", (12.5, (432, 768), 377)),
        ("one-by-one-person-detection.mp4", (10, (432, 768), 1394)),
    ],
)
def test_real_videos_open(shared_data: Path, name: str, video: tuple[float, tuple[int, int], int]) -> None:
    found = open_video(shared_data / "videos" / name)
    assert (found.fps, found.hw, found.frames) == (pytest.approx(video[0], rel=0.01), video[1], video[2])


def test_without_opencv_a_video_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").write_bytes(b"any content")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        InputError, match="^OpenCV is not installed, and videos need it: pip install opencv-python-headless$"
    ):
        find_source(str(tmp_path / "film.mp4"))
