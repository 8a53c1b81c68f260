"""Train a detector on your own labelled images, or go on with a run.

python tools/train.py --data my_pictures --image-size 320
python tools/train.py --resume
"""

import sys

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]]))
