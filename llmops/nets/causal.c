/* The steps of a network between its matrix products, forward and backward, float32: a causal one's, and dropout.

   Compiled on the machine that trains (nets/kernels.py); each is checked against torch by a test. Threads share the
   work in fixed portions and never add into the same number, so results don't depend on their number. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TILE 32 /* queries that are attended at once */

/* exp(x) for x <= 88, relative error below 2e-7: x = n ln 2 + r, 2^n by its bits, e^r by a polynomial (Cephes). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    union { int32_t bits; float value; } two = {((int32_t)n + 127) << 23};
    return (p * r * r + r + 1.0f) * two.value;
}

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* exp(x[j] + shift) in place for `columns` numbers, a multiple of LANES; returns their sum. */
static inline float exponentials(float *x, float shift, long columns) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j < columns; j++) {
        float value = x[j] + shift;
        value = value < -87.0f ? 0.0f : exponential(value);
        x[j] = value;
        sum += value;
    }
    return sum;
}

static inline float highest(const float *x, long columns) {
    float high = -INFINITY;
#pragma omp simd reduction(max : high)
    for (long j = 0; j < columns; j++) high = x[j] > high ? x[j] : high;
    return high;
}

/* A query sees `many` of `columns` keys: the scores of the others become the lowest there are. */
static inline void hide(float *x, long many, long columns) {
    for (long j = many; j < columns; j++) x[j] = -INFINITY;
}

/* y = x / rms(x) * weight; scale[t] = 1 / rms. */
void norm_forward(long tokens, long width, float epsilon, const float *x, const float *weight, float *y, float *scale) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const float *in = x + t * width;
        float *out = y + t * width, sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < width; i++) sum += in[i] * in[i];
        float s = 1.0f / sqrtf(sum / (float)width + epsilon);
        scale[t] = s;
#pragma omp simd
        for (long i = 0; i < width; i++) out[i] = in[i] * s * weight[i];
    }
}

/* grad_x, and the gradient of the weight in `parts` rows that are still to be summed: [parts, width]. */
void norm_backward(long tokens, long width, long parts, const float *grad, const float *x, const float *weight,
                   const float *scale, float *grad_x, float *grad_weight) {
#pragma omp parallel for schedule(static)
    for (long part = 0; part < parts; part++) {
        float *sums = grad_weight + part * width;
        memset(sums, 0, width * sizeof(float));
        for (long t = tokens * part / parts; t < tokens * (part + 1) / parts; t++) {
            const float *g = grad + t * width, *in = x + t * width;
            float *out = grad_x + t * width, s = scale[t], inner = 0.0f;
#pragma omp simd reduction(+ : inner)
            for (long i = 0; i < width; i++) {
                float along = g[i] * in[i] * s;
                sums[i] += along;
                inner += along * weight[i];
            }
            inner *= s / (float)width;
#pragma omp simd
            for (long i = 0; i < width; i++) out[i] = s * (g[i] * weight[i] - in[i] * inner);
        }
    }
}

/* both [tokens, 2 * inner] holds gate and up: out = silu(gate) * up. */
void swiglu_forward(long tokens, long inner, const float *both, float *out) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const float *gate = both + 2 * t * inner, *up = gate + inner;
        float *to = out + t * inner;
#pragma omp simd
        for (long i = 0; i < inner; i++) to[i] = gate[i] * up[i] / (1.0f + exponential(-gate[i]));
    }
}

void swiglu_backward(long tokens, long inner, const float *grad, const float *both, float *grad_both) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < tokens; t++) {
        const float *gate = both + 2 * t * inner, *up = gate + inner, *g = grad + t * inner;
        float *to_gate = grad_both + 2 * t * inner, *to_up = to_gate + inner;
#pragma omp simd
        for (long i = 0; i < inner; i++) {
            float share = 1.0f / (1.0f + exponential(-gate[i])), curve = gate[i] * share;
            to_up[i] = g[i] * curve;
            to_gate[i] = g[i] * up[i] * (share + curve * (1.0f - share));
        }
    }
}

/* 32 bits that look random, from a number (Mueller's search for short hashes of low bias, 2018). */
static inline uint32_t scrambled(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* y[i] = x[i] * scale where the bits that belong to seed and i are at least `below`, else 0. The same seed drops the same
   numbers of a gradient, so there is no mask to keep. */
void dropout(long many, long seed, long below, float scale, const float *x, float *y) {
    uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32), least = (uint32_t)below;
#pragma omp parallel for simd schedule(static)
    for (long i = 0; i < many; i++) y[i] = scrambled(scrambled((uint32_t)i ^ low) + high) >= least ? x[i] * scale : 0.0f;
}

#define ROWS 8 /* sums that are held in registers at once */

