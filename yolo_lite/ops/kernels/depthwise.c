/* The gradients of a depthwise convolution with respect to its input, its weight and its bias.

   The unit of work is one image and LANES channels. Its maps are copied into buffers, in float32 and with a border of
   zeros. There the channels of neighbouring pixels lie next to each other, the inner loops need no conditions, and a buffer
   fits into the second-level cache. Maps in memory are read and written once.

   The gradients of weight and bias are summed by image, row after row, and then over the images in double precision. So the
   results are the same bits with any number of threads.

   The code is for x86-64 with AVX2 and FMA. With registers twice as wide it was not faster, since memory is the limit. */

#include "depthwise.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#define SHARED_AMONG(threads) _Pragma("omp parallel for schedule(static) num_threads(threads)")
#else
#define SHARED_AMONG(threads) (void)(threads);
#endif

#define WIDE __attribute__((target("avx2,fma")))
#define WIDE_INLINE static inline __attribute__((always_inline, target("avx2,fma")))

#define LANES 8
#define MOST_TAPS 25 /* of a kernel */
#define TOGETHER 4   /* pixels of the gradient of the input that are computed at once */

/* LANES channels of one image in memory; those from `count` on belong to other pixels, or do not exist. */
typedef struct {
    char *first;
    int64_t pixel; /* bytes from a pixel to the next one */
    int64_t height, width;
    int count, bfloat16;
} Slice;

/* The same in a buffer, with `border` zeros on every side. */
typedef struct {
    float *values; /* [border + height + border, row, LANES] */
    int64_t row, border;
} Padded;

int depthwise_runs(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

WIDE_INLINE __m256 load(const char *from, int count, int bfloat16) {
    char part[LANES * sizeof(float)] = {0};
    if (count < LANES) from = memcpy(part, from, (size_t)count * (bfloat16 ? 2 : 4));
    if (!bfloat16) return _mm256_loadu_ps((const float *)from);
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

/* Round to nearest, ties to even; NaN stays NaN. */
WIDE_INLINE __m128i to_bfloat16(__m256 values) {
    const __m256i bits = _mm256_castps_si256(values);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(values, values, _CMP_UNORD_Q));
    const __m256i result = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
}

WIDE_INLINE void store(char *to, __m256 values, int count, int bfloat16) {
    char part[LANES * sizeof(float)], *place = count < LANES ? part : to;
    if (bfloat16)
        _mm_storeu_si128((__m128i *)place, to_bfloat16(values));
    else
        _mm256_storeu_ps((float *)place, values);
    if (count < LANES) memcpy(to, part, (size_t)count * (bfloat16 ? 2 : 4));
}

static float *pixel_of(Padded map, int64_t y, int64_t x) {
    return map.values + ((y + map.border) * map.row + x + map.border) * LANES;
}

static int64_t padded_size(int64_t height, int64_t width, int64_t border) {
    return (height + 2 * border) * (width + 2 * border) * LANES;
}

/* Copy a slice into a buffer whose border is zero. */
WIDE static void fill(Padded map, Slice slice) {
    for (int64_t y = 0; y < slice.height; y++) {
        const char *from = slice.first + y * slice.width * slice.pixel;
        float *to = pixel_of(map, y, 0);
        for (int64_t x = 0; x < slice.width; x++, from += slice.pixel, to += LANES)
            _mm256_storeu_ps(to, load(from, slice.count, slice.bfloat16));
    }
}

/* sums [kernel, kernel, LANES] = the sum of dy times the x that the tap sees, over the pixels of dy */
WIDE_INLINE void sum_products(int kernel, int stride, Padded x, Padded dy, int64_t height, int64_t width, float *sums) {
    memset(sums, 0, sizeof(float) * kernel * kernel * LANES);
    for (int64_t row = 0; row < height; row++)
        for (int tap = 0; tap < kernel; tap++) { /* a row of the kernel */
            const float *seen = pixel_of(x, row * stride + tap - kernel / 2, -(kernel / 2));
            const float *given = pixel_of(dy, row, 0);
            __m256 sum[5] = {{0}};
            for (int64_t column = 0; column < width; column++, seen += stride * LANES, given += LANES) {
                const __m256 gradient = _mm256_loadu_ps(given);
#pragma GCC unroll 5
                for (int i = 0; i < kernel; i++)
                    sum[i] = _mm256_fmadd_ps(gradient, _mm256_loadu_ps(seen + i * LANES), sum[i]);
            }
            float *to = sums + tap * kernel * LANES;
            for (int i = 0; i < kernel; i++)
                _mm256_storeu_ps(to + i * LANES, _mm256_add_ps(_mm256_loadu_ps(to + i * LANES), sum[i]));
        }
}

/* sums [LANES] = the sum of dy over its pixels */
WIDE static void bias_gradient(Padded dy, int64_t height, int64_t width, float *sums) {
    __m256 total = _mm256_setzero_ps();
    for (int64_t row = 0; row < height; row++) {
        const float *given = pixel_of(dy, row, 0);
        __m256 sum = _mm256_setzero_ps();
        for (int64_t column = 0; column < width; column++)
            sum = _mm256_add_ps(sum, _mm256_loadu_ps(given + column * LANES));
        total = _mm256_add_ps(total, sum);
    }
    _mm256_storeu_ps(sums, total);
}

WIDE static void weight_gradient_3(int stride, Padded x, Padded dy, int64_t height, int64_t width, float *sums) {
    sum_products(3, stride, x, dy, height, width, sums);
}

WIDE static void weight_gradient_5(int stride, Padded x, Padded dy, int64_t height, int64_t width, float *sums) {
    sum_products(5, stride, x, dy, height, width, sums);
}

/* A tap of the kernel: its weights, and the first pixel of dy that it takes to a row of dx. */
typedef struct {
    const float *weights, *given;
} Tap;

WIDE_INLINE void gather(const Tap *taps, int count, int64_t at, int pixels, __m256 *sums) {
#pragma GCC unroll 4
    for (int i = 0; i < pixels; i++) sums[i] = _mm256_setzero_ps();
    for (int tap = 0; tap < count; tap++) {
        const __m256 weights = _mm256_loadu_ps(taps[tap].weights);
        const float *given = taps[tap].given + at * LANES;
#pragma GCC unroll 4
        for (int i = 0; i < pixels; i++)
            sums[i] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(given + i * LANES), sums[i]);
    }
}

