// The parameters of the kernels of products and of gradients: launch.py gives the same to those for
// points of few dimensions (narrow.cu) and to those for others (product.cu, gradient.cu). What they
// are: struct Sweep in sweep.cuh. May include nothing.
#pragma once

#define PRODUCT_PARAMETERS                                                                         \
    const real *owner, const real *other, int64 owners, int64 others, int64 d, const real *gamma,  \
        int64 gamma_step, const real *amplitude, int64 amplitude_step, const real *payload,        \
        int64 columns, int64 slab, real *result

#define GRADIENT_PARAMETERS                                                                        \
    const real *owner, const real *other, int64 owners, int64 others, int64 d, const real *gamma,  \
        int64 gamma_step, const real *amplitude, int64 amplitude_step, const real *grad,           \
        const real *row_factor, const real *column_factor, int64 inner, int64 columns, int64 slab, \
        real *result, real *dgamma, real *damplitude
