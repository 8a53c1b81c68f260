/* The backward pass of a depthwise convolution; see depthwise.c. */

#ifndef DEPTHWISE_H
#define DEPTHWISE_H

#include <stdint.h>

/* Maps are [images, height, width, channels]. The kernel is odd, the padding is half of it, rounded down. */
typedef struct {
    int64_t images, height, width, channels; /* of the input; the output has ceil(height / stride) rows, and so on */
    int kernel, stride, bfloat16;            /* kernel: 3 or 5; bfloat16: the type of the maps, otherwise float32 */
} Depthwise;

/* Whether this processor has the instructions that depthwise_backward needs. */
int depthwise_runs(void);

/* Write the gradients with respect to x, weight [channels, kernel, kernel] and bias [channels]; dx is of the type of x and dy.
   Returns 0, or 1 if memory runs out. */
int depthwise_backward(Depthwise layer, const void *x, const void *dy, const float *weight, int threads, void *dx,
                       float *d_weight, float *d_bias);

#endif
