/* The CPU's fast path: task-aligned assignment, without torch, over buffers that NumPy shares; and the Python interface of
   suppress.c, norm_silu.c and depthwise.c.

   The assignment equals the definition in losses/assign.py bit for bit. Every argument is checked (dtype, shape,
   contiguity) before it is read; the interpreter's lock is released during the computation. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "clones.h"
#include "depthwise.h"
#include "norm_silu.h"
#include "overlap.h"
#include "suppress.h"

#ifdef _MSC_VER
#pragma fp_contract(off)
#endif

/* Task-aligned assignment ------------------------------------------------------------------------------------------ */

typedef struct {
    float alignment, iou;
    int64_t point;
} Claim;

typedef struct {
    const float *scores, *boxes, *grown, *targets; /* of one image */
    const int64_t *labels;
    const float *points_x, *points_y; /* NaN up to the next multiple of WIDTH */
    int64_t points, classes, objects, top_k;
    int alpha, beta; /* in halves */
} Scene;

/* x to the power of halves / 2: a square root, then squaring, in the same order as losses/assign.py. */
INLINE float power(float x, int halves) {
    float result = halves & 1 ? sqrtf(x) : 1.0f;
    int first = !(halves & 1);
    for (int exponent = halves >> 1; exponent; exponent >>= 1) {
        if (exponent & 1) {
            result = first ? x : MUL(result, x);
            first = 0;
        }
        x = MUL(x, x);
    }
    return result;
}

/* Points are processed in rows of WIDTH; mark the rows that have a point inside the box. */
#define WIDTH 16

CLONES static void mark_rows(const float *x, const float *y, int64_t rows, const float *box, uint8_t *marks) {
    const float x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
    for (int64_t row = 0; row < rows; row++, x += WIDTH, y += WIDTH) {
        int32_t any = 0;
        for (int i = 0; i < WIDTH; i++) any |= (x[i] > x1) & (x[i] < x2) & (y[i] > y1) & (y[i] < y2);
        marks[row] = (uint8_t)any;
    }
}

/* Write the points that one object claims to claims, the best aligned first; return their number. */
static int64_t claim_points(const Scene *scene, int64_t object, const uint8_t *marks, Claim *claims) {
    const float *grown = scene->grown + 4 * object;
    const Box target = read_box(scene->targets + 4 * object);
    const int64_t label = scene->labels[object];
    int64_t count = 0;
    for (int64_t a = 0; a < scene->points; a++) {
        if (!marks[a / WIDTH]) {
            a += WIDTH - 1 - a % WIDTH;
            continue;
        }
        const float x = scene->points_x[a], y = scene->points_y[a];
        if (!(x > grown[0] && x < grown[2] && y > grown[1] && y < grown[3])) continue;
        const Box predicted = read_box(scene->boxes + 4 * a);
        const float intersection = intersection_of(target, predicted);
        const float iou = iou_of(intersection, union_of(target, predicted, intersection));
        const float score = scene->scores[a * scene->classes + label];
        const float alignment = MUL(power(score, scene->alpha), power(iou, scene->beta));
        if (!(alignment > 0.0f && iou >= 0.0f)) continue; /* NaN as well */
        if (count == scene->top_k && !(alignment > claims[count - 1].alignment)) continue;
        int64_t slot = count < scene->top_k ? count++ : count - 1;
        for (; slot > 0 && alignment > claims[slot - 1].alignment; slot--) claims[slot] = claims[slot - 1];
        claims[slot] = (Claim){alignment, iou, a};
    }
    return count;
}

static void assign_image(const Scene *scene, uint8_t *marks, Claim *claims, float *own_iou, int64_t *box_index,
                           float *target_score) {
    for (int64_t a = 0; a < scene->points; a++) {
        own_iou[a] = -1.0f;
        box_index[a] = -1;
        target_score[a] = 0.0f;
    }
    for (int64_t object = 0; object < scene->objects; object++) {
        if (scene->labels[object] < 0 || scene->labels[object] >= scene->classes) continue; /* padding */
        const int64_t rows = (scene->points + WIDTH - 1) / WIDTH;
        mark_rows(scene->points_x, scene->points_y, rows, scene->grown + 4 * object, marks);
        const int64_t count = claim_points(scene, object, marks, claims);
        float best_iou = 0.0f;
        for (int64_t i = 0; i < count; i++) best_iou = larger(best_iou, claims[i].iou);
        for (int64_t i = 0; i < count; i++) {
            const int64_t a = claims[i].point;
            if (!(claims[i].iou > own_iou[a])) continue; /* an earlier object overlaps it as much or more */
            own_iou[a] = claims[i].iou;
            box_index[a] = object;
            target_score[a] = MUL(DIV(claims[i].alignment, larger(claims[0].alignment, 1.17549435e-38f)), best_iou);
        }
    }
}

