"""When a difference between two evaluations is called real."""

SIGNIFICANT = 0.05  # the p-value up to which it is
LEAST_RESAMPLES = 100  # fewer leave a p-value near 0.05, and the ends of an interval, to the luck of the draw
