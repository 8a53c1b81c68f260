// The overlap of every pair of boxes: IoU, GIoU, DIoU or CIoU, with the same operations as yolo_lite/ops/iou.py.
// Each thread owns a column (a box of the second set) and visits ROWS rows. Writing the result takes most of the time.
// This file is compiled twice. With WIDE defined, boxes and angles are float64 (Real in overlap.h); the result is float32.

#include "overlap.h"

#define ROWS 16

enum Kind { IOU, GIOU, DIOU, CIOU };

INLINE Real middle(Real a, Real b) { return MUL(ADD(a, b), 0.5f); }

INLINE Real overlap_of(Box a, Box b, int kind, Real eps, Real angle_a, Real angle_b) {
    const Real intersection = intersection_of(a, b), united = union_of(a, b, intersection);
    const Real iou = iou_of(intersection, united);
    if (kind == IOU) return iou;
    const Real hull_width = SUB(larger(a.x2, b.x2), smaller(a.x1, b.x1));
    const Real hull_height = SUB(larger(a.y2, b.y2), smaller(a.y1, b.y1));
    if (kind == GIOU) {
        const Real hull = MUL(hull_width, hull_height);
        return SUB(iou, hull == 0.0f ? 0.0f : DIV(SUB(hull, united), hull));
    }
    const Real diagonal = ADD(ADD(MUL(hull_width, hull_width), MUL(hull_height, hull_height)), eps);
    const Real x = SUB(middle(a.x1, a.x2), middle(b.x1, b.x2)), y = SUB(middle(a.y1, a.y2), middle(b.y1, b.y2));
    const Real diou = SUB(iou, DIV(ADD(MUL(x, x), MUL(y, y)), diagonal));
    if (kind == DIOU) return diou;
    const Real turn = SUB(angle_a, angle_b);
    const Real v = MUL((Real)0.4052847345693511, MUL(turn, turn));  // 4 / pi^2
    return SUB(diou, MUL(DIV(v, ADD(ADD(SUB(1.0f, iou), v), eps)), v));
}

// boxes1 [B, N, 4], boxes2 [B, M, 4] -> result [B, N, M]. angles1 [B, N] and angles2 [B, M] are atan2(w, h), for CIOU only.
extern "C" __global__ void box_iou(const Real* boxes1, const Real* boxes2, const Real* angles1, const Real* angles2,
                                   float* result, int batch, int rows, int columns, int kind, Real eps) {
    const long long column = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (column >= columns) return;
    for (long long image = blockIdx.z; image < batch; image += gridDim.z) {
        const Box own = read_box(boxes2 + 4 * (image * columns + column));
        const Real angle = kind == CIOU ? angles2[image * columns + column] : 0.0f;
        for (long long first = blockIdx.y * (long long)ROWS; first < rows; first += gridDim.y * (long long)ROWS) {
            const long long last = first + ROWS < rows ? first + ROWS : rows;
            for (long long row = first; row < last; row++) {
                const long long place = image * rows + row;
                const Box other = read_box(boxes1 + 4 * place);
                result[place * columns + column] =
                    (float)overlap_of(other, own, kind, eps, kind == CIOU ? angles1[place] : 0.0f, angle);
            }
        }
    }
}
