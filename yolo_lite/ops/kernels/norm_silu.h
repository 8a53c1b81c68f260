/* Batch normalisation and SiLU in one; see norm_silu.c. */

#ifndef NORM_SILU_H
#define NORM_SILU_H

#include <math.h>
#include <stdint.h>

typedef struct {
    const void *x; /* [rows, channels], float32 or bfloat16 */
    int64_t rows, channels;
    int bfloat16;
} Map;

/* Write y, of the type of x, and each channel's mean and variance over the rows. Returns 0, or 1 if memory runs out. */
int norm_silu_forward(Map map, const float *weight, const float *bias, double eps, int threads, void *y, float *means,
                      float *variances);

/* Write the gradients with respect to x, weight and bias; dy is of the type of x. Returns 0, or 1 if memory runs out. */
int norm_silu_backward(Map map, const void *dy, const float *weight, const float *bias, const float *means,
                       const float *variances, double eps, int threads, void *dx, float *d_weight, float *d_bias);

#endif
