"""Write approach.mp4: a photograph of a person that comes nearer, from 40 m at 10 m/s, for three seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

from yolo_lite.media.writers import VideoWriter
from yolo_lite.predict.files import sample_image

FPS, DISTANCE, SPEED = 25, 40, 10  # frames/s, m, m/s


def main() -> None:
    """Write the video into the current folder."""
    person = Image.open(sample_image()).crop((60, 0, 452, 560))
    with VideoWriter(Path("approach.mp4"), FPS, hw=(480, 640)) as writer:
        for number in range(3 * FPS):
            height = round(110 * DISTANCE / (DISTANCE - SPEED * number / FPS))
            near = person.resize((height * person.width // person.height, height))
            frame = Image.new("RGB", (640, 480), (120, 130, 120))
            frame.paste(near, ((640 - near.width) // 2, (480 - height) // 2))
            writer.write(np.array(frame))


if __name__ == "__main__":
    main()