/* Of the pixels of one row of dx, those at phase, phase + stride, ... see the same taps. */
WIDE static void fill_row(const Tap *taps, int count, Slice dx, int64_t y, int64_t phase, int stride) {
    char *to = dx.first + (y * dx.width + phase) * dx.pixel;
    const int64_t step = stride * dx.pixel, pixels = (dx.width - phase + stride - 1) / stride;
    __m256 sums[TOGETHER];
    int64_t at = 0;
    for (; at + TOGETHER <= pixels; at += TOGETHER) {
        gather(taps, count, at, TOGETHER, sums);
        for (int i = 0; i < TOGETHER; i++) store(to + (at + i) * step, sums[i], dx.count, dx.bfloat16);
    }
    for (; at < pixels; at++) {
        gather(taps, count, at, 1, sums);
        store(to + at * step, sums[0], dx.count, dx.bfloat16);
    }
}

/* dx = the sum over taps of dy, where the tap saw this pixel, times the tap's weight. weights: [kernel, kernel, LANES] */
static void input_gradient(Depthwise layer, const float *weights, Padded dy, Slice dx) {
    const int kernel = layer.kernel, stride = layer.stride, padding = kernel / 2;
    Tap taps[MOST_TAPS];
    for (int64_t y = 0; y < dx.height; y++)
        for (int phase = 0; phase < stride && phase < dx.width; phase++) {
            int count = 0;
            for (int row = (int)((y + padding) % stride); row < kernel; row += stride)
                for (int column = (phase + padding) % stride; column < kernel; column += stride)
                    taps[count++] = (Tap){weights + (row * kernel + column) * LANES,
                                          pixel_of(dy, (y + padding - row) / stride, (phase + padding - column) / stride)};
            fill_row(taps, count, dx, y, phase, stride);
        }
}

