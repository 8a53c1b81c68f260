"""Streams of `yolo-lite detect`: live sources, lists, standard input, and everything that is sent as messages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli import outputs, values
from yolo_lite.cli.screen import note
from yolo_lite.cli.tracks import stream_tracks
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.media.detections import Output
    from yolo_lite.messages.targets import Messages
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import Show
    from yolo_lite.predict.recorder import Recorder
    from yolo_lite.runtime import Detector as ExportedDetector
    from yolo_lite.stream.addresses import Address
    from yolo_lite.structures.frames import DetectedFrame
    from yolo_lite.tracking.streams import StreamTracks

EVERY = 10.0  # seconds between two lines about a live source


def is_live(args: argparse.Namespace) -> bool:
    """Return whether the arguments of `detect` ask for a stream, rather than for annotated copies of files."""
    from yolo_lite.stream.addresses import are_streams

    return bool(args.targets or args.frames or args.time or args.save_video) or are_streams(args.source or ())


def detect_live(
    make_detector: Callable[[], Detector | ExportedDetector],
    args: argparse.Namespace,
    *,
    show: Show | None,
) -> int:
    """Detect in a stream until it ends, or a limit is reached, and send, record and print what was asked for.

    Args:
        make_detector: returns the detector, after everything that is quick to check was checked.
        args: the arguments of `detect`.
        show: called with every annotated frame.

    Returns:
        The exit status: 1 if a video ended early, 0 otherwise.
    """
    from yolo_lite.messages.targets import Messages, parse_targets
    from yolo_lite.tracking.video import reporting_low_scores

    targets = parse_targets(args.targets)
    outputs.check(args)
    addresses = _addresses(args)
    _check_copies(args, addresses)
    begin_tracks = stream_tracks(args, addresses)
    stdout, tally = sys.stdout, _Tally(quiet=args.quiet)
    with ExitStack() as stack:
        if "jsonl:-" in (target.name for target in targets):
            stack.enter_context(redirect_stdout(sys.stderr))  # standard output is for the messages alone
        messages = Messages(targets, stdout=stdout)
        stack.push(partial(_print_end, tally, messages))
        stack.enter_context(messages)
        detector = make_detector()
        tracks = begin_tracks(detector.score_threshold) if begin_tracks else None
        writer = stack.enter_context(_writer(detector, args, addresses, tracks=tracks, show=show))
        detector = reporting_low_scores(detector) if tracks else detector
        results = stack.enter_context(closing(_results(detector, args, addresses, images=writer.need_images)))
        if tracks:
            stack.callback(_print_tracks, tracks)
        return _run(islice(results, args.frames), tracks=tracks, messages=messages, writer=writer, tally=tally)


def _addresses(args: argparse.Namespace) -> list[Address]:
    from yolo_lite.predict.files import sample_image
    from yolo_lite.stream.addresses import find_addresses

    return find_addresses(args.source or [str(sample_image())], say=(lambda line: None) if args.quiet else note)


def _check_copies(args: argparse.Namespace, addresses: Sequence[Address]) -> None:
    """Raise InputError if the flags of annotated copies contradict each other, or do not suit the sources."""
    from yolo_lite.stream.addresses import image_paths

    if args.out and not args.save_video:
        raise InputError(
            "--out is the folder of annotated videos, which streams write with --save-video alone (so do --to, --frames "
            "and --time); add it, or leave out --out"
        )
    if args.no_images and args.save_video:
        raise InputError("--save-video writes annotated videos, which --no-images leaves out; leave out one")
    if args.save_video:
        for path in image_paths(addresses):
            raise InputError(f"--save-video records videos and live sources; leave the image {path} out of --source")


def _run(
    results: Iterable[DetectedFrame],
    *,
    tracks: StreamTracks | None,
    messages: Messages,
    writer: _Writer,
    tally: _Tally,
) -> int:
    """Pass each result on, and return the exit status."""
    from yolo_lite.media.sources import EndsEarlyError

    try:
        for result in results:
            result = tracks.update(result) if tracks else result
            messages.send(result)
            writer.write(result)
            tally.add(result)
    except EndsEarlyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _results(
    detector: Detector | ExportedDetector, args: argparse.Namespace, addresses: Sequence[Address], *, images: bool
) -> Generator[DetectedFrame, None, None]:
    from yolo_lite.stream.capture import Limits

    limits = Limits(total=60 * args.time) if args.time else Limits()
    return detector.stream(addresses, images=images, every_frame=args.every_frame, limits=limits, say=note)


@contextmanager
def _writer(
    detector: Detector | ExportedDetector,
    args: argparse.Namespace,
    addresses: Sequence[Address],
    *,
    tracks: StreamTracks | None,
    show: Show | None,
) -> Iterator[_Writer]:
    """Yield what writes the results of frames; at the end, print where they are."""
    from yolo_lite.predict.recorder import Recorder

    if not args.quiet:
        values.note_missing_letters(args.classes or detector.class_names, args.font)
    with ExitStack() as stack:
        others = stack.enter_context(outputs.opened(args, category_ids=detector.category_ids))
        recorder = None
        if args.save_video:
            out = stack.enter_context(values.output_folder(args.out, "detect"))
            recorder = Recorder(out, suffix=f".{args.video_format or 'mp4'}", font=args.font)
            stack.callback(_print_paths, recorder)
            stack.enter_context(recorder)
        yield _Writer(_Names(addresses), others, recorder=recorder, show=show, font=args.font, tracks=tracks)


class _Names:
    """What results call an image or a frame: its name, and its id."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        from yolo_lite.predict.files import image_ids
        from yolo_lite.stream.addresses import image_paths, short_names

        self._names = short_names(addresses)
        self._ids = {str(path): number for path, number in image_ids(image_paths(addresses)).items()}
        self._further = max(self._ids.values(), default=0)

    def name(self, result: DetectedFrame) -> str:
        """Return the name of the image or the video."""
        return self._names.get(result.source, result.source)

    def image_id(self, result: DetectedFrame) -> int:
        """Return the number of a frame, or an image's own id; images of an archive are counted."""
        if not result.still:
            return result.number
        if result.source in self._ids:
            return self._ids[result.source]
        self._further += 1
        return self._further


