"""`python -m yolo_lite.cli`."""

from yolo_lite.cli import main

raise SystemExit(main())
