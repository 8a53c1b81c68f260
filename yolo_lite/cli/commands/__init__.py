"""The commands of `yolo-lite`, a module for each."""
