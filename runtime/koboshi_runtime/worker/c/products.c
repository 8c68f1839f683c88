/* Products of Q8_0 matrices with whole 512-bit dot products of bytes (AVX512-VNNI).

   Sixteen rows of weights are laid out so that a lane holds four numbers of one row, once for all columns; then a
   column's four numbers go to all lanes. The instruction multiplies unsigned by signed bytes: weights are moved up by
   128, and 128 times the sum of the column's numbers is taken off. Each block's sum is exact; blocks are added in F32,
   one after another, so that a column's result has the same bits whichever others are computed with it. */

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { ROWS = 16, TILE = 8, QUADS = 8 };

/* How many bytes of weights are asked for before they are needed: of 8, 16, 24, 32 and 64 KB the fastest. */
enum { AHEAD = 16 << 10 };

typedef struct {
    __m512i quads[QUADS];
    __m512 d;
} panel_block;

typedef struct {
    float d[TILE];
    int32_t correction[TILE];
} tile_block;

void *koboshi_room(void **kept, size_t *bytes, size_t wanted) {
    if (*bytes < wanted) {
        free(*kept);
        *kept = NULL;
        *bytes = 0;
        if (posix_memalign(kept, 64, wanted) != 0) return NULL;
        *bytes = wanted;
    }
    return *kept;
}

/* Block `at` of sixteen rows as a panel: an 8 x 8 transposition of dwords in both halves at once. */
static inline void pack(const koboshi_q8 *const *rows, int64_t at, panel_block *panel) {
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const __m512i high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    const __m512i up = _mm512_set1_epi8((char)0x80);
    __m512i z[8], u[8], v[8];
    uint16_t d[ROWS];
    /* The rows that come next are read from memory meanwhile: sixteen strands at once are too many for the processor to
       foresee. Into the second cache, because the first can wait for two dozen lines only, which is half of what memory
       gives. A prefetch beyond the end does nothing. */
    const char *ahead = (const char *)rows[0] + at * ROWS * (int64_t)sizeof **rows + AHEAD;
    for (int64_t line = 0; line < ROWS * (int64_t)sizeof **rows; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T1);
    for (int r = 0; r < 8; r++) {
        const __m256i first = _mm256_loadu_si256((const __m256i *)rows[r][at].qs);
        const __m256i second = _mm256_loadu_si256((const __m256i *)rows[r + 8][at].qs);
        z[r] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    }
    for (int r = 0; r < ROWS; r++) d[r] = rows[r][at].d;
    for (int r = 0; r < 8; r += 2) {
        u[r] = _mm512_unpacklo_epi32(z[r], z[r + 1]);
        u[r + 1] = _mm512_unpackhi_epi32(z[r], z[r + 1]);
    }
    for (int r = 0; r < 8; r += 4) {
        v[r] = _mm512_unpacklo_epi64(u[r], u[r + 2]);
        v[r + 1] = _mm512_unpackhi_epi64(u[r], u[r + 2]);
        v[r + 2] = _mm512_unpacklo_epi64(u[r + 1], u[r + 3]);
        v[r + 3] = _mm512_unpackhi_epi64(u[r + 1], u[r + 3]);
    }
    for (int q = 0; q < 4; q++) {
        panel->quads[q] = _mm512_xor_si512(_mm512_permutex2var_epi64(v[q], low, v[q + 4]), up);
        panel->quads[q + 4] = _mm512_xor_si512(_mm512_permutex2var_epi64(v[q], high, v[q + 4]), up);
    }
    panel->d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)d));
}

/* What the products need of block `at` of up to eight columns. */
static inline void describe(const koboshi_q8 *const *columns, int64_t at, int count, tile_block *tile) {
    for (int c = 0; c < count; c++) {
        const __m256i numbers = _mm256_loadu_si256((const __m256i *)columns[c][at].qs);
        const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), numbers);
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
        tile->correction[c] = -128 * _mm_cvtsi128_si32(sum);
        tile->d[c] = _cvtsh_ss(columns[c][at].d);
    }
}

/* Sixteen rows times `count` columns; inlined with a constant count, so that all sums stay in registers. */
static inline __attribute__((always_inline)) void tile_product(const panel_block *panel, const tile_block *tile,
                                                               const koboshi_q8 *const *columns, int64_t k,
                                                               float *const *out, __mmask16 stored, const int count) {
    __m512 total[TILE];
#pragma GCC unroll 8
    for (int c = 0; c < count; c++) total[c] = _mm512_setzero_ps();
    for (int64_t at = 0; at < k; at++) {
        __m512i sum[TILE];
#pragma GCC unroll 8
        for (int c = 0; c < count; c++) sum[c] = _mm512_set1_epi32(tile[at].correction[c]);
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++) {
            const __m512i quad = panel[at].quads[q];
#pragma GCC unroll 8
            for (int c = 0; c < count; c++) {
                int32_t four;
                memcpy(&four, columns[c][at].qs + 4 * q, sizeof four);
                sum[c] = _mm512_dpbusd_epi32(sum[c], quad, _mm512_set1_epi32(four));
            }
        }
#pragma GCC unroll 8
        for (int c = 0; c < count; c++) {
            const __m512 scale = _mm512_mul_ps(panel[at].d, _mm512_set1_ps(tile[at].d[c]));
            total[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[c]), scale, total[c]);
        }
    }
