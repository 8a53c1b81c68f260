"""Score a detector on labelled images with COCO's average precision.

python tools/eval.py --weights runs/train-1/best.pt --data my_images
python tools/eval.py --detections results.json --data my_images --split test
"""

import sys

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["eval", *sys.argv[1:]]))
