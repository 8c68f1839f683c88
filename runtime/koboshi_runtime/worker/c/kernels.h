/* What koboshi computes itself instead of llama.cpp: see koboshi_runtime/worker/kernels.py. */

#ifndef KOBOSHI_KERNELS_H
#define KOBOSHI_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ggml's block_q8_0: 32 numbers, each qs[i] times the F16 number d. */
typedef struct {
    uint16_t d;
    int8_t qs[32];
} koboshi_q8;

/* Attention of `tokens` queries to one cache of `cells`, F16, `heads` keys and values each serving `shared` heads of
   queries, `size` numbers a head; steps are in bytes, `mask` holds what is added to a score, F16, a row for each token. */
typedef struct {
    int64_t tokens, cells, heads, shared, size;
    const char *q, *k, *v, *mask;
    char *out;
    int64_t q_token, q_head, k_cell, k_head, v_cell, v_head, mask_token, out_token, out_head;
    float scale;
} koboshi_attention;

/* The part of thread `ith` of `nth` in out (n rows of m, F32) = b (n rows of k blocks) times a (m rows of k blocks),
   transposed; strides are in blocks and numbers. False if there is no memory for it. */
bool koboshi_multiply(int ith, int nth, int64_t m, int64_t n, int64_t k, const koboshi_q8 *a, int64_t a_row,
                      const koboshi_q8 *b, int64_t b_row, float *out, int64_t out_row);

/* The part of thread `ith` of `nth` in an attention; `size` is 64 or 128, `cells` a multiple of 16. */
void koboshi_attend(int ith, int nth, const koboshi_attention *about);

/* Memory of this thread for at least `wanted` bytes, aligned to 64, or NULL; `kept` and `bytes` remember it. */
void *koboshi_room(void **kept, size_t *bytes, size_t wanted);

#endif