/* to[i][j] = sum over k of a[i][k] * b[k][j] for TILE rows of a and `columns` columns, a multiple of 16. */
static void product(long depth, long columns, const float *a, long stride_a, const float *b, long stride_b, float *to,
                    long stride_to) {
    for (long j = 0; j < columns; j += 16)
        for (long i = 0; i < TILE; i += ROWS) {
            lanes sums[ROWS];
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) sums[r] = (lanes){0.0f};
            for (long k = 0; k < depth; k++) {
                lanes right = *(const lanes *)(b + k * stride_b + j);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; r++) sums[r] += a[(i + r) * stride_a + k] * right;
            }
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) *(lanes *)(to + (i + r) * stride_to + j) = sums[r];
        }
}

/* to[j][d] += sum over the TILE rows i of a[i][j] * b[i][d], for `rows` rows of `to`, a multiple of 8, and `size`
   columns, a multiple of 16. */
static void product_onto(long rows, long size, const float *a, long stride_a, const float *b, float *to) {
    for (long d = 0; d < size; d += 16)
        for (long j = 0; j < rows; j += ROWS) {
            lanes sums[ROWS];
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) sums[r] = *(lanes *)(to + (j + r) * size + d);
            for (long i = 0; i < TILE; i++) {
                lanes right = *(const lanes *)(b + i * size + d);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; r++) sums[r] += a[i * stride_a + j + r] * right;
            }
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) *(lanes *)(to + (j + r) * size + d) = sums[r];
        }
}

#define AHEAD 12 /* rows; those of one head lie so far apart that the processor doesn't foresee them */

/* One head's numbers out of the mixed matrix, turned by their positions unless cosine is NULL: to [padded, size]. */
static void gather(long length, long size, long stride, const float *from, const float *cosine, const float *sine,
                   float factor, float *to) {
    long half = size / 2;
    for (long t = 0; t < length; t++) {
        const float *in = from + t * stride;
        float *out = to + t * size;
        if (t + AHEAD < length)
            for (long i = 0; i < size; i += LANES) __builtin_prefetch(in + AHEAD * stride + i);
        if (!cosine) {
            for (long i = 0; i < size; i += LANES) *(lanes *)(out + i) = *(const lanes *)(in + i);
            continue;
        }
#pragma omp simd
        for (long i = 0; i < half; i++) {
            float c = cosine[t * half + i] * factor, s = sine[t * half + i] * factor;
            out[i] = in[i] * c - in[half + i] * s;
            out[half + i] = in[half + i] * c + in[i] * s;
        }
    }
}

/* The reverse, for gradients. */
static void scatter(long length, long size, long stride, const float *from, const float *cosine, const float *sine,
                    float factor, float *to) {
    long half = size / 2;
    for (long t = 0; t < length; t++) {
        const float *in = from + t * size;
        float *out = to + t * stride;
        if (!cosine) {
            memcpy(out, in, size * sizeof(float));
            continue;
        }
#pragma omp simd
        for (long i = 0; i < half; i++) {
            float c = cosine[t * half + i] * factor, s = sine[t * half + i] * factor;
            out[i] = in[i] * c + in[half + i] * s;
            out[half + i] = in[half + i] * c - in[i] * s;
        }
    }
}

/* from [rows, columns] -> to [columns, rows + LANES]: lines that lie a power of two apart would share cache places. */
static void transpose(long rows, long columns, const float *from, float *to) {
    for (long i = 0; i < rows; i += LANES)
        for (long j = 0; j < columns; j++) {
            float *line = to + j * (rows + LANES) + i;
#pragma GCC unroll 16
            for (int c = 0; c < LANES; c++) line[c] = from[(i + c) * columns + j];
        }
}

static float *room(long numbers) {
    void *found = NULL;
    if (posix_memalign(&found, 64, numbers * sizeof(float))) abort();
    memset(found, 0, numbers * sizeof(float));
    return found;
}

/* Causal attention within rows. mixed [rows * length, (heads + 2 * kv_heads) * size] holds queries, keys and values;
   cosine, sine [length, size / 2]; seen [rows * length, heads * size]; sums [rows, heads, length] keeps the logarithm
   of each query's sum. size is a multiple of 16. */
