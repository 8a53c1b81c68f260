"""Write a checkpoint as a file that runs without torch.

python tools/export.py --weights runs/train-1/best.pt
"""

import sys

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["export", *sys.argv[1:]]))
