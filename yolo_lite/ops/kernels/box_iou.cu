// The overlap of every pair of boxes: IoU, GIoU, DIoU or CIoU, operation for operation as yolo_lite/ops/iou.py has it.
// Each thread owns a column (a box of the second set) and walks ROWS rows; what counts is the writing of the result.

#include "overlap.h"

#define ROWS 16

enum Kind { IOU, GIOU, DIOU, CIOU };

INLINE float middle(float a, float b) { return MUL(ADD(a, b), 0.5f); }

INLINE float overlap_of(Box a, Box b, int kind, float eps, float angle_a, float angle_b) {
    const float intersection = intersection_of(a, b), united = union_of(a, b, intersection);
    const float iou = iou_of(intersection, united);
    if (kind == IOU) return iou;
    const float hull_width = SUB(larger(a.x2, b.x2), smaller(a.x1, b.x1));
    const float hull_height = SUB(larger(a.y2, b.y2), smaller(a.y1, b.y1));
    if (kind == GIOU) {
        const float hull = MUL(hull_width, hull_height);
        return SUB(iou, hull == 0.0f ? 0.0f : DIV(SUB(hull, united), hull));
    }
    const float diagonal = ADD(ADD(MUL(hull_width, hull_width), MUL(hull_height, hull_height)), eps);
    const float x = SUB(middle(a.x1, a.x2), middle(b.x1, b.x2)), y = SUB(middle(a.y1, a.y2), middle(b.y1, b.y2));
    const float diou = SUB(iou, DIV(ADD(MUL(x, x), MUL(y, y)), diagonal));
    if (kind == DIOU) return diou;
    const float turn = SUB(angle_a, angle_b);
    const float v = MUL(0.4052847345693511f, MUL(turn, turn));  // 4 / pi^2
    return SUB(diou, MUL(DIV(v, ADD(ADD(SUB(1.0f, iou), v), eps)), v));
}

// boxes1 [B, N, 4], boxes2 [B, M, 4] -> result [B, N, M]. angles1 [B, N], angles2 [B, M]: atan2(w, h), for CIOU only.
extern "C" __global__ void box_iou(const float* boxes1, const float* boxes2, const float* angles1, const float* angles2,
                                   float* result, int batch, int rows, int columns, int kind, float eps) {
    const long long column = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (column >= columns) return;
    for (long long picture = blockIdx.z; picture < batch; picture += gridDim.z) {
        const Box own = read_box(boxes2 + 4 * (picture * columns + column));
        const float angle = kind == CIOU ? angles2[picture * columns + column] : 0.0f;
        for (long long first = blockIdx.y * (long long)ROWS; first < rows; first += gridDim.y * (long long)ROWS) {
            const long long last = first + ROWS < rows ? first + ROWS : rows;
            for (long long row = first; row < last; row++) {
                const long long place = picture * rows + row;
                const Box other = read_box(boxes1 + 4 * place);
                result[place * columns + column] =
                    overlap_of(other, own, kind, eps, kind == CIOU ? angles1[place] : 0.0f, angle);
            }
        }
    }
}
