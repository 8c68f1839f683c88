/* llama.cpp's calls for what koboshi computes itself. Both functions have the names of llama.cpp's own, stand before
   them in the process's scope, and hand on what is not theirs to do. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <ggml.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { CELLS = 16, KNOWN = 61 };

/* The beginning of ggml's own, which no header shows. */
struct ggml_compute_params {
    int ith, nth;
};

typedef bool multiply_call(const struct ggml_compute_params *, int64_t, int64_t, int64_t, const void *, int64_t,
                           const void *, int64_t, void *, int64_t, int, int, int);
typedef void attend_call(const struct ggml_compute_params *, struct ggml_tensor *);

/* How often each was computed here, so that it can be seen whether llama.cpp comes by at all. */
uint64_t koboshi_multiplied, koboshi_attended;

/* Whether this process computes here at all. */
int koboshi_on = 1;

/* What the library that `caller` is a place of has under a name: each build gets its own back, whatever it is called.
   Each place calls one function, some hundred times a step, and looking a library up takes a lock that all threads wait
   for: what was found for a place is kept. */
static void *theirs(const char *name, void *caller) {
    static _Thread_local struct {
        void *caller, *found;
    } known[KNOWN];
    const size_t at = (uintptr_t)caller % KNOWN;
    if (known[at].caller != caller) {
        Dl_info about;
        if (!dladdr(caller, &about)) abort();
        void *library = dlopen(about.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
        known[at].found = library ? dlsym(library, name) : NULL;
        known[at].caller = caller;
    }
    if (!known[at].found) abort();
    return known[at].found;
}

bool llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                     int64_t a_row, const void *b, int64_t b_row, void *out, int64_t out_row, int a_type, int b_type,
                     int out_type) {
    static const char name[] = "llamafile_sgemm";
    if (koboshi_on && a_type == GGML_TYPE_Q8_0 && b_type == GGML_TYPE_Q8_0 && out_type == GGML_TYPE_F32) {
        if (params->ith == 0) koboshi_multiplied++;
        return koboshi_multiply(params->ith, params->nth, m, n, k, a, a_row, b, b_row, out, out_row);
    }
    multiply_call *others = (multiply_call *)theirs(name, __builtin_return_address(0));
    return others(params, m, n, k, a, a_row, b, b_row, out, out_row, a_type, b_type, out_type);
}

static bool is_ours(const struct ggml_tensor *dst) {
    const struct ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
    float bias, cap;
    memcpy(&bias, dst->op_params + 1, sizeof bias);
    memcpy(&cap, dst->op_params + 2, sizeof cap);
    const bool plain = bias == 0 && cap == 0 && !dst->src[4] && mask && mask->ne[2] == 1 && q->ne[3] == 1;
    return plain && q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 &&
           mask->type == GGML_TYPE_F16 && (q->ne[0] == 64 || q->ne[0] == 128) && v->ne[0] == q->ne[0] && v->ne[2] == k->ne[2] &&
           k->ne[1] % CELLS == 0 && q->ne[2] % k->ne[2] == 0;
}

void ggml_compute_forward_flash_attn_ext(const struct ggml_compute_params *params, struct ggml_tensor *dst) {
    static const char name[] = "ggml_compute_forward_flash_attn_ext";
    if (!koboshi_on || !is_ours(dst)) {
        attend_call *others = (attend_call *)theirs(name, __builtin_return_address(0));
        others(params, dst);
        return;
    }
    const struct ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
    koboshi_attention about = {
        .tokens = q->ne[1], .cells = k->ne[1], .heads = k->ne[2], .shared = q->ne[2] / k->ne[2], .size = q->ne[0],
        .q = q->data, .k = k->data, .v = v->data, .mask = mask->data, .out = dst->data,
        .q_token = (int64_t)q->nb[1], .q_head = (int64_t)q->nb[2], .k_cell = (int64_t)k->nb[1],
        .k_head = (int64_t)k->nb[2], .v_cell = (int64_t)v->nb[1], .v_head = (int64_t)v->nb[2],
        .mask_token = (int64_t)mask->nb[1], .out_token = (int64_t)(dst->nb[1]) * dst->ne[1],
        .out_head = (int64_t)dst->nb[1],
    };
    memcpy(&about.scale, dst->op_params, sizeof about.scale);
    if (params->ith == 0) koboshi_attended++;
    koboshi_attend(params->ith, params->nth, &about);
}
