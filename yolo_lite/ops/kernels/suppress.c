/* Suppression on the CPU, with exactly the results of the definition in nms_torch.py. suppress_wide.c compiles this file a
   second time, for boxes of float64. */

#include "suppress.h"

#include <stdlib.h>
#include <string.h>

#include "clones.h"
#include "overlap.h"

#ifdef _MSC_VER
#pragma fp_contract(off)
#endif

#ifdef WIDE
#define suppress_batch suppress_batch_wide
#endif

#define CHUNK 16 /* kept boxes that are tested together: the widest registers hold this many float32 */

typedef struct {
    uint32_t key, index;
} Candidate; /* keys ascend as scores descend */

/* Kept boxes of one label; unused slots hold boxes without area, which suppress nothing. */
typedef struct {
    Real x1[CHUNK], y1[CHUNK], x2[CHUNK], y2[CHUNK], area[CHUNK];
    int32_t used, next; /* next: the previous chunk of the same label, or -1 */
} Chunk;

typedef struct {
    int64_t label;
    int32_t chunk; /* the newest of this label, or -1 if the slot is free */
} Slot;

/* The kept boxes of one image, in chunks; a hash table with open addressing leads from a label to its chunks. */
typedef struct {
    Chunk *chunks;
    Slot *slots;
    int slots_log2;
} Kept;

/* Sort by key in four passes of eight bits; equal keys keep their order. Returns the array with the result, a or b. */
static Candidate *sort_candidates(Candidate *a, Candidate *b, size_t count) {
    uint32_t counts[4][256];
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < count; i++)
        for (int pass = 0; pass < 4; pass++) counts[pass][a[i].key >> 8 * pass & 255]++;
    for (int pass = 0; pass < 4; pass++) {
        if (count && counts[pass][a[0].key >> 8 * pass & 255] == count) continue; /* all digits are equal */
        uint32_t sum = 0;
        for (int digit = 0; digit < 256; digit++) {
            uint32_t here = counts[pass][digit];
            counts[pass][digit] = sum;
            sum += here;
        }
        for (size_t i = 0; i < count; i++) b[counts[pass][a[i].key >> 8 * pass & 255]++] = a[i];
        Candidate *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

static size_t collect_candidates(const float *scores, int64_t total, float score_threshold, Candidate *candidates) {
    size_t count = 0;
    for (int64_t i = 0; i < total; i++) {
        float score = scores[i] + 0.0f; /* turns -0 into 0 */
        uint32_t bits;
        memcpy(&bits, &score, sizeof bits);
        candidates[count].key = bits >> 31 ? bits : bits ^ 0x7fffffffu;
        candidates[count].index = (uint32_t)i;
        count += score > score_threshold; /* false for NaN */
    }
    return count;
}

/* Return the slot of a label, or the free slot where it belongs. */
static inline Slot *find_slot(const Kept *kept, int64_t label) {
    const uint64_t last = ((uint64_t)1 << kept->slots_log2) - 1;
    uint64_t place = (uint64_t)label * 0x9e3779b97f4a7c15u >> (64 - kept->slots_log2);
    while (kept->slots[place].chunk >= 0 && kept->slots[place].label != label) place = (place + 1) & last;
    return &kept->slots[place];
}

INLINE Box box_in(const Chunk *chunk, int i) {
    Box box = {chunk->x1[i], chunk->y1[i], chunk->x2[i], chunk->y2[i], chunk->area[i]};
    return box;
}

/* Whether a box of the chunk suppresses this box. The first loop, without a division, is vectorised; few boxes pass it. */
INLINE int chunk_rules_out(const Chunk *chunk, Box box, Real threshold) {
    int any = 0;
    for (int i = 0; i < CHUNK; i++) {
        const Real intersection = intersection_of(box_in(chunk, i), box);
        any |= may_exceed(intersection, union_of(box_in(chunk, i), box, intersection), threshold);
    }
    for (int i = 0; any && i < chunk->used; i++)
        if (rules_out(box_in(chunk, i), box, threshold)) return 1;
    return 0;
}

/* Visit the candidates in order and write the positions of the kept ones; return their number. */
CLONES static int64_t suppress(const Real *boxes, const int64_t *labels, const Candidate *candidates, size_t count,
                               Real threshold, int64_t most, const Kept *kept, int64_t *indices) {
    int64_t found = 0;
    int32_t chunks = 0;
    for (size_t c = 0; c < count && found < most; c++) {
        const int64_t place = candidates[c].index;
        const int64_t label = labels ? labels[place] : 0;
        const Box box = read_box(boxes + 4 * place);
        Slot *slot = find_slot(kept, label);
        int ruled_out = 0;
        for (int32_t k = slot->chunk; k >= 0 && !ruled_out; k = kept->chunks[k].next)
            ruled_out = chunk_rules_out(&kept->chunks[k], box, threshold);
        if (ruled_out) continue;
        if (slot->chunk < 0 || kept->chunks[slot->chunk].used == CHUNK) {
            Chunk *fresh = &kept->chunks[chunks];
            memset(fresh, 0, sizeof *fresh);
            fresh->next = slot->chunk;
            slot->label = label;
            slot->chunk = chunks++;
        }
        Chunk *chunk = &kept->chunks[slot->chunk];
        const int i = chunk->used++;
        chunk->x1[i] = box.x1;
        chunk->y1[i] = box.y1;
        chunk->x2[i] = box.x2;
        chunk->y2[i] = box.y2;
        chunk->area[i] = box.area;
        indices[found++] = place;
    }
    return found;
}

int suppress_batch(const Real *boxes, const float *scores, const int64_t *labels, int64_t batch, int64_t total,
                   Real iou_threshold, float score_threshold, int64_t most, int64_t *indices, int32_t *counts) {
    const size_t room = (size_t)(most < total ? most : total); /* the most labels and chunks that are possible */
    Kept kept = {NULL, NULL, 1};
    while ((size_t)1 << kept.slots_log2 < 2 * room) kept.slots_log2++;
    const size_t slots = (size_t)1 << kept.slots_log2;
    Candidate *candidates = malloc(2 * (size_t)(total + 1) * sizeof *candidates);
    kept.chunks = malloc((room + 1) * sizeof *kept.chunks);
    kept.slots = malloc(slots * sizeof *kept.slots);
    const int complete = candidates && kept.chunks && kept.slots;
    for (int64_t image = 0; complete && image < batch; image++) {
        const size_t count = collect_candidates(scores + image * total, total, score_threshold, candidates);
        const Candidate *sorted = sort_candidates(candidates, candidates + total + 1, count);
        for (size_t i = 0; i < slots; i++) kept.slots[i].chunk = -1;
        int64_t *own = indices + image * most;
        const int64_t found = suppress(boxes + image * total * 4, labels ? labels + image * total : NULL, sorted,
                                       count, iou_threshold, most, &kept, own);
        for (int64_t i = found; i < most; i++) own[i] = -1;
        counts[image] = (int32_t)found;
    }
    free(candidates);
    free(kept.chunks);
    free(kept.slots);
    return complete ? 0 : -1;
}
