"""`python -m yolo_lite.cli`."""

from yolo_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
