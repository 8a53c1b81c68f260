"""Messages to Kafka, with confluent-kafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from yolo_lite.errors import InputError
from yolo_lite.messages.targets import Report, Target

QUEUE = 10_000  # messages that may wait for the broker
QUEUE_KB = 64_000
LATE = 120  # seconds after which a message that could not be delivered is given up
REACH = 5.0  # seconds for the first answer of the broker


class KafkaSender:
    """Sends messages to a topic, each once and in order (idempotent), compressed by lz4, with the source as key.

    `send` only puts a message into a queue; librdkafka's own thread delivers it, and connects again as often as needed.

    Args:
        target: the address.
        settings: settings of librdkafka in place of those here.

    Raises:
        InputError: if confluent-kafka is not installed, no broker answers, or the topic does not exist.
    """

    def __init__(self, target: Target, *, settings: Mapping[str, Any] | None = None) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise InputError(f"{target.name} needs confluent-kafka: pip install 'yolo_lite[kafka]'") from error
        self.name, self._topic = target.name, target.place
        self._sent = self._delivered = self._dropped = 0
        self._why = ""
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": f"{target.host}:{target.port}",
                "client.id": "yolo_lite",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": QUEUE,
                "queue.buffering.max.kbytes": QUEUE_KB,
                "message.timeout.ms": 1000 * LATE,
                "reconnect.backoff.ms": 100,
                "reconnect.backoff.max.ms": 2000,
                "error_cb": self._note,
                "logger": _silent_logger(),
                **(settings or {}),
            }
        )
        self._find_topic(confluent_kafka)

    def send(self, key: str, value: bytes) -> None:
        """Put a message into the queue; if that is full, count the message as dropped."""
        try:
            self._producer.produce(self._topic, value, key, on_delivery=self._delivery)
            self._sent += 1
        except BufferError:
            self._dropped += 1
        self._producer.poll(0)

    def close(self, limit: float) -> Report:
        """Wait for the delivery of the queue, at most `limit` seconds."""
        self._producer.flush(limit)
        failed = self._sent - self._delivered
        self._producer.purge()
        self._producer.flush(1.0)
        return Report(self._sent, self._delivered, dropped=self._dropped, failed=failed)

    def _delivery(self, error: Any, message: Any) -> None:
        self._delivered += error is None

    def _note(self, error: Any) -> None:
        self._why = error.str()

    def _find_topic(self, kafka: Any) -> None:
        """Raise InputError unless the broker knows the topic; some brokers create it when they are asked."""
        end = time.monotonic() + REACH
        while True:
            left = max(0.1, end - time.monotonic())
            try:
                found = self._producer.list_topics(self._topic, timeout=left).topics[self._topic].error
            except kafka.KafkaException as error:
                self._producer.poll(0)
                why = self._why or error.args[0].str()
                raise InputError(
                    f"{self.name}: no broker answers within {REACH:g} s ({_short(why)}); is one running there?"
                ) from error
            if found is None:
                return
            if time.monotonic() + 0.5 >= end or found.code() != kafka.KafkaError.LEADER_NOT_AVAILABLE:
                raise InputError(f"{self.name}: no topic {self._topic} ({found.str()}); create it first")
            time.sleep(0.2)


def _short(why: str) -> str:
    """Return the end of an error of librdkafka, which begins with addresses and ends with counters."""
    return why.partition(" (after")[0].rpartition(": ")[2]


def _silent_logger() -> logging.Logger:
    """Return a logger that writes nothing: errors are reported by this module."""
    logger = logging.getLogger(f"{__name__}.librdkafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
