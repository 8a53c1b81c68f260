#ifndef YOLO_LITE_SUPPRESS_H
#define YOLO_LITE_SUPPRESS_H

#include <stdint.h>

/* Suppress over a batch: boxes [batch, total, 4], scores and labels (or NULL) [batch, total] -> indices [batch, most], counts
   [batch]. Return 0, or -1 if memory runs out. */
int suppress_batch(const float *boxes, const float *scores, const int64_t *labels, int64_t batch, int64_t total,
                   float iou_threshold, float score_threshold, int64_t most, int64_t *indices, int32_t *counts);
int suppress_batch_wide(const double *boxes, const float *scores, const int64_t *labels, int64_t batch, int64_t total,
                        double iou_threshold, float score_threshold, int64_t most, int64_t *indices, int32_t *counts);

#endif
