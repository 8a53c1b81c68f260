"""Warn before a collision: read messages of `yolo-lite detect --track --to ...`, and watch how fast boxes grow.

python docs/examples/brake.py kafka://127.0.0.1:9092/frames
yolo-lite detect --source 0 --track --to jsonl:- | python docs/examples/brake.py -
"""

import json
import math
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from urllib.parse import urlsplit

SOON, SPAN, FEWEST, EDGE = 2.0, 1.0, 4, 2  # seconds to contact, seconds and frames of measured growth, pixels


def messages(address: str) -> Iterator[bytes | str]:
    """Yield messages as they come, from Kafka or, for -, from standard input."""
    if address == "-":
        yield from sys.stdin
        return
    url = urlsplit(address)
    topic = url.path.strip("/")
    if url.scheme != "kafka" or not url.netloc or not topic:
        sys.exit(f"expected kafka://host:port/topic, or - for standard input, got {address}")
    from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

    options = {"bootstrap.servers": url.netloc, "group.id": "brake", "fetch.wait.max.ms": 10, "log_level": 0}
    consumer = Consumer(options)
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    except KafkaException as error:
        sys.exit(f"{address}: {error.args[0].str()}; is a broker running there?")
    consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in partitions])  # what comes from now on
    while True:
        message = consumer.poll(1.0)
        if message is not None and not message.error():
            yield message.value()


def seconds_to_contact(heights: deque[tuple[float, float]]) -> float:
    """Return size / growth: at constant speed an object is reached when its distance, ~ 1 / height, is used up."""
    times, logs = [when for when, _ in heights], [math.log(height) for _, height in heights]
    middle, mean = sum(times) / len(times), sum(logs) / len(logs)
    spread = sum((when - middle) ** 2 for when in times)
    growth = sum((when - middle) * (log - mean) for when, log in zip(times, logs)) / spread if spread else 0.0
    return 1 / growth - (times[-1] - middle) if growth > 0 else math.inf


def main(address: str) -> None:
    """Print BRAKE once for each approach of an object."""
    tracks: dict[tuple[str, int], deque[tuple[float, float]]] = defaultdict(deque)
    warned: set[tuple[str, int]] = set()
    for message in messages(address):
        frame = json.loads(message)
        width, height = frame["image_size"]
        for found in frame["detections"]:
            key, (x1, y1, x2, y2) = (frame["source"], found.get("track_id", -1)), found["box"]
            if x1 < EDGE or y1 < EDGE or x2 > width - EDGE or y2 > height - EDGE:
                tracks.pop(key, None)  # a box that comes into view grows, too
                continue
            heights = tracks[key]
            if heights and frame["time"] <= heights[-1][0]:
                heights.clear()  # the source was started again
            heights.append((frame["time"], y2 - y1))
            while heights[0][0] < frame["time"] - SPAN:
                heights.popleft()
            left = seconds_to_contact(heights) if len(heights) >= FEWEST and key[1] >= 0 else math.inf
            if left < SOON and key not in warned:
                late = 1000 * (time.time() - frame["captured_at"])
                print(
                    f"BRAKE {found['class_name']} {key[1]}: contact in {left:.1f} s; {late:.0f} ms after capture",
                    flush=True,
                )
            warned.add(key) if left < SOON else warned.discard(key)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "-")
