"""`yolo-lite config`."""

from __future__ import annotations

import argparse

from yolo_lite.cli import flags
from yolo_lite.shipped import find_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _config.__doc__
    parser.add_argument(
        "key", nargs="?", default="", help="setting or section to print: train.lr, train (default: all)"
    )
    flags.add_flag(parser, "config", help="configuration: the name of a shipped one or a YAML file")
    flags.add_flag(
        parser,
        "weights",
        help='checkpoint that the training would start from, or "none"',
        usual=f"{flags.SHIPPED}; none if --config is given",
    )
    flags.add_flag(parser, "set", help="setting, such as train.lr=0.002; may be repeated")
    flags.add_flag(parser, "markdown")
    parser.set_defaults(run=_config)


def _config(args: argparse.Namespace) -> int:
    """Print the settings of a training: value, meaning, default, range, and the origin of each value.

    Pass the same --config, --weights and --set as to train.
    """
    from yolo_lite.config.describe import choose, describe, settings_page

    choose(args.key)
    settings = flags.settings_of(args)
    if args.config:
        find_config(args.config)
    if args.markdown:
        lines = settings_page().splitlines()
    else:
        from yolo_lite.training.plan import plan

        lines = describe(plan(config=args.config, weights=args.weights, settings=settings), args.key)
    for line in lines:
        print(line)
    return 0