static Slice slice_of(Depthwise layer, const void *map, int64_t stride, int64_t image, int64_t channel) {
    const int64_t height = (layer.height + stride - 1) / stride, width = (layer.width + stride - 1) / stride;
    const int64_t size = layer.bfloat16 ? 2 : 4, left = layer.channels - channel;
    char *first = (char *)map + (image * height * width * layer.channels + channel) * size;
    return (Slice){first, layer.channels * size, height, width, left < LANES ? (int)left : LANES, layer.bfloat16};
}

/* sums: [kernel * kernel + 1, LANES], the bias last */
static void do_unit(Depthwise layer, Slice x, Slice dy, Slice dx, const float *weight, float *buffer, float *sums) {
    const int taps = layer.kernel * layer.kernel, border = layer.kernel / 2;
    float weights[MOST_TAPS * LANES] = {0};
    for (int i = 0; i < x.count * taps; i++) weights[i % taps * LANES + i / taps] = weight[i];
    const Padded given = {buffer, dy.width + 2 * border, border};
    const Padded seen = {buffer + padded_size(dy.height, dy.width, border), x.width + 2 * border, border};
    fill(given, dy);
    input_gradient(layer, weights, given, dx);
    fill(seen, x);
    (layer.kernel == 3 ? weight_gradient_3 : weight_gradient_5)(layer.stride, seen, given, dy.height, dy.width, sums);
    bias_gradient(given, dy.height, dy.width, sums + taps * LANES);
}

int depthwise_backward(Depthwise layer, const void *x, const void *dy, const float *weight, int threads, void *dx,
                       float *d_weight, float *d_bias) {
    const int64_t groups = (layer.channels + LANES - 1) / LANES, units = layer.images * groups;
    const int taps = layer.kernel * layer.kernel, border = layer.kernel / 2;
    const int workers = units < threads ? (int)units : threads;
    const Slice seen = slice_of(layer, x, 1, 0, 0), given = slice_of(layer, dy, layer.stride, 0, 0);
    const int64_t size =
        padded_size(seen.height, seen.width, border) + padded_size(given.height, given.width, border);
    const int64_t length = (taps + 1) * LANES; /* of the sums of a unit */
    float *buffers = calloc((size_t)(workers * size), sizeof *buffers); /* borders stay zero */
    float *sums = malloc((size_t)(units * length) * sizeof *sums);
    if (!buffers || !sums) {
        free(buffers), free(sums);
        return 1;
    }
    SHARED_AMONG(workers)
    for (int worker = 0; worker < workers; worker++)
        for (int64_t unit = units * worker / workers; unit < units * (worker + 1) / workers; unit++) {
            const int64_t image = unit / groups, channel = unit % groups * LANES;
            do_unit(layer, slice_of(layer, x, 1, image, channel), slice_of(layer, dy, layer.stride, image, channel),
                    slice_of(layer, dx, 1, image, channel), weight + channel * taps, buffers + worker * size,
                    sums + unit * length);
        }
    for (int64_t channel = 0; channel < layer.channels; channel++)
        for (int tap = 0; tap <= taps; tap++) {
            double sum = 0;
            for (int64_t image = 0; image < layer.images; image++)
                sum += sums[(image * groups + channel / LANES) * length + tap * LANES + channel % LANES];
            *(tap < taps ? &d_weight[channel * taps + tap] : &d_bias[channel]) = (float)sum;
        }
    free(buffers), free(sums);
    return 0;
}

#else

int depthwise_runs(void) { return 0; }

int depthwise_backward(Depthwise layer, const void *x, const void *dy, const float *weight, int threads, void *dx,
                       float *d_weight, float *d_bias) {
    (void)layer, (void)x, (void)dy, (void)weight, (void)threads, (void)dx, (void)d_weight, (void)d_bias;
    return 1;
}

#endif
