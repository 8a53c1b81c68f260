"""Export checkpoints to files that run without torch."""
