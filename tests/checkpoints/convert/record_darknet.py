"""Record what OpenCV's own reader of Darknet's files gives, for test_darknet_weights.py to compare with.

OpenCV 5 no longer reads these files, so this runs in an environment of its own, without yolo_lite:

    pip install "opencv-python-headless<5" numpy
    python tests/checkpoints/convert/record_darknet.py FOLDER tests/checkpoints/convert/darknet_reference.npz

FOLDER holds networks (NAME.cfg beside NAME.weights) and images (*.jpg). Of each network and image the file keeps
the rows in which a class scores: their numbers ("NETWORK/PICTURE/rows"), boxes ("boxes", centre x, y, width, height as
shares of the image) and class scores ("scores"; OpenCV sets those up to 0.2 to zero).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="networks and images")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    arguments = parser.parse_args()
    if int(cv2.__version__.split(".")[0]) >= 5:
        parser.error(f"OpenCV {cv2.__version__} does not read Darknet's files; this needs opencv-python-headless<5")
    found: dict[str, np.ndarray] = {"opencv": np.array(cv2.__version__)}
    for cfg in sorted(arguments.folder.glob("*.cfg")):
        network = cv2.dnn.readNetFromDarknet(str(cfg), str(cfg.with_suffix(".weights")))
        for image in sorted(arguments.folder.glob("*.jpg")):
            for name, values in record(network, image).items():
                found[f"{cfg.stem}/{image.stem}/{name}"] = values
    np.savez_compressed(arguments.out, **found)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes, {len(found) - 1} arrays")


def record(network: cv2.dnn.Net, image: Path, side: int = 320) -> dict[str, np.ndarray]:
    """Return the rows of one image in which a class scores."""
    pixels = cv2.resize(cv2.imread(str(image)), (side, side), interpolation=cv2.INTER_LINEAR)
    network.setInput(cv2.dnn.blobFromImage(pixels, 1 / 255, (side, side), swapRB=True))
    rows = np.concatenate(network.forward(network.getUnconnectedOutLayersNames()))
    kept = np.flatnonzero(rows[:, 5:].max(1) > 0)
    return {"rows": kept.astype(np.int32), "boxes": rows[kept, :4], "scores": rows[kept, 5:]}


if __name__ == "__main__":
    main()