/* Returns 0, or -1 if memory runs out. */
static int assign_batch(Scene scene, int64_t batch, const float *points, int64_t *box_index, float *target_score) {
    const size_t count = (size_t)scene.points, padded = (count / WIDTH + 1) * WIDTH;
    float *x = malloc(padded * sizeof *x), *y = malloc(padded * sizeof *y);
    float *own_iou = malloc(padded * sizeof *own_iou);
    uint8_t *marks = malloc(padded / WIDTH);
    Claim *claims = malloc((size_t)(scene.top_k + 1) * sizeof *claims);
    const int complete = x && y && own_iou && marks && claims;
    for (size_t a = 0; complete && a < padded; a++) {
        x[a] = a < count ? points[2 * a] : NAN;
        y[a] = a < count ? points[2 * a + 1] : NAN;
    }
    scene.points_x = x;
    scene.points_y = y;
    for (int64_t image = 0; complete && image < batch; image++) {
        assign_image(&scene, marks, claims, own_iou, box_index, target_score);
        scene.scores += scene.points * scene.classes;
        scene.boxes += scene.points * 4;
        scene.grown += scene.objects * 4;
        scene.targets += scene.objects * 4;
        scene.labels += scene.objects;
        box_index += scene.points;
        target_score += scene.points;
    }
    free(x);
    free(y);
    free(own_iou);
    free(marks);
    free(claims);
    return complete ? 0 : -1;
}

/* Python ----------------------------------------------------------------------------------------------------------- */

#define MOST_BUFFERS 9

/* The buffers that a call uses. */
typedef struct {
    Py_buffer views[MOST_BUFFERS];
    int count;
} Buffers;

static void release(Buffers *buffers) {
    while (buffers->count) PyBuffer_Release(&buffers->views[--buffers->count]);
}

/* Take a C-contiguous buffer of float32 ('f'), float32 or float64 ('r'), int16 ('h'), int32 ('i') or int64 ('q') of the
   given shape, in which -1 means any length.
   On failure returns NULL and sets an exception that names the argument. */
static Py_buffer *take(Buffers *buffers, PyObject *object, const char *name, char type, int ndim,
                       const Py_ssize_t *shape, int writable) {
    Py_buffer *view = &buffers->views[buffers->count];
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags)) {
        PyErr_Format(PyExc_ValueError, "%s must be a C-contiguous%s array", name, writable ? ", writable" : "");
        return NULL;
    }
    buffers->count++;
    const char *format = view->format ? view->format : "B";
    const int wide = type == 'r' && view->itemsize == 8;
    const size_t size = type == 'q' || wide ? 8 : type == 'h' ? 2 : 4;
    const char *formats = wide ? "d" : type == 'f' || type == 'r' ? "f" : type == 'h' ? "h" : type == 'i' ? "il" : "ql";
    if (strlen(format) != 1 || !strchr(formats, format[0]) || (size_t)view->itemsize != size) {
        const char *wanted = type == 'f'   ? "float32"
                             : type == 'r' ? "float32 or float64"
                             : type == 'h' ? "int16"
                             : type == 'i' ? "int32"
                                           : "int64";
        PyErr_Format(PyExc_ValueError, "%s must be %s, got format '%s'", name, wanted, format);
        return NULL;
    }
    if ((uintptr_t)view->buf % size) {
        PyErr_Format(PyExc_ValueError, "%s must be aligned to %zu bytes", name, size);
        return NULL;
    }
    if (view->ndim != ndim) {
        PyErr_Format(PyExc_ValueError, "%s must have %d dimensions, got %d", name, ndim, view->ndim);
        return NULL;
    }
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0 || view->shape[i] == shape[i]) continue;
        PyErr_Format(PyExc_ValueError, "%s must have length %zd in dimension %d, got %zd", name, shape[i], i, view->shape[i]);
        return NULL;
    }
    return view;
}

#define SHAPE(...) ((Py_ssize_t[]){__VA_ARGS__})

