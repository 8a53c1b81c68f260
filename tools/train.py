"""Train a detector on your own labelled images, or resume a run.

python tools/train.py --data my_images --image-size 320
python tools/train.py --resume
"""

import sys

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]]))
