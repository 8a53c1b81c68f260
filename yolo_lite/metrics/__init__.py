"""From detections to numbers."""
