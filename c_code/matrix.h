/* The arrays that callers hand to the kernels, what kernels return, and arithmetic on lengths.
 * Plain C, no Python.
 */
#ifndef RBF_MATRIX_H
#define RBF_MATRIX_H

#include "target.h"

#include <stddef.h>
#include <stdint.h>

/* A read-only matrix or vector of the caller: any byte strides, negative and 0 included. */
typedef struct {
    const char *data;
    int64_t rows, columns;
    int64_t row_stride, column_stride;
} rbf_matrix;

/* Values of the caller, of the columns of K, of its rows or of terms; or a scalar (stride 0) for
 * all of them. */
typedef struct {
    const char *data;
    int64_t stride;
    int scalar;
} rbf_vector;

enum { RBF_OK = 0, RBF_NO_MEMORY = -1 };

RBF_INLINE int64_t rbf_minimum(int64_t a, int64_t b) { return a < b ? a : b; }

RBF_INLINE int64_t rbf_maximum(int64_t a, int64_t b) { return a > b ? a : b; }

RBF_INLINE int64_t rbf_ceiling_division(int64_t a, int64_t b) { return a / b + (a % b != 0); }

#endif
