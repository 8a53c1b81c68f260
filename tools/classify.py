"""Train a classifier of whole images, score it, or use it.

python tools/classify.py train --data my_images
python tools/classify.py predict --weights runs/train-1/best.pt --source photo.jpg
"""

import sys

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["classify", *sys.argv[1:]]))
