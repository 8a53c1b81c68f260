"""Where messages go: a file, standard output, Kafka or MQTT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO
from urllib.parse import unquote, urlsplit

from yolo_lite.errors import InputError, counted
from yolo_lite.messages.frame import encode_frame
from yolo_lite.structures.frames import DetectedFrame

FORMS = "jsonl:-, jsonl:FILE, kafka://host:port/topic or mqtt://host:port/topic"
_PORTS = {"kafka": 9092, "mqtt": 1883}
_TOPIC = {"kafka": re.compile(r"[A-Za-z0-9._-]{1,249}"), "mqtt": re.compile(r"[^+#\0]{1,60000}")}


@dataclass(frozen=True)
class Target:
    """An address of messages. `name` shows no password.

    Attributes:
        kind: jsonl, kafka or mqtt.
        place: the path of a file or -, or the topic.
    """

    kind: str
    place: str
    name: str
    host: str = ""
    port: int = 0
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True)
class Report:
    """What became of the messages of a target.

    Attributes:
        sent: messages handed over.
        delivered: messages that arrived, as the receiver confirmed.
        dropped: messages that were not accepted because too many were waiting.
        failed: messages that did not arrive in time.
    """

    sent: int
    delivered: int
    dropped: int = 0
    failed: int = 0


class Sender(Protocol):
    """Sends messages to one target, and never waits for it."""

    name: str

    def send(self, key: str, value: bytes) -> None:
        """Hand over a message."""

    def close(self, limit: float) -> Report:
        """Wait for the delivery of all messages, at most `limit` seconds, and return what became of them."""


def parse_target(text: str) -> Target:
    """Return the target that a text names.

    Raises:
        InputError: if it is none; the message shows no password.

    Example:
        >>> parse_target("kafka://127.0.0.1:9092/frames").place
        'frames'
    """
    kind, _, place = text.partition(":")
    if kind == "jsonl" and place:
        return Target(kind, place, text)
    shown = re.sub(r"//[^/]*@", "//", text)
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise InputError(f"{shown} is not a message target; write {FORMS}") from error
    topic = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in _PORTS or not parts.hostname or set(text) & set("?#"):
        raise InputError(f"{shown} is not a message target; write {FORMS}")
    if not _TOPIC[parts.scheme].fullmatch(topic):
        raise InputError(f"{shown} names no topic that {parts.scheme} allows; write {FORMS}")
    if parts.scheme == "kafka" and parts.username:
        raise InputError(f"{shown}: user and password are not supported for kafka; leave them out")
    name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{topic}"
    user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
    return Target(parts.scheme, topic, name, host=parts.hostname, port=port, user=user, password=password)


def parse_targets(texts: Sequence[str]) -> list[Target]:
    """Return the targets that texts name.

    Raises:
        InputError: if one is none, or two are the same.

    Example:
        >>> [target.name for target in parse_targets(["jsonl:-", "jsonl:frames.jsonl"])]
        ['jsonl:-', 'jsonl:frames.jsonl']
    """
    targets = [parse_target(text) for text in texts]
    places = [(target.kind, target.host, target.port, _place(target)) for target in targets]
    for number, target in enumerate(targets):
        if places[number] in places[:number]:
            raise InputError(f"{target.name} is named twice; each message goes to a target once")
    return targets


def _place(target: Target) -> str:
    is_file = target.kind == "jsonl" and target.place != "-"
    return str(Path(target.place).resolve()) if is_file else target.place


def open_sender(target: Target, *, stdout: TextIO | None = None) -> Sender:
    """Connect to a target.

    Args:
        target: the target.
        stdout: the stream for jsonl:-.

    Raises:
        InputError: if it cannot be reached or written to, or its library is not installed.

    Example:
        >>> sender = open_sender(parse_target("jsonl:frames.jsonl"))
        >>> sender.send("camera 0", b"{}")
        >>> sender.close(1.0).delivered
        1
    """
    if target.kind == "kafka":
        from yolo_lite.messages.kafka import KafkaSender

        return KafkaSender(target)
    if target.kind == "mqtt":
        from yolo_lite.messages.mqtt import MqttSender

        return MqttSender(target)
    from yolo_lite.messages.jsonl import FileSender, StreamSender

    if target.place == "-":
        if stdout is None:
            raise InputError("jsonl:- needs a standard output")
        return StreamSender(stdout)
    return FileSender(Path(target.place), name=target.name)


class Messages:
    """Send each frame to several targets, in a `with` block; at its end, all that is waiting is delivered.

    Args:
        targets: where messages go; may be empty.
        stdout: the stream for jsonl:-.
        limit: seconds that the end of the block waits for the delivery to each target.

    Attributes:
        reports: what became of the messages, by name of the target; filled at the end of the block.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> nothing = Detections([], scores=[], labels=[], class_names=["cat"])
        >>> with Messages([parse_target("jsonl:night.jsonl")]) as messages:
        ...     messages.send(DetectedFrame("camera 0", 0, 0.0, 1e9, nothing, image_hw=(48, 64)))
        >>> messages.reports["jsonl:night.jsonl"]
        Report(sent=1, delivered=1, dropped=0, failed=0)
    """

    def __init__(self, targets: Sequence[Target], *, stdout: TextIO | None = None, limit: float = 10.0) -> None:
        self.reports: dict[str, Report] = {}
        self._limit, self._senders = limit, list[Sender]()
        with ExitStack() as stack:  # if one cannot be opened, the others are closed
            for target in targets:
                sender = open_sender(target, stdout=stdout)
                self._senders.append(sender)
                stack.callback(sender.close, 0.0)
            stack.pop_all()

    def send(self, frame: DetectedFrame) -> None:
        """Hand the document of a frame to every target.

        Raises:
            InputError: if a file cannot be written.
        """
        if not self._senders:
            return
        value = encode_frame(frame)
        for sender in self._senders:
            sender.send(frame.source, value)

    def __enter__(self) -> Messages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for sender in self._senders:
                stack.callback(self._close, sender)

    def _close(self, sender: Sender) -> None:
        self.reports[sender.name] = sender.close(self._limit)


def summary(name: str, report: Report) -> str:
    """Return a line about the messages of a target.

    Example:
        >>> summary("kafka://127.0.0.1:9092/frames", Report(sent=1000, delivered=998, failed=2))
        'kafka://127.0.0.1:9092/frames: 998 of 1,000 messages delivered, 2 failed'
    """
    offered = report.sent + report.dropped
    line = f"{name}: {report.delivered:,} of {counted(offered, 'message')} delivered"
    return (
        line
        + f", {report.dropped:,} dropped" * bool(report.dropped)
        + f", {report.failed:,} failed" * bool(report.failed)
    )
