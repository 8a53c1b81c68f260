// Non-maximum suppression of a whole batch in one launch: one CTA for each image, exact and greedy.
//
// The boxes arrive in order of score and are visited in blocks of 64. Every box of a block is tested against the boxes kept
// so far and against the block's other boxes; then each thread computes which boxes of the block survive.
// This file is compiled twice. With WIDE defined, boxes and overlaps are float64 (Real in overlap.h).

#include "overlap.h"

#define BLOCK 64
#define KEPT_WORDS (long long)((5 * sizeof(Real) + 15) / 8)  // of 8 bytes, in a kept box: five numbers and a label

// Compute the sort keys: the score of a candidate, -infinity for all others. Adding 0 turns -0 into 0.
extern "C" __global__ void nms_keys(const float* scores, float* keys, long long total, float score_threshold) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < total) keys[i] = scores[i] > score_threshold ? scores[i] + 0.0f : -__int_as_float(0x7f800000);
}

// The boxes kept so far, one array for each member, in shared memory or, if there are too many, in global memory.
struct Kept {
    Real *x1, *y1, *x2, *y2, *area;
    long long* label;
};

INLINE Kept lay_out(void* memory, int room) {
    Kept kept;
    kept.label = (long long*)memory;
    kept.x1 = (Real*)(kept.label + room);
    kept.y1 = kept.x1 + room;
    kept.x2 = kept.y1 + room;
    kept.y2 = kept.x2 + room;
    kept.area = kept.y2 + room;
    return kept;
}

// boxes [B, N, 4]; labels [B, N] or null; keys [B, N] in descending order and order [B, N], their former positions;
// indices [B, most], counts [B]. kept has room for the smaller of most and N. blockDim.x is a multiple of 64.
INLINE void suppress(const Real* boxes, const long long* labels, const float* keys, const long long* order,
                     long long* indices, int* counts, int total, int most, Real iou_threshold, Kept kept) {
    __shared__ Box block[BLOCK];
    __shared__ long long block_label[BLOCK], block_index[BLOCK];
    __shared__ unsigned long long ruled_out, later[BLOCK];  // bit j of later[i]: box i of the block suppresses box j > i
    __shared__ int candidates;

    const long long image = blockIdx.x;
    boxes += image * total * 4;
    keys += image * total;
    order += image * total;
    indices += image * most;
    if (labels) labels += image * total;
    const int mine = threadIdx.x % BLOCK, group = threadIdx.x / BLOCK, groups = blockDim.x / BLOCK;
    int count = 0;

    for (int start = 0; start < total && count < most; start += BLOCK) {
        if (group == 0) {
            const int place = start + mine;
            const bool candidate = place < total && keys[place] > -__int_as_float(0x7f800000);
            if (candidate) {
                const long long index = order[place];
                block[mine] = read_box(boxes + 4 * index);
                block_label[mine] = labels ? labels[index] : 0;
                block_index[mine] = index;
                if (mine == BLOCK - 1 || place + 1 == total || !(keys[place + 1] > -__int_as_float(0x7f800000)))
                    candidates = mine + 1;  // this is the last candidate, since the keys are sorted
            } else if (mine == 0) {
                candidates = 0;
            }
            later[mine] = 0;
            if (mine == 0) ruled_out = 0;
        }
        __syncthreads();
        const int here = candidates;
        if (here == 0) break;
        if (mine < here) {
            const Box own = block[mine];
            const long long label = block_label[mine];
            for (int k = group; k < count; k += groups) {
                if (kept.label[k] != label) continue;
                const Box other = {kept.x1[k], kept.y1[k], kept.x2[k], kept.y2[k], kept.area[k]};
                if (rules_out(other, own, iou_threshold)) {
                    atomicOr(&ruled_out, 1ull << mine);
                    break;
                }
            }
            unsigned long long mask = 0;
            for (int j = group; j < here; j += groups)
                if (j > mine && block_label[j] == label && rules_out(own, block[j], iou_threshold)) mask |= 1ull << j;
            if (mask) atomicOr(&later[mine], mask);
        }
        __syncthreads();
        unsigned long long alive = (here == BLOCK ? ~0ull : (1ull << here) - 1) & ~ruled_out, keep = 0;
        int found = 0;
        while (alive && count + found < most) {
            const int first = __ffsll((long long)alive) - 1;
            keep |= 1ull << first;
            alive &= ~(later[first] | 1ull << first);
            found++;
        }
        if (group == 0 && keep >> mine & 1) {
            const int slot = count + __popcll(keep & ((1ull << mine) - 1));
            const Box own = block[mine];
            kept.x1[slot] = own.x1;
            kept.y1[slot] = own.y1;
            kept.x2[slot] = own.x2;
            kept.y2[slot] = own.y2;
            kept.area[slot] = own.area;
            kept.label[slot] = block_label[mine];
            indices[slot] = block_index[mine];
        }
        count += found;
        __syncthreads();
    }
    for (int slot = count + threadIdx.x; slot < most; slot += blockDim.x) indices[slot] = -1;
    if (threadIdx.x == 0) counts[image] = count;
}

extern "C" __global__ void __launch_bounds__(512)
    nms_shared(const Real* boxes, const long long* labels, const float* keys, const long long* order,
               long long* indices, int* counts, int total, int most, Real iou_threshold, int room) {
    extern __shared__ long long memory[];
    suppress(boxes, labels, keys, order, indices, counts, total, most, iou_threshold, lay_out(memory, room));
}

// The same for more boxes than shared memory holds: scratch is [B, room, KEPT_WORDS] of 8 bytes.
extern "C" __global__ void __launch_bounds__(512)
    nms_global(const Real* boxes, const long long* labels, const float* keys, const long long* order,
               long long* indices, int* counts, int total, int most, Real iou_threshold, int room,
               long long* scratch) {
    suppress(boxes, labels, keys, order, indices, counts, total, most, iou_threshold,
             lay_out(scratch + blockIdx.x * KEPT_WORDS * room, room));
}
