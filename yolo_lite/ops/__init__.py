"""Boxes, intersection over union and exact non-maximum suppression, with no dependency but torch."""

from yolo_lite.ops.backends import backend, warmup
from yolo_lite.ops.boxes import box_area, cxcywh_to_xyxy, points_in_boxes, xywh_to_xyxy, xyxy_to_cxcywh, xyxy_to_xywh
from yolo_lite.ops.convolve import convolve
from yolo_lite.ops.iou import box_iou, paired_iou
from yolo_lite.ops.nms import batched_nms, nms, nms_padded

__all__ = [
    "backend",
    "batched_nms",
    "box_area",
    "box_iou",
    "convolve",
    "cxcywh_to_xyxy",
    "nms",
    "nms_padded",
    "paired_iou",
    "points_in_boxes",
    "warmup",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
