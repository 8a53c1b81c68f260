/* The arithmetic of two boxes that every compiled backend shares: the CUDA kernels and the C extension include this file.

   Each operation is rounded by itself, to nearest, in float32, as torch's are, so the compiler must not contract a
   product and a sum into one: on CUDA the intrinsics forbid it, in C the option -ffp-contract=off does. */

#ifndef YOLO_LITE_OVERLAP_H
#define YOLO_LITE_OVERLAP_H

#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define ADD(a, b) __fadd_rn(a, b)
#define SUB(a, b) __fsub_rn(a, b)
#define MUL(a, b) __fmul_rn(a, b)
#define DIV(a, b) __fdiv_rn(a, b)
#else
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline)) /* into functions that are compiled for several processors too */
#else
#define INLINE static inline
#endif
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#endif

typedef struct {
    float x1, y1, x2, y2, area;
} Box;

INLINE float smaller(float a, float b) { return a < b ? a : b; }
INLINE float larger(float a, float b) { return a > b ? a : b; }
INLINE float at_least_zero(float a) { return a < 0.0f ? 0.0f : a; } /* NaN stays NaN */

INLINE Box read_box(const float *corners) {
    Box box;
    box.x1 = corners[0];
    box.y1 = corners[1];
    box.x2 = corners[2];
    box.y2 = corners[3];
    box.area = MUL(SUB(box.x2, box.x1), SUB(box.y2, box.y1));
    return box;
}

/* A NaN coordinate is lost here but not in the area, so that every quotient by the union is still NaN. */
INLINE float intersection_of(Box a, Box b) {
    float width = at_least_zero(SUB(smaller(a.x2, b.x2), larger(a.x1, b.x1)));
    float height = at_least_zero(SUB(smaller(a.y2, b.y2), larger(a.y1, b.y1)));
    return MUL(width, height);
}

INLINE float union_of(Box a, Box b, float intersection) { return SUB(ADD(a.area, b.area), intersection); }

/* IoU; 0 where the union is empty. */
INLINE float iou_of(float intersection, float united) { return united == 0.0f ? 0.0f : DIV(intersection, united); }

/* Whether fl(intersection / union) > threshold can be, for a threshold of at least 0, without the division. Rounding
   keeps order, so a quotient above the threshold has intersection >= fl(threshold * union), whatever underflows. */
INLINE int may_exceed(float intersection, float united, float threshold) {
    return (intersection > 0.0f) & (intersection >= MUL(threshold, united));
}

/* Whether a box rules out another of its label: fl(intersection / union) > threshold, false for NaN. */
INLINE int rules_out(Box a, Box b, float threshold) {
    float intersection = intersection_of(a, b);
    float united = union_of(a, b, intersection);
    return may_exceed(intersection, united, threshold) && DIV(intersection, united) > threshold;
}

#endif
