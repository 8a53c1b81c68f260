"""Messages to MQTT, with paho-mqtt."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from yolo_lite.errors import InputError, reason
from yolo_lite.messages.targets import Report, Target

QUEUE = 10_000  # messages that may wait for the broker
IN_FLIGHT = 100  # messages that may wait for a confirmation
LONGEST_WAIT = 4  # seconds between two attempts to connect again
REACH = 5.0  # seconds for the first answer of the broker


class MqttSender:
    """Sends messages to a topic with QoS 1: each arrives at least once, in order.

    TOPIC/status holds "online" while the sender is connected. It becomes "offline" at the end, and also if the process
    or the connection dies (last will).

    Raises:
        InputError: if paho-mqtt is not installed, or the broker does not answer, or refuses.
    """

    def __init__(self, target: Target) -> None:
        try:
            from paho.mqtt import client as mqtt
        except ImportError as error:
            raise InputError(f"{target.name} needs paho-mqtt: pip install 'yolo_lite[mqtt]'") from error
        self.name, self._topic, self._status = target.name, target.place, f"{target.place}/status"
        self._queued = mqtt.MQTT_ERR_NO_CONN, mqtt.MQTT_ERR_SUCCESS
        self._sent = self._delivered = self._dropped = 0
        self._refusal, self._connected, self._changed = "", threading.Event(), threading.Condition()
        self._own: set[int] = set()  # messages about the status, which are not counted
        self._client = client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, reconnect_on_failure=True)
        client.max_queued_messages_set(QUEUE)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.reconnect_delay_set(1, LONGEST_WAIT)
        client.connect_timeout = REACH
        client.will_set(self._status, b"offline", qos=1, retain=True)
        if target.user is not None:
            client.username_pw_set(target.user, target.password)
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        logging.getLogger("paho").addHandler(logging.NullHandler())
        self._open(target)

    def send(self, key: str, value: bytes) -> None:
        """Put a message into the queue; if that is full, count the message as dropped."""
        # No lock is held here: paho holds one of its own while it calls `_on_publish`.
        info = self._client.publish(self._topic, value, qos=1)
        if info.rc in self._queued:
            self._sent += 1
        else:
            self._dropped += 1

    def close(self, limit: float) -> Report:
        """Wait until the broker has confirmed all messages, at most `limit` seconds, and disconnect."""
        end = time.monotonic() + limit
        with self._changed:
            while self._delivered < self._sent and time.monotonic() < end:
                self._changed.wait(max(0.0, end - time.monotonic()))
            report = Report(
                self._sent, self._delivered, dropped=self._dropped, failed=max(0, self._sent - self._delivered)
            )
        if self._client.is_connected():
            self._client.publish(self._status, b"offline", qos=1, retain=True).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()
        return report

    def _open(self, target: Target) -> None:
        try:
            self._client.connect(target.host, target.port, keepalive=10)
        except (OSError, ValueError) as error:
            why = f"no answer within {REACH:g} s" if isinstance(error, TimeoutError) else reason(error)
            raise InputError(f"{self.name}: the broker cannot be reached ({why}); is one running there?") from error
        self._client.loop_start()
        if self._connected.wait(REACH) and not self._refusal:
            return
        self._client.disconnect()
        self._client.loop_stop()
        raise InputError(f"{self.name}: the broker refuses ({self._refusal or f'no answer within {REACH:g} s'})")

    def _on_connect(self, client: Any, userdata: object, flags: object, code: Any, properties: object) -> None:
        self._refusal = str(code) if code.is_failure else ""
        if not code.is_failure:
            self._own.add(client.publish(self._status, b"online", qos=1, retain=True).mid)
        self._connected.set()

    def _on_publish(self, client: object, userdata: object, mid: int, code: object, properties: object) -> None:
        with self._changed:
            if mid in self._own:
                self._own.remove(mid)
            else:
                self._delivered += 1
            self._changed.notify_all()
