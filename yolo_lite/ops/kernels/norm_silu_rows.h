/* The passes of norm_silu.c over one block of rows, for one element type: included once for each.

   The including file defines ELEMENT, the type in memory; LOAD(value) and STORE(value), which convert from it to float and
   back; and NAME(name), which gives the functions of each type different names. A row is a run of `width` elements: all
   channels of one or of several neighbouring pixels, with the parameters of channels repeated to match, so that the inner
   loops are long. The last row of a block may be shorter. PIECES runs through rows in pieces of at most PIECE elements,
   which are converted to float before anything is computed, so that the narrow type uses the widest registers, too. */

#define PIECES(body)                                                                          \
    for (int64_t start = 0; start < count; start += width) {                                  \
        const int length = count - start < width ? (int)(count - start) : width;              \
        for (int at = 0; at < length; at += PIECE) {                                          \
            const int size = length - at < PIECE ? length - at : PIECE;                       \
            body                                                                              \
        }                                                                                     \
    }

CLONES static void NAME(sum_rows)(const ELEMENT *restrict x, int64_t count, int width, float *restrict sums) {
    for (int j = 0; j < width; j++) sums[j] = 0;
    PIECES({
        const ELEMENT *restrict row = x + start + at;
        float *restrict sum = sums + at;
        for (int j = 0; j < size; j++) sum[j] += LOAD(row[j]);
    })
}

CLONES static void NAME(sum_squares)(const ELEMENT *restrict x, int64_t count, int width, const float *restrict means,
                                     float *restrict sums) {
    for (int j = 0; j < width; j++) sums[j] = 0;
    PIECES({
        const ELEMENT *restrict row = x + start + at;
        const float *restrict mean = means + at;
        float *restrict sum = sums + at;
        for (int j = 0; j < size; j++) {
            const float difference = LOAD(row[j]) - mean[j];
            sum[j] += difference * difference;
        }
    })
}

/* y = z * sigmoid(z), z = x * scale + shift */
CLONES static void NAME(activate)(const ELEMENT *restrict x, int64_t count, int width, const float *restrict scales,
                                  const float *restrict shifts, ELEMENT *restrict y) {
    float value[PIECE];
    PIECES({
        const ELEMENT *restrict row = x + start + at;
        const float *restrict scale = scales + at;
        const float *restrict shift = shifts + at;
        ELEMENT *restrict result = y + start + at;
        for (int j = 0; j < size; j++) value[j] = LOAD(row[j]);
        for (int j = 0; j < size; j++) {
            const float z = value[j] * scale[j] + shift[j];
            value[j] = z * sigmoid(z);
        }
        for (int j = 0; j < size; j++) result[j] = STORE(value[j]);
    })
}

/* dz, the gradient with respect to z, and its sums over the rows, plain and times the normalised x. */
CLONES static void NAME(slopes)(const ELEMENT *restrict x, const ELEMENT *restrict dy, int64_t count, int width,
                                const float *restrict scales, const float *restrict shifts, const float *restrict means,
                                const float *restrict inverses, float *restrict plain_sums, float *restrict x_sums,
                                ELEMENT *restrict dz) {
    float value[PIECE], slope[PIECE];
    for (int j = 0; j < width; j++) plain_sums[j] = x_sums[j] = 0;
    PIECES({
        const ELEMENT *restrict row = x + start + at;
        const ELEMENT *restrict gradient = dy + start + at;
        const float *restrict scale = scales + at;
        const float *restrict shift = shifts + at;
        const float *restrict mean = means + at;
        const float *restrict inverse = inverses + at;
        float *restrict plain = plain_sums + at;
        float *restrict times_x = x_sums + at;
        ELEMENT *restrict result = dz + start + at;
        for (int j = 0; j < size; j++) value[j] = LOAD(row[j]);
        for (int j = 0; j < size; j++) slope[j] = LOAD(gradient[j]);
        for (int j = 0; j < size; j++) {
            slope[j] *= silu_slope(value[j] * scale[j] + shift[j]);
            plain[j] += slope[j];
            times_x[j] += slope[j] * ((value[j] - mean[j]) * inverse[j]);
        }
        for (int j = 0; j < size; j++) result[j] = STORE(slope[j]);
    })
}

/* dx = scale * dz + x * along + offset, in the place of dz */
CLONES static void NAME(gradients)(const ELEMENT *restrict x, int64_t count, int width, const float *restrict scales,
                                   const float *restrict alongs, const float *restrict offsets, ELEMENT *restrict dz) {
    PIECES({
        const ELEMENT *restrict row = x + start + at;
        const float *restrict scale = scales + at;
        const float *restrict along = alongs + at;
        const float *restrict offset = offsets + at;
        ELEMENT *restrict result = dz + start + at;
        for (int j = 0; j < size; j++)
            result[j] = STORE(scale[j] * LOAD(result[j]) + LOAD(row[j]) * along[j] + offset[j]);
    })
}

#undef PIECES
