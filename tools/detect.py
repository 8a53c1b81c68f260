"""Find objects in images or a video.

python tools/detect.py
python tools/detect.py --source holiday.mp4 --classes person,car --out found
"""

import sys

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["detect", *sys.argv[1:]]))
