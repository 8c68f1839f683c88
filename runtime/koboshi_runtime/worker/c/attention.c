/* Attention of tokens of one run or of many to a cache that they share (AVX512).

   Sixteen cells at a time: their scores for the heads that share a key stand in one register, cells that a token does
   not see are passed over, and the softmax is taken of all scores at once, in F32. Weights and values are added in F64,
   where the order of the cells makes no difference that is left in F32: a token's result has the same bits whichever
   others are computed with it and wherever its run's cells lie. */

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>

#include "kernels.h"

/* Three heads of 64 numbers, or one of 128, have all their sums in registers. */
enum { LANES = 16, MOST_ROWS = 3, SMALL_CHUNKS = 4, MOST_CHUNKS = 8 };

typedef struct {
    int32_t first;
    __mmask16 seen;
} cells;

/* Up to three heads of one token: where their queries, keys and values are, and where the result goes. */
typedef struct {
    const float *q[MOST_ROWS];
    float *out[MOST_ROWS];
    const char *k, *v, *mask;
    int64_t k_cell, v_cell;
    float scale;
    const cells *list;
    int32_t count;
    __m512 *scores;
} part;

/* e to the x, for x <= 0, within 2 units of the last place down to -87, below which nothing is left. */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
    __m512 p = _mm512_set1_ps(1.0f / 720);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* The sums of sixteen registers, each in its lane. */
static inline __m512 sums(const __m512 *of) {
    __m512 s[8], u[4], v[2];
    for (int i = 0; i < 8; i++)
        s[i] = _mm512_add_ps(_mm512_unpacklo_ps(of[2 * i], of[2 * i + 1]), _mm512_unpackhi_ps(of[2 * i], of[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(s[2 * i]), b = _mm512_castps_pd(s[2 * i + 1]);
        u[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; i++)
        v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(u[2 * i], u[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(u[2 * i], u[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x88), _mm512_shuffle_f32x4(v[0], v[1], 0xdd));
}

static inline __m512 widened(const char *halves) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves));
}

static inline __m512d lower(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }

static inline __m512d upper(__m512 x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }

/* The cells that a token sees: those whose mask is not minus infinity. */
static int32_t list_seen(const char *mask, int64_t count, cells *list) {
    const __m256i unseen = _mm256_set1_epi16((short)0xfc00);
    int32_t found = 0;
    for (int64_t at = 0; at < count; at += LANES) {
        const __m256i values = _mm256_loadu_si256((const __m256i *)(mask + 2 * at));
        const __mmask16 seen = _mm256_cmpneq_epi16_mask(values, unseen);
        if (seen) list[found++] = (cells){(int32_t)at, seen};
    }
    return found;
}

static inline __attribute__((always_inline)) void score(const part *p, __m512 *highest, const int rows,
                                                        const int chunks) {
    for (int32_t i = 0; i < p->count; i++) {
        const cells *at = p->list + i;
        const char *key = p->k + at->first * p->k_cell;
        __m512 products[MOST_ROWS][LANES];
        for (int cell = 0; cell < LANES; cell++, key += p->k_cell) {
            __m512 k[MOST_CHUNKS];
#pragma GCC unroll 8
            for (int c = 0; c < chunks; c++) k[c] = widened(key + 2 * LANES * c);
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++) {
                __m512 sum = _mm512_mul_ps(k[0], _mm512_loadu_ps(p->q[r]));
#pragma GCC unroll 8
                for (int c = 1; c < chunks; c++) sum = _mm512_fmadd_ps(k[c], _mm512_loadu_ps(p->q[r] + LANES * c), sum);
                products[r][cell] = sum;
            }
        }
        const __m512 mask = widened(p->mask + 2 * at->first);
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++) {
            const __m512 found = _mm512_fmadd_ps(sums(products[r]), _mm512_set1_ps(p->scale), mask);
            p->scores[i * rows + r] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), at->seen, found);
            highest[r] = _mm512_max_ps(highest[r], p->scores[i * rows + r]);
        }
    }
}

static inline __attribute__((always_inline)) void attend(const part *p, const int rows, const int chunks) {
    __m512 highest[MOST_ROWS];
    __m512d total[MOST_ROWS], out[MOST_ROWS][2 * MOST_CHUNKS];
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) highest[r] = _mm512_set1_ps(-INFINITY);
    score(p, highest, rows, chunks);
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        highest[r] = _mm512_set1_ps(_mm512_reduce_max_ps(highest[r]));
        total[r] = _mm512_setzero_pd();
