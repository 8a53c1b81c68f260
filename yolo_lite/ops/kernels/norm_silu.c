/* Batch normalisation by the batch's statistics and SiLU as one operation over [rows, channels], forward and backward.

   As separate layers of a framework, normalisation, activation and their copies read and write a feature map about ten
   times a step. That is half of the time in which a small network trains on a CPU. Here a map is read twice and written
   once in each direction, and only the convolution's result is kept for the backward pass.

   The rows are cut into blocks whose number does not depend on the number of threads. The sums of the blocks are combined
   in order and in double precision, so the results are the same bits with any number of threads. */

#if defined(__GNUC__) && !defined(__clang__)
/* Fused multiply-add saves a rounding on CPUs that have it. Short copies stay loops over registers: GCC would use string
   instructions instead, which are slow to start. */
#pragma GCC optimize("fp-contract=fast,no-tree-loop-distribute-patterns")
#endif

#include "norm_silu.h"

#include <stdlib.h>
#include <string.h>

#include "clones.h"

#ifdef _OPENMP
#define SHARED_AMONG(threads) _Pragma("omp parallel for schedule(static) num_threads(threads)")
#else
#define SHARED_AMONG(threads) (void)(threads);
#endif

#define BLOCK 32768 /* elements; a block is read twice in a row and fits into the second-level cache */
#define WIDE 128    /* elements of a row, at least */
#define PIECE 128   /* elements of an inner loop, at most */

/* exp(x), to 2 units in the last place, with x limited to -40..40, where the sigmoid is 0 or 1 but for 4e-18. Compilers
   compute both sides of the limit in every lane. Without it some results would be denormal numbers, with which CPUs are
   many times slower. */
static inline float exponential(float x) {
    x = x < -40.0f ? -40.0f : x;
    x = x > 40.0f ? 40.0f : x;
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number, found in the low bits */
    const float shifted = x * 1.44269504f + magic, whole = shifted - magic;
    const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; /* ln 2 in two parts */
    float value = 1.0f / 720;
    value = value * rest + 1.0f / 120;
    value = value * rest + 1.0f / 24;
    value = value * rest + 1.0f / 6;
    value = value * rest + 0.5f;
    value = value * rest + 1.0f;
    value = value * rest + 1.0f;
    uint32_t bits, steps;
    memcpy(&bits, &value, sizeof bits);
    memcpy(&steps, &shifted, sizeof steps);
    bits += steps << 23;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 1 / x for x from 1 to 1e18: a first guess from the bits, off by a twentieth at most, then three of Newton's steps. With
   the widest registers, a division takes longer than all of these. */
static inline float reciprocal(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = 0x7ef311c7 - bits;
    float guess;
    memcpy(&guess, &bits, sizeof guess);
    guess = guess * (2.0f - x * guess);
    guess = guess * (2.0f - x * guess);
    return guess * (2.0f - x * guess);
}

static inline float sigmoid(float z) { return reciprocal(1.0f + exponential(-z)); }

static inline float silu_slope(float z) {
    const float s = sigmoid(z);
    return s * (1.0f + z * (1.0f - s));
}

static inline float from_bfloat16(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t to_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)(value == value ? rounded : 0x7fc0);
}

#define ELEMENT float
#define LOAD(value) (value)
#define STORE(value) (value)
#define NAME(name) name##_float32
#include "norm_silu_rows.h"
#undef ELEMENT
#undef LOAD
#undef STORE
#undef NAME
#define ELEMENT uint16_t
#define LOAD(value) from_bfloat16(value)
#define STORE(value) to_bfloat16(value)
#define NAME(name) name##_bfloat16
#include "norm_silu_rows.h"

/* The division of the rows into blocks. */
typedef struct {
    int64_t rows, channels, blocks, block; /* block: elements of each, whole rows; the last may have fewer */
    int width;                             /* elements of an inner loop: a multiple of the channels */
} Cut;

static Cut cut_rows(int64_t rows, int64_t channels) {
    const int64_t together = channels < WIDE ? WIDE / channels : 1;
    const int64_t width = together * channels;
    const int64_t block = (width < BLOCK ? BLOCK / width : 1) * width;
    return (Cut){rows, channels, (rows * channels + block - 1) / block, block, (int)width};
}

static int64_t elements_of(Cut cut, int64_t block) {
    const int64_t left = cut.rows * cut.channels - block * cut.block;
    return left < cut.block ? left : cut.block;
}

/* Add up the entries of each channel, into the first `channels` entries. */
static void fold(Cut cut, float *sums) {
    for (int64_t j = cut.channels; j < cut.width; j++) sums[j % cut.channels] += sums[j];
}

static void repeat(Cut cut, float *values) {
    for (int64_t j = cut.channels; j < cut.width; j++) values[j] = values[j - cut.channels];
}

