"""Streams of `yolo-lite detect`: live sources, lists, standard input, and everything that is sent as messages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import outputs, values
from yolo_lite.cli.screen import note
from yolo_lite.cli.tracks import stream_tracks
from yolo_lite.errors import counted

if TYPE_CHECKING:
    from yolo_lite.media.detections import Output
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import Show
    from yolo_lite.predict.recorder import Recorder
    from yolo_lite.runtime import Detector as ExportedDetector
    from yolo_lite.structures.frames import DetectedFrame
    from yolo_lite.tracking.streams import StreamTracks

EVERY = 10.0  # seconds between two lines about a live source


def is_live(args: argparse.Namespace) -> bool:
    """Return whether the arguments of `detect` ask for a stream, rather than for annotated copies of files."""
    from yolo_lite.stream.addresses import are_streams

    asked = args.targets or args.every_frame or args.frames or args.time or args.save_video
    return bool(asked) or are_streams(args.source or ())


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
    """
    from yolo_lite.media.writers import JsonRows
    from yolo_lite.messages.targets import Messages, parse_target, summary
    from yolo_lite.predict.recorder import Recorder
    from yolo_lite.tracking.video import reporting_low_scores

    targets = [parse_target(text) for text in args.targets]
    outputs.check(args)
    stdout, tally = sys.stdout, _Tally(quiet=args.quiet)
    with ExitStack() as stack:
        if "jsonl:-" in (target.name for target in targets):
            stack.enter_context(redirect_stdout(sys.stderr))  # standard output is for the messages alone
        messages = Messages(targets, stdout=stdout)
        stack.callback(_print_end, tally, messages, summary)
        stack.enter_context(messages)
        detector = make_detector()
        if not args.quiet:
            values.note_missing_letters(args.classes or detector.class_names, args.font)
        others = stack.enter_context(outputs.opened(args))
        rows = stack.enter_context(JsonRows(args.save_json)) if args.save_json else None
        recorder = None
        if args.save_video:
            out = stack.enter_context(values.output_folder(args.out, "detect"))
            recorder = stack.enter_context(Recorder(out, suffix=f".{args.video_format}", font=args.font))
            stack.callback(_print_paths, recorder)
        tracks = stream_tracks(args, detector.score_threshold)
        writer = _Writer(
            detector, rows=rows, others=others, recorder=recorder, show=show, font=args.font, tracks=tracks
        )
        detector = reporting_low_scores(detector) if tracks else detector
        results = stack.enter_context(closing(_results(detector, args, images=writer.need_images)))
        if tracks:
            stack.callback(_print_tracks, tracks)
        for result in islice(results, args.frames):
            result = tracks.update(result) if tracks else result
            messages.send(result)
            writer.write(result)
            tally.add(result)
    return 0


def _results(
    detector: Detector | ExportedDetector, args: argparse.Namespace, *, images: bool
) -> Generator[DetectedFrame, None, None]:
    from yolo_lite.predict.files import sample_image
    from yolo_lite.stream.capture import Limits

    limits = Limits(total=60 * args.time) if args.time else Limits()
    say = (lambda line: None) if args.quiet else note
    sources = args.source or [str(sample_image())]
    return detector.stream(sources, images=images, every_frame=args.every_frame, limits=limits, say=say)


class _Writer:
    """What is written for each frame besides messages."""

    def __init__(
        self,
        detector: Detector | ExportedDetector,
        *,
        rows: Any,
        others: Sequence[Output],
        recorder: Recorder | None,
        show: Show | None,
        font: Path | None,
        tracks: StreamTracks | None,
    ) -> None:
        self._tracks, self._others = tracks, others
        self._category_ids, self._rows = detector.category_ids, rows
        self._recorder, self._show, self._font = recorder, show, font
        self.need_images = bool(recorder or show or others)

    def write(self, result: DetectedFrame) -> None:
        """Write the rows of a frame, record it and show it."""
        from yolo_lite.media.detections import Detected
        from yolo_lite.predict.recorder import annotated
        from yolo_lite.structures.rows import to_rows

        overlay = self._tracks.overlay(result.source) if self._tracks else None
        if self._rows:
            rows = to_rows(result.detections, result.number, category_ids=self._category_ids)
            self._rows.write([{**row, "file_name": result.source} for row in rows])
        for output in self._others:
            assert result.image is not None
            output.write(Detected(result.source, result.image, result.detections, result.number))
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
        print(f"annotated: {path}")


def _print_end(tally: _Tally, messages: Any, summary: Callable[[str, Any], str]) -> None:
    for line in tally.lines():
        print(line)
    for name, report in messages.reports.items():
        print(summary(name, report))