#pragma GCC unroll 16
        for (int h = 0; h < 2 * chunks; h++) out[r][h] = _mm512_setzero_pd();
    }
    for (int32_t i = 0; i < p->count; i++) {
        const cells *at = p->list + i;
        double weight[MOST_ROWS][LANES] __attribute__((aligned(64)));
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++) {
            const __m512 below = _mm512_sub_ps(p->scores[i * rows + r], highest[r]);
            const __m512 weights = _mm512_maskz_mov_ps(at->seen, exponential(below));
            _mm512_store_pd(weight[r], lower(weights));
            _mm512_store_pd(weight[r] + LANES / 2, upper(weights));
        }
        for (unsigned left = at->seen; left; left &= left - 1) {
            const int cell = __builtin_ctz(left);
            const char *value = p->v + (at->first + cell) * p->v_cell;
            __m512d all[MOST_ROWS];
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++) {
                all[r] = _mm512_set1_pd(weight[r][cell]);
                total[r] = _mm512_add_pd(total[r], all[r]);
            }
#pragma GCC unroll 8
            for (int c = 0; c < chunks; c++) {
                const __m512 v = widened(value + 2 * LANES * c);
                const __m512d low = lower(v), high = upper(v);
#pragma GCC unroll 3
                for (int r = 0; r < rows; r++) {
                    out[r][2 * c] = _mm512_fmadd_pd(all[r], low, out[r][2 * c]);
                    out[r][2 * c + 1] = _mm512_fmadd_pd(all[r], high, out[r][2 * c + 1]);
                }
            }
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        const double sum = _mm512_cvtsd_f64(total[r]);
        const __m512d share = _mm512_set1_pd(sum == 0 ? 0 : 1 / sum);
#pragma GCC unroll 16
        for (int h = 0; h < 2 * chunks; h++)
            _mm256_storeu_ps(p->out[r] + LANES / 2 * h, _mm512_cvtpd_ps(_mm512_mul_pd(out[r][h], share)));
    }
}

static void attend_rows(const part *p, int rows, int chunks) {
    if (chunks > SMALL_CHUNKS)
        attend(p, 1, MOST_CHUNKS);
    else if (rows == 1)
        attend(p, 1, SMALL_CHUNKS);
    else if (rows == 2)
        attend(p, 2, SMALL_CHUNKS);
    else
        attend(p, MOST_ROWS, SMALL_CHUNKS);
}

void koboshi_attend(int ith, int nth, const koboshi_attention *a) {
    static _Thread_local void *list_kept, *scores_kept;
    static _Thread_local size_t list_bytes, scores_bytes;
    const int64_t groups = a->cells / LANES, items = a->tokens * a->heads;
    const int chunks = (int)a->size / LANES, most = chunks > SMALL_CHUNKS ? 1 : MOST_ROWS;
    cells *list = koboshi_room(&list_kept, &list_bytes, (size_t)groups * sizeof *list);
    part p = {.k_cell = a->k_cell, .v_cell = a->v_cell, .scale = a->scale, .list = list};
    p.scores = koboshi_room(&scores_kept, &scores_bytes, (size_t)groups * MOST_ROWS * sizeof *p.scores);
    if (!list || !p.scores) abort();
    int64_t listed = -1;
    for (int64_t item = items * ith / nth; item < items * (ith + 1) / nth; item++) {
        const int64_t token = item / a->heads, head = item % a->heads;
        if (token != listed) {
            p.mask = a->mask + token * a->mask_token;
            p.count = list_seen(p.mask, a->cells, list);
            listed = token;
        }
        p.k = a->k + head * a->k_head;
        p.v = a->v + head * a->v_head;
        for (int64_t row = head * a->shared; row < (head + 1) * a->shared; row += most) {
            const int64_t left = (head + 1) * a->shared - row;
            const int rows = left < most ? (int)left : most;
            for (int r = 0; r < rows; r++) {
                p.q[r] = (const float *)(a->q + token * a->q_token + (row + r) * a->q_head);
                p.out[r] = (float *)(a->out + token * a->out_token + (row + r) * a->out_head);
            }
            attend_rows(&p, rows, chunks);
        }
    }
}
