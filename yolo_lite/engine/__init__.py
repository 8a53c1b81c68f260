"""Where data meets model meets loss: training, evaluation, prediction, checkpoints."""
