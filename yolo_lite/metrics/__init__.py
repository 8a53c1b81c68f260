"""Measure how well detections and classifications agree with the ground truth."""
