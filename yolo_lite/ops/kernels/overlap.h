/* The overlap of two boxes: the CUDA kernels and the C extension include this file.

   Each operation is rounded separately, to nearest, in float32, as in torch. Therefore the compiler must not fuse a product
   and a sum: on CUDA the intrinsics prevent it, in C the option -ffp-contract=off does.

   With WIDE defined everything is float64, for boxes whose coordinates do not fit into float32. */

#ifndef YOLO_LITE_OVERLAP_H
#define YOLO_LITE_OVERLAP_H

#ifdef WIDE
typedef double Real;
#define ROUNDED(operation) __d##operation##_rn
#else
typedef float Real;
#define ROUNDED(operation) __f##operation##_rn
#endif

#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define ADD(a, b) ROUNDED(add)(a, b)
#define SUB(a, b) ROUNDED(sub)(a, b)
#define MUL(a, b) ROUNDED(mul)(a, b)
#define DIV(a, b) ROUNDED(div)(a, b)
#else
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline)) /* even into functions that are compiled for several CPUs */
#else
#define INLINE static inline
#endif
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#endif

typedef struct {
    Real x1, y1, x2, y2, area;
} Box;

INLINE Real smaller(Real a, Real b) { return a < b ? a : b; }
INLINE Real larger(Real a, Real b) { return a > b ? a : b; }
INLINE Real at_least_zero(Real a) { return a < 0.0f ? 0.0f : a; } /* NaN stays NaN */

INLINE Box read_box(const Real *corners) {
    Box box;
    box.x1 = corners[0];
    box.y1 = corners[1];
    box.x2 = corners[2];
    box.y2 = corners[3];
    box.area = MUL(SUB(box.x2, box.x1), SUB(box.y2, box.y1));
    return box;
}

/* A NaN coordinate may be lost here but not in the area, so every quotient by the union is still NaN. */
INLINE Real intersection_of(Box a, Box b) {
    Real width = at_least_zero(SUB(smaller(a.x2, b.x2), larger(a.x1, b.x1)));
    Real height = at_least_zero(SUB(smaller(a.y2, b.y2), larger(a.y1, b.y1)));
    return MUL(width, height);
}

INLINE Real union_of(Box a, Box b, Real intersection) { return SUB(ADD(a.area, b.area), intersection); }

/* IoU; 0 if the union is empty. */
INLINE Real iou_of(Real intersection, Real united) { return united == 0.0f ? 0.0f : DIV(intersection, united); }

/* Whether fl(intersection / union) > threshold is possible, for a threshold of at least 0, without a division. Rounding
   keeps the order of numbers, so a quotient above the threshold has intersection >= fl(threshold * union), even if
   something underflows. */
INLINE int may_exceed(Real intersection, Real united, Real threshold) {
    return (intersection > 0.0f) & (intersection >= MUL(threshold, united));
}

/* Whether a box suppresses another one of its label: fl(intersection / union) > threshold, false for NaN. */
INLINE int rules_out(Box a, Box b, Real threshold) {
    Real intersection = intersection_of(a, b);
    Real united = union_of(a, b, intersection);
    return may_exceed(intersection, united, threshold) && DIV(intersection, united) > threshold;
}

#endif