static PyObject *finish(Buffers *buffers, int failed) {
    release(buffers);
    if (PyErr_Occurred()) return NULL;
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static int is_map(const Py_buffer *x, int threads) {
    if (x->shape[0] < 1 || x->shape[1] < 1 || x->shape[1] > INT32_MAX / 4 || threads < 1) {
        PyErr_SetString(PyExc_ValueError, "x must have at least one row and channel, threads must be at least 1");
        return 0;
    }
    return 1;
}

static PyObject *py_nms_padded(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *boxes, *scores, *labels, *indices, *counts;
    double iou_threshold, score_threshold;
    if (!PyArg_ParseTuple(args, "OOOddOO:nms_padded", &boxes, &scores, &labels, &iou_threshold, &score_threshold,
                          &indices, &counts))
        return NULL;
    Buffers buffers = {.count = 0};
    int failed = 0;
    Py_buffer *score, *box, *label = NULL, *index, *count;
    if ((score = take(&buffers, scores, "scores", 'f', 2, SHAPE(-1, -1), 0)) &&
        (box = take(&buffers, boxes, "boxes", 'r', 3, SHAPE(score->shape[0], score->shape[1], 4), 0)) &&
        (labels == Py_None ||
         (label = take(&buffers, labels, "labels", 'q', 2, SHAPE(score->shape[0], score->shape[1]), 0))) &&
        (index = take(&buffers, indices, "indices", 'q', 2, SHAPE(score->shape[0], -1), 1)) &&
        (count = take(&buffers, counts, "counts", 'i', 1, SHAPE(score->shape[0]), 1))) {
        if (score->shape[1] > INT32_MAX || index->shape[1] > INT32_MAX) {
            PyErr_SetString(PyExc_ValueError, "more than 2147483647 boxes an image");
            return finish(&buffers, 0);
        }
        const int64_t *known = label ? label->buf : NULL;
        const int64_t batch = score->shape[0], total = score->shape[1], most = index->shape[1];
        const float lowest = (float)score_threshold;
        Py_BEGIN_ALLOW_THREADS;
        if (box->itemsize == 8)
            failed = suppress_batch_wide(box->buf, score->buf, known, batch, total, iou_threshold, lowest, most,
                                         index->buf, count->buf);
        else
            failed = suppress_batch(box->buf, score->buf, known, batch, total, (float)iou_threshold, lowest, most,
                                    index->buf, count->buf);
        Py_END_ALLOW_THREADS;
    }
    return finish(&buffers, failed);
}

static PyObject *py_task_aligned(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *scores, *boxes, *points, *grown, *targets, *labels, *box_index, *target_score;
    Py_ssize_t top_k;
    int alpha, beta;
    if (!PyArg_ParseTuple(args, "OOOOOOniiOO:task_aligned", &scores, &boxes, &points, &grown, &targets, &labels, &top_k,
                          &alpha, &beta, &box_index, &target_score))
        return NULL;
    Buffers buffers = {.count = 0};
    int failed = 0;
    Py_buffer *score, *box, *point, *wide, *target, *label, *index, *result;
    if ((score = take(&buffers, scores, "scores", 'f', 3, SHAPE(-1, -1, -1), 0)) &&
        (box = take(&buffers, boxes, "boxes", 'f', 3, SHAPE(score->shape[0], score->shape[1], 4), 0)) &&
        (point = take(&buffers, points, "points", 'f', 2, SHAPE(score->shape[1], 2), 0)) &&
        (label = take(&buffers, labels, "labels", 'q', 2, SHAPE(score->shape[0], -1), 0)) &&
        (wide = take(&buffers, grown, "grown", 'f', 3, SHAPE(score->shape[0], label->shape[1], 4), 0)) &&
        (target = take(&buffers, targets, "targets", 'f', 3, SHAPE(score->shape[0], label->shape[1], 4), 0)) &&
        (index = take(&buffers, box_index, "box_index", 'q', 2, SHAPE(score->shape[0], score->shape[1]), 1)) &&
        (result = take(&buffers, target_score, "target_score", 'f', 2, SHAPE(score->shape[0], score->shape[1]), 1))) {
        const int64_t batch = score->shape[0], points_count = score->shape[1], classes = score->shape[2];
        const int64_t *all_labels = label->buf;
        if (top_k < 1 || alpha < 0 || beta < 0) {
            PyErr_SetString(PyExc_ValueError, "top_k must be at least 1, alpha and beta at least 0");
            return finish(&buffers, 0);
        }
        for (int64_t i = 0; i < batch * label->shape[1]; i++)
            if (all_labels[i] >= classes) {
                PyErr_Format(PyExc_ValueError, "labels must be below %zd, got %lld", score->shape[2],
                             (long long)all_labels[i]);
                return finish(&buffers, 0);
            }
        Scene scene = {score->buf, box->buf, wide->buf, target->buf, all_labels, NULL, NULL, points_count, classes,
                       label->shape[1], top_k < points_count ? top_k : points_count, alpha, beta};
        Py_BEGIN_ALLOW_THREADS;
        failed = assign_batch(scene, batch, point->buf, index->buf, result->buf);
        Py_END_ALLOW_THREADS;
    }
    return finish(&buffers, failed);
}

static PyObject *py_norm_silu_forward(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *x, *weight, *bias, *y, *means, *variances;
    int bfloat16, threads;
    double eps;
    if (!PyArg_ParseTuple(args, "OpOOdiOOO:norm_silu_forward", &x, &bfloat16, &weight, &bias, &eps, &threads, &y, &means,
                          &variances))
        return NULL;
    Buffers buffers = {.count = 0};
    int failed = 0;
    const char type = bfloat16 ? 'h' : 'f';
    Py_buffer *map, *weights, *biases, *result, *mean, *variance;
    if ((map = take(&buffers, x, "x", type, 2, SHAPE(-1, -1), 0)) &&
        (weights = take(&buffers, weight, "weight", 'f', 1, SHAPE(map->shape[1]), 0)) &&
        (biases = take(&buffers, bias, "bias", 'f', 1, SHAPE(map->shape[1]), 0)) &&
        (result = take(&buffers, y, "y", type, 2, SHAPE(map->shape[0], map->shape[1]), 1)) &&
        (mean = take(&buffers, means, "means", 'f', 1, SHAPE(map->shape[1]), 1)) &&
        (variance = take(&buffers, variances, "variances", 'f', 1, SHAPE(map->shape[1]), 1))) {
        if (!is_map(map, threads)) return finish(&buffers, 0);
        Py_BEGIN_ALLOW_THREADS;
        failed = norm_silu_forward((Map){map->buf, map->shape[0], map->shape[1], bfloat16}, weights->buf, biases->buf, eps,
                                   threads, result->buf, mean->buf, variance->buf);
        Py_END_ALLOW_THREADS;
    }
    return finish(&buffers, failed);
}

static PyObject *py_norm_silu_backward(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *x, *dy, *weight, *bias, *means, *variances, *dx, *d_weight, *d_bias;
    int bfloat16, threads;
    double eps;
    if (!PyArg_ParseTuple(args, "OOpOOOOdiOOO:norm_silu_backward", &x, &dy, &bfloat16, &weight, &bias, &means, &variances,
                          &eps, &threads, &dx, &d_weight, &d_bias))
        return NULL;
    Buffers buffers = {.count = 0};
    int failed = 0;
    const char type = bfloat16 ? 'h' : 'f';
    Py_buffer *map, *given, *weights, *biases, *mean, *variance, *result, *of_weight, *of_bias;
    if ((map = take(&buffers, x, "x", type, 2, SHAPE(-1, -1), 0)) &&
        (given = take(&buffers, dy, "dy", type, 2, SHAPE(map->shape[0], map->shape[1]), 0)) &&
        (weights = take(&buffers, weight, "weight", 'f', 1, SHAPE(map->shape[1]), 0)) &&
        (biases = take(&buffers, bias, "bias", 'f', 1, SHAPE(map->shape[1]), 0)) &&
        (mean = take(&buffers, means, "means", 'f', 1, SHAPE(map->shape[1]), 0)) &&
        (variance = take(&buffers, variances, "variances", 'f', 1, SHAPE(map->shape[1]), 0)) &&
        (result = take(&buffers, dx, "dx", type, 2, SHAPE(map->shape[0], map->shape[1]), 1)) &&
        (of_weight = take(&buffers, d_weight, "d_weight", 'f', 1, SHAPE(map->shape[1]), 1)) &&
        (of_bias = take(&buffers, d_bias, "d_bias", 'f', 1, SHAPE(map->shape[1]), 1))) {
        if (!is_map(map, threads)) return finish(&buffers, 0);
        Py_BEGIN_ALLOW_THREADS;
        failed = norm_silu_backward((Map){map->buf, map->shape[0], map->shape[1], bfloat16}, given->buf, weights->buf,
                                    biases->buf, mean->buf, variance->buf, eps, threads, result->buf, of_weight->buf,
                                    of_bias->buf);
        Py_END_ALLOW_THREADS;
    }
    return finish(&buffers, failed);
}

static PyObject *py_depthwise_backward(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *x, *dy, *weight, *dx, *d_weight, *d_bias;
    int bfloat16, stride, threads;
    if (!PyArg_ParseTuple(args, "OOpOiiOOO:depthwise_backward", &x, &dy, &bfloat16, &weight, &stride, &threads, &dx,
                          &d_weight, &d_bias))
        return NULL;
    Buffers buffers = {.count = 0};
    int failed = 0;
    const char type = bfloat16 ? 'h' : 'f';
    if (stride < 1 || stride > 2 || threads < 1 || !depthwise_runs()) {
        PyErr_SetString(PyExc_ValueError,
                        "stride must be 1 or 2, threads must be at least 1, the processor must have AVX2 and FMA");
        return NULL;
    }
    Py_buffer *map, *given, *weights, *result, *of_weight, *of_bias;
    if ((map = take(&buffers, x, "x", type, 4, SHAPE(-1, -1, -1, -1), 0)) &&
        (given = take(&buffers, dy, "dy", type, 4,
                      SHAPE(map->shape[0], (map->shape[1] + stride - 1) / stride, (map->shape[2] + stride - 1) / stride,
                            map->shape[3]),
                      0)) &&
        (weights = take(&buffers, weight, "weight", 'f', 3, SHAPE(map->shape[3], -1, -1), 0)) &&
        (result = take(&buffers, dx, "dx", type, 4,
                       SHAPE(map->shape[0], map->shape[1], map->shape[2], map->shape[3]), 1)) &&
        (of_weight = take(&buffers, d_weight, "d_weight", 'f', 3,
                          SHAPE(map->shape[3], weights->shape[1], weights->shape[2]), 1)) &&
        (of_bias = take(&buffers, d_bias, "d_bias", 'f', 1, SHAPE(map->shape[3]), 1))) {
        const Py_ssize_t kernel = weights->shape[1];
        if ((kernel != 3 && kernel != 5) || weights->shape[2] != kernel || map->len == 0) {
            PyErr_SetString(PyExc_ValueError, "the kernel must be 3x3 or 5x5, and x must not be empty");
            return finish(&buffers, 0);
        }
        const Depthwise layer = {map->shape[0], map->shape[1], map->shape[2], map->shape[3], (int)kernel, stride, bfloat16};
        Py_BEGIN_ALLOW_THREADS;
        failed = depthwise_backward(layer, map->buf, given->buf, weights->buf, threads, result->buf, of_weight->buf,
                                    of_bias->buf);
        Py_END_ALLOW_THREADS;
    }
    return finish(&buffers, failed);
}

static PyMethodDef methods[] = {
    {"depthwise_backward", py_depthwise_backward, METH_VARARGS,
     "depthwise_backward(x, dy, bfloat16, weight, stride, threads, dx, d_weight, d_bias)\n--\n\n"
     "Write the gradients of a depthwise convolution of x [N, H, W, C] into dx, d_weight [C, kernel, kernel], d_bias [C]."},
    {"norm_silu_forward", py_norm_silu_forward, METH_VARARGS,
     "norm_silu_forward(x, bfloat16, weight, bias, eps, threads, y, means, variances)\n--\n\n"
     "Normalise over rows and activate into y; means and variances are those of the rows."},
    {"norm_silu_backward", py_norm_silu_backward, METH_VARARGS,
     "norm_silu_backward(x, dy, bfloat16, weight, bias, means, variances, eps, threads, dx, d_weight, d_bias)\n--\n\n"
     "Write the gradients of norm_silu_forward into dx, d_weight and d_bias."},
    {"nms_padded", py_nms_padded, METH_VARARGS,
     "nms_padded(boxes, scores, labels, iou_threshold, score_threshold, indices, counts)\n--\n\n"
     "Suppress over a batch into indices and counts; boxes are float32, or float64 and computed so. The caller rounds\n"
     "thresholds down to float32, but for the overlap of float64 boxes."},
    {"task_aligned", py_task_aligned, METH_VARARGS,
     "task_aligned(scores, boxes, points, grown, targets, labels, top_k, alpha, beta, box_index, target_score)\n--\n\n"
     "Assign points to the targets of a batch into box_index and target_score; alpha and beta are in halves."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", "Compiled ops for the CPU.", -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
#ifdef _OPENMP
    const int parallel = 1;
#else
    const int parallel = 0;
#endif
    if (module && PyModule_AddIntConstant(module, "PARALLEL", parallel)) Py_CLEAR(module);
    if (module && PyModule_AddIntConstant(module, "DEPTHWISE", depthwise_runs())) Py_CLEAR(module);
    return module;
}