#pragma GCC unroll 8
    for (int c = 0; c < count; c++) _mm512_mask_storeu_ps(out[c], stored, total[c]);
}

/* Sixteen rows times one column, each block as it is packed: `tile_product` without a panel. */
static void column_product(const koboshi_q8 *const *rows, const tile_block *tile,
                           const koboshi_q8 *column, int64_t k, float *out, __mmask16 stored) {
    __m512 total = _mm512_setzero_ps();
    for (int64_t at = 0; at < k; at++) {
        panel_block panel;
        pack(rows, at, &panel);
        __m512i even = _mm512_set1_epi32(tile[at].correction[0]), odd = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int q = 0; q < QUADS; q += 2) {
            int32_t four[2];
            memcpy(four, column[at].qs + 4 * q, sizeof four);
            even = _mm512_dpbusd_epi32(even, panel.quads[q], _mm512_set1_epi32(four[0]));
            odd = _mm512_dpbusd_epi32(odd, panel.quads[q + 1], _mm512_set1_epi32(four[1]));
        }
        const __m512 scale = _mm512_mul_ps(panel.d, _mm512_set1_ps(tile[at].d[0]));
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), scale, total);
    }
    _mm512_mask_storeu_ps(out, stored, total);
}

static void product_of(const panel_block *panel, const tile_block *tile, const koboshi_q8 *const *columns, int64_t k,
                       float *const *out, __mmask16 stored, int count) {
    switch (count) {
    case 1: tile_product(panel, tile, columns, k, out, stored, 1); break;
    case 2: tile_product(panel, tile, columns, k, out, stored, 2); break;
    case 3: tile_product(panel, tile, columns, k, out, stored, 3); break;
    case 4: tile_product(panel, tile, columns, k, out, stored, 4); break;
    case 5: tile_product(panel, tile, columns, k, out, stored, 5); break;
    case 6: tile_product(panel, tile, columns, k, out, stored, 6); break;
    case 7: tile_product(panel, tile, columns, k, out, stored, 7); break;
    default: tile_product(panel, tile, columns, k, out, stored, TILE);
    }
}

static int tile_columns(int64_t n, int64_t tile) { return n - tile * TILE < TILE ? (int)(n - tile * TILE) : TILE; }

bool koboshi_multiply(int ith, int nth, int64_t m, int64_t n, int64_t k, const koboshi_q8 *a, int64_t a_row,
                      const koboshi_q8 *b, int64_t b_row, float *out, int64_t out_row) {
    static _Thread_local void *panel_kept, *tiles_kept;
    static _Thread_local size_t panel_bytes, tiles_bytes;
    const int64_t tiles = (n + TILE - 1) / TILE, groups = (m + ROWS - 1) / ROWS;
    panel_block *panel = koboshi_room(&panel_kept, &panel_bytes, (size_t)k * sizeof *panel);
    tile_block *described = koboshi_room(&tiles_kept, &tiles_bytes, (size_t)(tiles * k) * sizeof *described);
    if (!panel || !described) return false;
    for (int64_t t = 0; t < tiles; t++) {
        const koboshi_q8 *columns[TILE];
        const int count = tile_columns(n, t);
        for (int c = 0; c < count; c++) columns[c] = b + (t * TILE + c) * b_row;
        for (int64_t at = 0; at < k; at++) describe(columns, at, count, described + t * k + at);
    }
    for (int64_t group = groups * ith / nth; group < groups * (ith + 1) / nth; group++) {
        const int64_t first = group * ROWS, left = m - first;
        const __mmask16 stored = left >= ROWS ? 0xffff : (__mmask16)((1u << left) - 1);
        const koboshi_q8 *rows[ROWS];
        for (int r = 0; r < ROWS; r++) rows[r] = a + (r < left ? first + r : m - 1) * a_row;
        if (n == 1) {
            column_product(rows, described, b, k, out + first, stored);
            continue;
        }
        for (int64_t at = 0; at < k; at++) pack(rows, at, panel + at);
        for (int64_t t = 0; t < tiles; t++) {
            const koboshi_q8 *columns[TILE];
            float *to[TILE];
            const int count = tile_columns(n, t);
            for (int c = 0; c < count; c++) {
                columns[c] = b + (t * TILE + c) * b_row;
                to[c] = out + (t * TILE + c) * out_row + first;
            }
            product_of(panel, described + t * k, columns, k, to, stored, count);
        }
    }
    return true;
}