class _Writer:
    """What is written for each frame besides messages."""

    def __init__(
        self,
        names: _Names,
        others: Sequence[Output],
        *,
        recorder: Recorder | None,
        show: Show | None,
        font: Path | None,
        tracks: StreamTracks | None,
    ) -> None:
        self._names, self._others, self._tracks = names, others, tracks
        self._recorder, self._show, self._font = recorder, show, font
        self.need_images = bool(recorder or show or others)

    def write(self, result: DetectedFrame) -> None:
        """Write the rows of a frame, record it and show it."""
        from yolo_lite.media.detections import Detected
        from yolo_lite.predict.recorder import annotated

        overlay = self._tracks.overlay(result.source) if self._tracks else None
        name, image_id = self._names.name(result), self._names.image_id(result)
        for output in self._others:
            assert result.image is not None  # kept for these
            frame = None if result.still else result.number
            output.write(Detected(name, result.image, result.detections, frame, image_id=image_id))
        if self._recorder:
            self._recorder.write(result, overlay=overlay)
        if self._show:
            self._show(annotated(result, overlay=overlay, font=self._font))


class _Tally:
    """Counts of a stream; prints a line about each live source from time to time."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.frames = self.objects = 0
        self._live: dict[str, _LiveTally] = {}

    def add(self, result: DetectedFrame) -> None:
        """Count a frame."""
        self.frames += 1
        self.objects += len(result.detections)
        if result.live:
            live = self._live.setdefault(result.source, _LiveTally(result))
            live.add(result)
            if not self._quiet and result.captured_at - live.printed_at >= EVERY:
                print(live.line())
                live.begin(result)

    def lines(self) -> Iterator[str]:
        """Yield a line about each live source as a whole, and one about everything."""
        for live in self._live.values():
            yield live.whole()
        yield f"{counted(self.objects, 'object')} in {counted(self.frames, 'frame')}"


class _LiveTally:
    """Counts of a live source, since the last line about it and as a whole."""

    def __init__(self, first: DetectedFrame) -> None:
        self._first = self._last = first
        self._frames, self._lag = 0, 0.0
        self.begin(first)

    def begin(self, result: DetectedFrame) -> None:
        """Begin to count for the next line."""
        self.printed_at, self._since, self._recent, self._most = result.captured_at, result.time, 0, 0.0

    def add(self, result: DetectedFrame) -> None:
        """Count a frame."""
        self._frames += 1
        self._recent += 1
        self._most, self._lag = max(self._most, result.lag), max(self._lag, result.lag)
        self._last = result

    def line(self) -> str:
        """Return a line about the time since the last one."""
        return self._text(self._recent / max(1e-9, self._last.time - self._since), self._most)

    def whole(self) -> str:
        """Return a line about the whole run."""
        rate = (self._frames - 1) / max(1e-9, self._last.time - self._first.time)
        return f"{self._text(rate, self._lag)} in {counted(self._frames, 'frame')}"

    def _text(self, rate: float, lag: float) -> str:
        last = self._last
        return (
            f"{last.source}: {rate:.1f} frames/s, lag at most {lag:.2f} s, {last.dropped:,} dropped, "
            f"{counted(last.reconnects, 'reconnect')}"
        )


def _print_tracks(tracks: StreamTracks) -> None:
    for line in tracks.summary():
        print(line)


def _print_paths(recorder: Recorder) -> None:
    for path in recorder.paths.values():
        if path.exists():
            print(f"annotated: {path}")


def _print_end(tally: _Tally, messages: Messages, kind: type[BaseException] | None, *_: object) -> None:
    """Print what was done; of a run that failed before its first frame, the error says enough."""
    from yolo_lite.messages.targets import summary

    if kind is not None and issubclass(kind, Exception) and not tally.frames:
        return
    for line in tally.lines():
        print(line)
    for name, report in messages.reports.items():
        print(summary(name, report))