int norm_silu_forward(Map map, const float *weight, const float *bias, double eps, int threads, void *y, float *means,
                      float *variances) {
    const Cut cut = cut_rows(map.rows, map.channels);
    const int64_t width = cut.width, channels = cut.channels;
    float *work = malloc((size_t)(cut.blocks + 1) * 2 * width * sizeof *work);
    double *total = calloc((size_t)channels * 2, sizeof *total);
    if (!work || !total) {
        free(work), free(total);
        return 1;
    }
    SHARED_AMONG(threads)
    for (int64_t block = 0; block < cut.blocks; block++) {
        float *mean = work + block * 2 * width, *squares = mean + width;
        const int64_t count = elements_of(cut, block), at = block * cut.block;
        map.bfloat16 ? sum_rows_bfloat16((const uint16_t *)map.x + at, count, cut.width, mean)
                     : sum_rows_float32((const float *)map.x + at, count, cut.width, mean);
        fold(cut, mean);
        for (int64_t c = 0; c < channels; c++) mean[c] /= (float)(count / channels);
        repeat(cut, mean);
        map.bfloat16 ? sum_squares_bfloat16((const uint16_t *)map.x + at, count, cut.width, mean, squares)
                     : sum_squares_float32((const float *)map.x + at, count, cut.width, mean, squares);
        fold(cut, squares);
    }
    for (int64_t block = 0; block < cut.blocks; block++) { /* combine two sets of numbers (Chan et al. 1979) */
        const float *mean = work + block * 2 * width, *squares = mean + width;
        const double count = (double)(elements_of(cut, block) / channels);
        const double before = (double)(block * (cut.block / channels));
        for (int64_t c = 0; c < channels; c++) {
            const double difference = mean[c] - total[c];
            total[c] += difference * count / (before + count);
            total[channels + c] += squares[c] + difference * difference * before * count / (before + count);
        }
    }
    float *scale = work + cut.blocks * 2 * width, *shift = scale + width;
    for (int64_t c = 0; c < channels; c++) {
        const double variance = total[channels + c] / (double)map.rows;
        means[c] = (float)total[c];
        variances[c] = (float)variance;
        scale[c] = (float)(weight[c] / sqrt(variance + eps));
        shift[c] = (float)(bias[c] - total[c] * scale[c]);
    }
    repeat(cut, scale);
    repeat(cut, shift);
    SHARED_AMONG(threads)
    for (int64_t block = 0; block < cut.blocks; block++) {
        const int64_t count = elements_of(cut, block), at = block * cut.block;
        map.bfloat16 ? activate_bfloat16((const uint16_t *)map.x + at, count, cut.width, scale, shift, (uint16_t *)y + at)
                     : activate_float32((const float *)map.x + at, count, cut.width, scale, shift, (float *)y + at);
    }
    free(work), free(total);
    return 0;
}

int norm_silu_backward(Map map, const void *dy, const float *weight, const float *bias, const float *means,
                       const float *variances, double eps, int threads, void *dx, float *d_weight, float *d_bias) {
    const Cut cut = cut_rows(map.rows, map.channels);
    const int64_t width = cut.width, channels = cut.channels;
    float *work = malloc((size_t)(cut.blocks * 2 + 6) * width * sizeof *work);
    if (!work) return 1;
    float *scale = work + cut.blocks * 2 * width, *shift = scale + width, *mean = shift + width, *inverse = mean + width;
    float *along = inverse + width, *offset = along + width;
    for (int64_t c = 0; c < channels; c++) {
        const double root = 1 / sqrt((double)variances[c] + eps);
        mean[c] = means[c];
        inverse[c] = (float)root;
        scale[c] = (float)(weight[c] * root);
        shift[c] = (float)(bias[c] - (double)means[c] * scale[c]);
    }
    repeat(cut, scale), repeat(cut, shift), repeat(cut, mean), repeat(cut, inverse);
    SHARED_AMONG(threads)
    for (int64_t block = 0; block < cut.blocks; block++) {
        float *plain = work + block * 2 * width, *times_x = plain + width;
        const int64_t count = elements_of(cut, block), at = block * cut.block;
        map.bfloat16 ? slopes_bfloat16((const uint16_t *)map.x + at, (const uint16_t *)dy + at, count, cut.width, scale,
                                       shift, mean, inverse, plain, times_x, (uint16_t *)dx + at)
                     : slopes_float32((const float *)map.x + at, (const float *)dy + at, count, cut.width, scale, shift,
                                      mean, inverse, plain, times_x, (float *)dx + at);
        fold(cut, plain), fold(cut, times_x);
    }
    for (int64_t c = 0; c < channels; c++) {
        double plain = 0, times_x = 0;
        for (int64_t block = 0; block < cut.blocks; block++) {
            plain += work[block * 2 * width + c];
            times_x += work[(block * 2 + 1) * width + c];
        }
        d_bias[c] = (float)plain;
        d_weight[c] = (float)times_x;
        /* dx = scale * (dz - plain / rows - normalised x * times_x / rows) */
        const double slope = -scale[c] * times_x / (double)map.rows * inverse[c];
        along[c] = (float)slope;
        offset[c] = (float)(-scale[c] * plain / (double)map.rows - slope * mean[c]);
    }
    repeat(cut, along), repeat(cut, offset);
    SHARED_AMONG(threads)
    for (int64_t block = 0; block < cut.blocks; block++) {
        const int64_t count = elements_of(cut, block), at = block * cut.block;
        map.bfloat16 ? gradients_bfloat16((const uint16_t *)map.x + at, count, cut.width, scale, along, offset,
                                          (uint16_t *)dx + at)
                     : gradients_float32((const float *)map.x + at, count, cut.width, scale, along, offset,
                                         (float *)dx + at);
    }
    free(work);
    return 0;
}
