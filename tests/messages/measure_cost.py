"""Measure what messages to Kafka cost a detector, and how fast they arrive: python -m tests.messages.measure_cost."""

from __future__ import annotations

import json
import statistics
import threading
import time

import confluent_kafka

from tests.messages.conftest import running_kafka
from yolo_lite.messages.frame import encode_frame
from yolo_lite.messages.kafka import KafkaSender
from yolo_lite.messages.targets import parse_target
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.results import Detections

PERIOD, OBJECTS = 0.02, 10  # seconds between two frames


def frame(number: int) -> DetectedFrame:
    """Return a frame that was captured now."""
    boxes = [[1.5, 2.5, 30 + i, 40 + i] for i in range(OBJECTS)]
    found = Detections(boxes, scores=[0.9] * OBJECTS, labels=[1] * OBJECTS, class_names=("person", "car"))
    return DetectedFrame("camera 0", number, number * PERIOD, time.time(), found, image_hw=(480, 640))


def send(sender: KafkaSender, count: int, name: str) -> None:
    """Send frames, and print what that takes."""
    costs: list[float] = []
    for number in range(count):
        result = frame(number)
        began = time.perf_counter()
        sender.send(result.source, encode_frame(result))
        costs.append(time.perf_counter() - began)
        time.sleep(PERIOD)
    ordered = sorted(1000 * cost for cost in costs)
    print(
        f"broker {name}: {statistics.mean(ordered):.2f} ms a frame, 99 % below {ordered[-count // 100]:.2f}, "
        f"most {ordered[-1]:.2f} ms; {statistics.mean(ordered) / (10 * PERIOD):.1f} % of {1000 * PERIOD:.0f} ms"
    )


def receive(servers: str, delays: list[float], stop: threading.Event) -> None:
    """Collect the time from capture to arrival of each message, in milliseconds."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": "delays", "fetch.wait.max.ms": 10})
    consumer.assign([confluent_kafka.TopicPartition("frames", 0, 0)])
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            delays.append(1000 * (time.time() - json.loads(message.value())["captured_at"]))
    consumer.close()


def main() -> None:
    """Send with the broker there, away, and there again."""
    with running_kafka() as gate:
        servers, delays, stop = f"127.0.0.1:{gate.port}", list[float](), threading.Event()
        sender = KafkaSender(parse_target(f"kafka://{servers}/frames"))
        receiver = threading.Thread(target=receive, args=(servers, delays, stop))
        receiver.start()
        send(sender, 1000, "there")
        stop.set()
        receiver.join()
        print(
            f"capture to arrival: median {statistics.median(delays):.1f}, 95 % {statistics.quantiles(delays, n=20)[-1]:.1f} ms"
        )
        gate.close()
        send(sender, 1000, "away")
        gate.open()
        send(sender, 1000, "back")
        print(sender.close(30))


if __name__ == "__main__":
    main()