void attention_forward(long rows, long length, long heads, long kv_heads, long size, const float *mixed,
                       const float *cosine, const float *sine, float *seen, float *sums) {
    long shared = heads / kv_heads, padded = (length + TILE - 1) / TILE * TILE, stride = (heads + 2 * kv_heads) * size;
    float factor = 1.0f / sqrtf((float)size);
#pragma omp parallel
    {
        float *queries = room(padded * size), *keys = room(padded * size), *across = room((padded + LANES) * size),
              *values = room(padded * size), *scores = room(TILE * padded), *out = room(TILE * size);
#pragma omp for schedule(static)
        for (long task = 0; task < rows * kv_heads; task++) {
            long row = task / kv_heads, kv = task % kv_heads;
            const float *base = mixed + row * length * stride;
            gather(length, size, stride, base + (heads + kv) * size, cosine, sine, 1.0f, keys);
            gather(length, size, stride, base + (heads + kv_heads + kv) * size, NULL, NULL, 1.0f, values);
            transpose(padded, size, keys, across);
            for (long head = kv * shared; head < (kv + 1) * shared; head++) {
                gather(length, size, stride, base + head * size, cosine, sine, factor, queries);
                for (long begin = 0; begin < length; begin += TILE) {
                    long end = begin + TILE, real = (end < length ? end : length) - begin;
                    product(size, end, queries + begin * size, size, across, padded + LANES, scores, padded);
                    for (long i = 0; i < real; i++) {
                        float *line = scores + i * padded;
                        hide(line, begin + i + 1, end);
                        float high = highest(line, end), sum = exponentials(line, -high, end), share = 1.0f / sum;
#pragma omp simd
                        for (long j = 0; j < end; j++) line[j] *= share;
                        sums[(row * heads + head) * length + begin + i] = high + logf(sum);
                    }
                    product(end, size, scores, padded, values, size, out, size);
                    for (long i = 0; i < real; i++)
                        memcpy(seen + ((row * length + begin + i) * heads + head) * size, out + i * size,
                               size * sizeof(float));
                }
            }
        }
        free(queries), free(keys), free(across), free(values), free(scores), free(out);
    }
}

/* grad [rows * length, heads * size] is the gradient of `seen`; grad_mixed has the shape of `mixed`. */
void attention_backward(long rows, long length, long heads, long kv_heads, long size, const float *mixed,
                        const float *cosine, const float *sine, const float *seen, const float *sums,
                        const float *grad, float *grad_mixed) {
    long shared = heads / kv_heads, padded = (length + TILE - 1) / TILE * TILE, stride = (heads + 2 * kv_heads) * size;
    float factor = 1.0f / sqrtf((float)size);
#pragma omp parallel
    {
        float *queries = room(padded * size), *keys = room(padded * size), *keys_across = room((padded + LANES) * size),
              *values = room(padded * size), *values_across = room((padded + LANES) * size), *weights = room(TILE * padded),
              *slopes = room(TILE * padded), *down = room(TILE * size), *grad_queries = room(padded * size),
              *grad_keys = room(padded * size), *grad_values = room(padded * size);
#pragma omp for schedule(static)
        for (long task = 0; task < rows * kv_heads; task++) {
            long row = task / kv_heads, kv = task % kv_heads;
            const float *base = mixed + row * length * stride;
            float *to = grad_mixed + row * length * stride;
            gather(length, size, stride, base + (heads + kv) * size, cosine, sine, 1.0f, keys);
            gather(length, size, stride, base + (heads + kv_heads + kv) * size, NULL, NULL, 1.0f, values);
            transpose(padded, size, keys, keys_across);
            transpose(padded, size, values, values_across);
            memset(grad_keys, 0, padded * size * sizeof(float));
            memset(grad_values, 0, padded * size * sizeof(float));
            for (long head = kv * shared; head < (kv + 1) * shared; head++) {
                gather(length, size, stride, base + head * size, cosine, sine, factor, queries);
                for (long begin = 0; begin < length; begin += TILE) {
                    long end = begin + TILE, real = (end < length ? end : length) - begin;
                    memset(down, 0, TILE * size * sizeof(float));
                    for (long i = 0; i < real; i++)
                        memcpy(down + i * size, grad + ((row * length + begin + i) * heads + head) * size,
                               size * sizeof(float));
                    product(size, end, queries + begin * size, size, keys_across, padded + LANES, weights, padded);
                    product(size, end, down, size, values_across, padded + LANES, slopes, padded);
                    for (long i = 0; i < TILE; i++) {
                        float *line = weights + i * padded, *slope = slopes + i * padded, inner = 0.0f;
                        if (i >= real) {
                            memset(line, 0, end * sizeof(float));
                            memset(slope, 0, end * sizeof(float));
                            continue;
                        }
                        const float *out = seen + ((row * length + begin + i) * heads + head) * size;
#pragma omp simd reduction(+ : inner)
                        for (long d = 0; d < size; d++) inner += out[d] * down[i * size + d];
                        hide(line, begin + i + 1, end);
                        exponentials(line, -sums[(row * heads + head) * length + begin + i], end);
#pragma omp simd
                        for (long j = 0; j < end; j++) slope[j] = line[j] * (slope[j] - inner);
                    }
                    product(end, size, slopes, padded, keys, size, grad_queries + begin * size, size);
                    product_onto(end, size, slopes, padded, queries + begin * size, grad_keys);
                    product_onto(end, size, weights, padded, down, grad_values);
                }
                scatter(length, size, stride, grad_queries, cosine, sine, factor, to + head * size);
            }
            scatter(length, size, stride, grad_keys, cosine, sine, 1.0f, to + (heads + kv) * size);
            scatter(length, size, stride, grad_values, NULL, NULL, 1.0f, to + (heads + kv_heads + kv) * size);
        }
        free(queries), free(keys), free(keys_across), free(values), free(values_across), free(weights), free(slopes);
        free(down), free(grad_queries), free(grad_keys), free(grad_values);
    }
}
