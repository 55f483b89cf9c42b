/* Between Theano's generated C and the kernels: the only file that knows both PyArray and them.
 *
 * Checks shapes (with the words of rbf_op/reference.py), makes or reuses outputs, releases the GIL,
 * calls a kernel, and turns its code into a Python exception. Each function returns 0, or -1 with
 * an exception set. Included into Theano's module, after Python.h and numpy/arrayobject.h.
 */
#include "kernels.h"

#ifndef RBF_GLUE_H
#define RBF_GLUE_H

typedef int (*rbf_forward_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector, void *, int);
typedef int (*rbf_product_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_matrix, void *);
typedef int (*rbf_product_gradient_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_matrix,
                                           rbf_matrix, void *, void *, void *, void *);
typedef int (*rbf_outer_gradient_kernel)(rbf_matrix, rbf_vector, rbf_vector, rbf_matrix, rbf_matrix,
                                         void *, void *, void *);
typedef int (*rbf_log_sum_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector, void *, void *);
typedef int (*rbf_log_sum_gradient_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector,
                                           rbf_vector, rbf_vector, rbf_vector, void *, void *,
                                           void *, void *);
typedef int (*rbf_softmax_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector, rbf_matrix,
                                  void *, void *, void *);
typedef int (*rbf_softmax_gradient_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector,
                                           rbf_matrix, rbf_matrix, rbf_vector, rbf_vector,
                                           rbf_matrix, void *, void *, void *, void *, void *);
typedef int (*rbf_gradient_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector, rbf_matrix,
                                   void *, void *, void *, void *, int);
typedef int (*rbf_mixture_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector, int64_t, void *,
                                  int);
typedef int (*rbf_mixture_gradient_kernel)(rbf_matrix, rbf_matrix, rbf_vector, rbf_vector, int64_t,
                                           rbf_matrix, void *, void *, void *, void *, int);

RBF_INLINE rbf_matrix rbf_matrix_of(PyArrayObject *array) {
    rbf_matrix matrix;
    matrix.data = PyArray_BYTES(array);
    matrix.rows = PyArray_DIM(array, 0);
    matrix.columns = PyArray_DIM(array, 1);
    matrix.row_stride = PyArray_STRIDE(array, 0);
    matrix.column_stride = PyArray_STRIDE(array, 1);
    return matrix;
}

RBF_INLINE rbf_vector rbf_vector_of(PyArrayObject *array) {
    rbf_vector vector;
    vector.data = PyArray_BYTES(array);
    vector.scalar = PyArray_NDIM(array) == 0;
    vector.stride = vector.scalar ? 0 : PyArray_STRIDE(array, 0);
    return vector;
}

/* 0, or -1 with ValueError set, as reference.check_shapes. amplitude, weights and g may be NULL; g
 * is (n, p) with weights (m, p), else (n, m). */
RBF_FUNCTION int rbf_check_shapes(const char *name, PyArrayObject *x, PyArrayObject *y,
                                  PyArrayObject *gamma, PyArrayObject *amplitude,
                                  PyArrayObject *weights, PyArrayObject *g) {
    PyArrayObject *per_column[2] = {gamma, amplitude};
    const char *names[2] = {"gamma", "amplitude"};
    const char *points = x == y ? "x" : "y"; /* the user may have given no y */
    const Py_ssize_t n = PyArray_DIM(x, 0), m = PyArray_DIM(y, 0);
    const Py_ssize_t output_columns = weights ? PyArray_DIM(weights, 1) : m;
    int i;
    if (strcmp(name, "rbf_logsumexp") == 0 || strcmp(name, "rbf_softmax_dot") == 0)
        /* whose nodes get the logarithm of either */
        names[1] = "amplitude (or log_amplitude)";
    if (PyArray_DIM(x, 1) != PyArray_DIM(y, 1)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: x and y must have the same number of columns (d), but x has shape "
                     "(%zd, %zd) and y has shape (%zd, %zd). Pass centres as rows: for weights of "
                     "shape (d, m) pass W.T.",
                     name, n, (Py_ssize_t)PyArray_DIM(x, 1), m, (Py_ssize_t)PyArray_DIM(y, 1));
        return -1;
    }
    for (i = 0; i < 2; ++i) {
        if (per_column[i] && PyArray_NDIM(per_column[i]) && PyArray_DIM(per_column[i], 0) != m) {
            PyErr_Format(PyExc_ValueError,
                         "%s: %s must be a scalar or have one entry per row of %s (m), but %s has "
                         "shape (%zd,) and %s has shape (%zd, %zd).",
                         name, names[i], points, names[i],
                         (Py_ssize_t)PyArray_DIM(per_column[i], 0), points, m,
                         (Py_ssize_t)PyArray_DIM(y, 1));
            return -1;
        }
    }
    if (weights && PyArray_DIM(weights, 0) != m) {
        const Py_ssize_t rows = PyArray_DIM(weights, 0);
        char vector[40] = ""; /* which is a column here */
        if (output_columns == 1)
            PyOS_snprintf(vector, sizeof vector, " (or (%zd,))", rows);
        PyErr_Format(PyExc_ValueError,
                     "%s: weights must have one row per row of %s (m), but weights has shape "
                     "(%zd, %zd)%s and %s has shape (%zd, %zd).",
                     name, points, rows, output_columns, vector, points, m,
                     (Py_ssize_t)PyArray_DIM(y, 1));
        return -1;
    }
    if (g && (PyArray_DIM(g, 0) != n || PyArray_DIM(g, 1) != output_columns)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: the gradient of the output must have shape (%zd, %zd), but has shape "
                     "(%zd, %zd).",
                     name, n, output_columns, (Py_ssize_t)PyArray_DIM(g, 0),
                     (Py_ssize_t)PyArray_DIM(g, 1));
        return -1;
    }
    return 0;
}

/* NumPy's allocator for outputs: large ones come from the pool, behind a line that holds the size.
 */
#if defined(NPY_1_22_API_VERSION) && NPY_FEATURE_VERSION >= NPY_1_22_API_VERSION
#define RBF_HAVE_HANDLER 1

RBF_FUNCTION void *rbf_output_malloc(void *context, size_t bytes) {
    char *block;
    (void)context;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    block = (char *)(bytes >= RBF_POOL_FROM ? rbf_pool_take(bytes + RBF_ALIGNMENT)
                                            : malloc(bytes + RBF_ALIGNMENT));
    if (block == NULL)
        return NULL;
    memcpy(block, &bytes, sizeof bytes);
    return block + RBF_ALIGNMENT;
}

RBF_FUNCTION void rbf_output_free(void *context, void *data, size_t unused) {
    char *block = (char *)data - RBF_ALIGNMENT;
    size_t bytes;
    (void)context;
    (void)unused;
    if (data == NULL)
        return;
    memcpy(&bytes, block, sizeof bytes);
    if (bytes >= RBF_POOL_FROM)
        rbf_pool_give(block, bytes + RBF_ALIGNMENT);
    else
        free(block);
}

RBF_FUNCTION void *rbf_output_calloc(void *context, size_t count, size_t size) {
    void *data;
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    data = rbf_output_malloc(context, count * size);
    return data ? memset(data, 0, count * size) : NULL;
}

RBF_FUNCTION void *rbf_output_realloc(void *context, void *data, size_t bytes) {
    void *larger = rbf_output_malloc(context, bytes);
    if (larger != NULL && data != NULL) {
        size_t old;
        memcpy(&old, (char *)data - RBF_ALIGNMENT, sizeof old);
        memcpy(larger, data, old < bytes ? old : bytes);
        rbf_output_free(context, data, old);
    }
    return larger;
}

/* PyArray_EMPTY with that allocator. */
RBF_FUNCTION PyObject *rbf_empty_from_pool(int ndim, npy_intp *shape, int type) {
    static PyDataMem_Handler handler = {
        "rbf_op",
        1,
        {NULL, rbf_output_malloc, rbf_output_calloc, rbf_output_realloc, rbf_output_free}};
    static PyObject *capsule = NULL;
    PyObject *before, *array;
    if (capsule == NULL && (capsule = PyCapsule_New(&handler, "mem_handler", NULL)) == NULL)
        return NULL;
    before = PyDataMem_SetHandler(capsule);
    if (before == NULL)
        return NULL;
    array = PyArray_EMPTY(ndim, shape, type, 0);
    Py_XDECREF(PyDataMem_SetHandler(before));
    Py_DECREF(before);
    return array;
}
#endif

/* A C-contiguous array of that shape in *output: the one that is there if it fits, or a new one.
 * Theano may hand back any array of the right type, of any shape and strides. */
RBF_FUNCTION int rbf_prepare_output(PyArrayObject **output, int ndim, npy_intp *shape, int type) {
    PyArrayObject *old = *output;
    npy_intp entries;
    if (old != NULL && PyArray_NDIM(old) == ndim && PyArray_TYPE(old) == type &&
        PyArray_CompareLists(PyArray_DIMS(old), shape, ndim) && PyArray_IS_C_CONTIGUOUS(old) &&
        PyArray_ISBEHAVED(old))
        return 0;
    Py_XDECREF(old);
    *output = NULL;
    entries = PyArray_OverflowMultiplyList(shape, ndim);
    if (entries < 0 || entries > NPY_MAX_INTP / 8) {
        PyErr_Format(PyExc_MemoryError, "rbf_op: no memory holds an output of %zd x %zd entries.",
                     (Py_ssize_t)shape[0], (Py_ssize_t)(ndim > 1 ? shape[1] : 1));
        return -1;
    }
#ifdef RBF_HAVE_HANDLER
    if (entries >= (npy_intp)RBF_POOL_FROM / 8)
        *output = (PyArrayObject *)rbf_empty_from_pool(ndim, shape, type);
    else
#endif
        *output = (PyArrayObject *)PyArray_EMPTY(ndim, shape, type, 0);
    return *output == NULL ? -1 : 0;
}

/* The outputs that are wanted (not NULL) of `count`, each of the shape of an input, and their data.
 */
RBF_FUNCTION int rbf_prepare_gradients(PyArrayObject **outputs[], PyArrayObject *inputs[],
                                       void *data[], int count) {
    int i;
    for (i = 0; i < count; ++i) {
        data[i] = NULL;
        if (outputs[i] == NULL)
            continue;
        if (rbf_prepare_output(outputs[i], PyArray_NDIM(inputs[i]), PyArray_DIMS(inputs[i]),
                               PyArray_TYPE(inputs[i])) != 0)
            return -1;
        data[i] = PyArray_DATA(*outputs[i]);
    }
    return 0;
}

RBF_FUNCTION int rbf_report(const char *name, int code) {
    if (code == RBF_OK)
        return 0;
    PyErr_Format(PyExc_MemoryError, "%s: not enough memory for the workspace.", name);
    return -1;
}

/* The end of a function: calls a kernel without the GIL, and reports what it returns. */
#define RBF_RETURN_CALL(name, call)                                                                \
    do {                                                                                           \
        int code;                                                                                  \
        Py_BEGIN_ALLOW_THREADS                                                                     \
            code = (call);                                                                         \
        Py_END_ALLOW_THREADS                                                                       \
        return rbf_report(name, code);                                                             \
    } while (0)

RBF_FUNCTION int rbf_forward_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                   PyArrayObject *amplitude, PyArrayObject **output, int symmetric,
                                   rbf_forward_kernel kernel) {
    npy_intp shape[2] = {PyArray_DIM(x, 0), PyArray_DIM(y, 0)};
    if (rbf_check_shapes("rbf_kernel", x, y, gamma, amplitude, NULL, NULL) != 0 ||
        rbf_prepare_output(output, 2, shape, PyArray_TYPE(x)) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_kernel",
                    kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                           rbf_vector_of(amplitude), PyArray_DATA(*output), symmetric));
}

RBF_FUNCTION int rbf_distances_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject **output,
                                     rbf_forward_kernel kernel) {
    npy_intp shape[2] = {PyArray_DIM(x, 0), PyArray_DIM(y, 0)};
    const rbf_vector none = {NULL, 0, 1};
    if (rbf_check_shapes("rbf_op", x, y, NULL, NULL, NULL, NULL) != 0 ||
        rbf_prepare_output(output, 2, shape, PyArray_TYPE(x)) != 0)
        return -1;
    RBF_RETURN_CALL(
        "rbf_op", kernel(rbf_matrix_of(x), rbf_matrix_of(y), none, none, PyArray_DATA(*output), 0));
}

RBF_FUNCTION int rbf_gradient_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                    PyArrayObject *amplitude, PyArrayObject *g, PyArrayObject **dx,
                                    PyArrayObject **dy, PyArrayObject **dgamma,
                                    PyArrayObject **damplitude, int symmetric,
                                    rbf_gradient_kernel kernel) {
    PyArrayObject *inputs[4] = {x, y, gamma, amplitude};
    PyArrayObject **outputs[4] = {dx, dy, dgamma, damplitude};
    void *data[4];
    if (rbf_check_shapes("rbf_kernel", x, y, gamma, amplitude, NULL, g) != 0 ||
        rbf_prepare_gradients(outputs, inputs, data, 4) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_kernel", kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                                         rbf_vector_of(amplitude), rbf_matrix_of(g), data[0],
                                         data[1], data[2], data[3], symmetric));
}

/* 0, or -1 with ValueError set, as reference.check_terms and check_shapes. g may be NULL. */
RBF_FUNCTION int rbf_check_mixture_shapes(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                          PyArrayObject *amplitude, PyArrayObject *g) {
    const Py_ssize_t terms = PyArray_DIM(gamma, 0), others = PyArray_DIM(amplitude, 0);
    if (terms != others) {
        PyErr_Format(PyExc_ValueError,
                     "rbf_mixture: amplitude must be a scalar or have one entry per width, but "
                     "amplitude has shape (%zd,) and the widths have shape (%zd,).",
                     others, terms);
        return -1;
    }
    return rbf_check_shapes("rbf_mixture", x, y, NULL, NULL, NULL, g);
}

RBF_FUNCTION int rbf_mixture_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                   PyArrayObject *amplitude, PyArrayObject **output, int symmetric,
                                   rbf_mixture_kernel kernel) {
    npy_intp shape[2] = {PyArray_DIM(x, 0), PyArray_DIM(y, 0)};
    if (rbf_check_mixture_shapes(x, y, gamma, amplitude, NULL) != 0 ||
        rbf_prepare_output(output, 2, shape, PyArray_TYPE(x)) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_mixture", kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                                          rbf_vector_of(amplitude), PyArray_DIM(gamma, 0),
                                          PyArray_DATA(*output), symmetric));
}

RBF_FUNCTION int rbf_mixture_gradient_apply(PyArrayObject *x, PyArrayObject *y,
                                            PyArrayObject *gamma, PyArrayObject *amplitude,
                                            PyArrayObject *g, PyArrayObject **dx,
                                            PyArrayObject **dy, PyArrayObject **dgamma,
                                            PyArrayObject **damplitude, int symmetric,
                                            rbf_mixture_gradient_kernel kernel) {
    PyArrayObject *inputs[4] = {x, y, gamma, amplitude};
    PyArrayObject **outputs[4] = {dx, dy, dgamma, damplitude};
    void *data[4];
    if (rbf_check_mixture_shapes(x, y, gamma, amplitude, g) != 0 ||
        rbf_prepare_gradients(outputs, inputs, data, 4) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_mixture",
                    kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                           rbf_vector_of(amplitude), PyArray_DIM(gamma, 0), rbf_matrix_of(g),
                           data[0], data[1], data[2], data[3], symmetric));
}

RBF_FUNCTION int rbf_product_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                   PyArrayObject *weights, PyArrayObject **output,
                                   rbf_product_kernel kernel) {
    npy_intp shape[2] = {PyArray_DIM(x, 0), PyArray_DIM(weights, 1)};
    if (rbf_check_shapes("rbf_dot", x, y, gamma, NULL, weights, NULL) != 0 ||
        rbf_prepare_output(output, 2, shape, PyArray_TYPE(x)) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_dot", kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                                      rbf_matrix_of(weights), PyArray_DATA(*output)));
}

RBF_FUNCTION int rbf_product_gradient_apply(PyArrayObject *x, PyArrayObject *y,
                                            PyArrayObject *gamma, PyArrayObject *weights,
                                            PyArrayObject *g, PyArrayObject **dx,
                                            PyArrayObject **dy, PyArrayObject **dgamma,
                                            PyArrayObject **dweights,
                                            rbf_product_gradient_kernel kernel) {
    PyArrayObject *inputs[4] = {x, y, gamma, weights};
    PyArrayObject **outputs[4] = {dx, dy, dgamma, dweights};
    void *data[4];
    if (rbf_check_shapes("rbf_dot", x, y, gamma, NULL, weights, g) != 0 ||
        rbf_prepare_gradients(outputs, inputs, data, 4) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_dot", kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                                      rbf_matrix_of(weights), rbf_matrix_of(g), data[0], data[1],
                                      data[2], data[3]));
}

RBF_FUNCTION int rbf_outer_gradient_apply(PyArrayObject *x, PyArrayObject *gamma,
                                          PyArrayObject *amplitude, PyArrayObject *left,
                                          PyArrayObject *right, PyArrayObject **dx,
                                          PyArrayObject **dgamma, PyArrayObject **damplitude,
                                          rbf_outer_gradient_kernel kernel) {
    PyArrayObject *inputs[4] = {x, x, gamma, amplitude};
    PyArrayObject **outputs[4] = {dx, NULL, dgamma, damplitude};
    void *data[4];
    if (rbf_check_shapes("rbf_dot", x, x, gamma, NULL, right, left) != 0 ||
        rbf_prepare_gradients(outputs, inputs, data, 4) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_dot",
                    kernel(rbf_matrix_of(x), rbf_vector_of(gamma), rbf_vector_of(amplitude),
                           rbf_matrix_of(left), rbf_matrix_of(right), data[0], data[2], data[3]));
}

RBF_FUNCTION int rbf_log_sum_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                   PyArrayObject *log_amplitude, PyArrayObject **output,
                                   PyArrayObject **rests, rbf_log_sum_kernel kernel) {
    npy_intp shape[1] = {PyArray_DIM(x, 0)};
    if (rbf_check_shapes("rbf_logsumexp", x, y, gamma, log_amplitude, NULL, NULL) != 0 ||
        rbf_prepare_output(output, 1, shape, PyArray_TYPE(x)) != 0 ||
        rbf_prepare_output(rests, 1, shape, PyArray_TYPE(x)) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_logsumexp", kernel(rbf_matrix_of(x), rbf_matrix_of(y),
                                            rbf_vector_of(gamma), rbf_vector_of(log_amplitude),
                                            PyArray_DATA(*output), PyArray_DATA(*rests)));
}

RBF_FUNCTION int rbf_log_sum_gradient_apply(PyArrayObject *x, PyArrayObject *y,
                                            PyArrayObject *gamma, PyArrayObject *log_amplitude,
                                            PyArrayObject *log_sums, PyArrayObject *rests,
                                            PyArrayObject *g, PyArrayObject **dx,
                                            PyArrayObject **dy, PyArrayObject **dgamma,
                                            PyArrayObject **dlog_amplitude,
                                            rbf_log_sum_gradient_kernel kernel) {
    PyArrayObject *inputs[4] = {x, y, gamma, log_amplitude};
    PyArrayObject **outputs[4] = {dx, dy, dgamma, dlog_amplitude};
    const npy_intp n = PyArray_DIM(x, 0);
    void *data[4];
    if (rbf_check_shapes("rbf_logsumexp", x, y, gamma, log_amplitude, NULL, NULL) != 0)
        return -1;
    if (PyArray_DIM(log_sums, 0) != n || PyArray_DIM(rests, 0) != n || PyArray_DIM(g, 0) != n) {
        PyErr_Format(PyExc_ValueError,
                     "rbf_logsumexp: its value, the rest of it and the gradient of the output must "
                     "have shape (%zd,), but have shapes (%zd,), (%zd,) and (%zd,).",
                     (Py_ssize_t)n, (Py_ssize_t)PyArray_DIM(log_sums, 0),
                     (Py_ssize_t)PyArray_DIM(rests, 0), (Py_ssize_t)PyArray_DIM(g, 0));
        return -1;
    }
    if (rbf_prepare_gradients(outputs, inputs, data, 4) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_logsumexp", kernel(rbf_matrix_of(x), rbf_matrix_of(y),
                                            rbf_vector_of(gamma), rbf_vector_of(log_amplitude),
                                            rbf_vector_of(log_sums), rbf_vector_of(rests),
                                            rbf_vector_of(g), data[0], data[1], data[2], data[3]));
}

RBF_FUNCTION int rbf_softmax_apply(PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma,
                                   PyArrayObject *log_amplitude, PyArrayObject *weights,
                                   PyArrayObject **output, PyArrayObject **log_sums,
                                   PyArrayObject **rests, rbf_softmax_kernel kernel) {
    npy_intp shape[2] = {PyArray_DIM(x, 0), PyArray_DIM(weights, 1)};
    if (rbf_check_shapes("rbf_softmax_dot", x, y, gamma, log_amplitude, weights, NULL) != 0 ||
        rbf_prepare_output(output, 2, shape, PyArray_TYPE(x)) != 0 ||
        rbf_prepare_output(log_sums, 1, shape, PyArray_TYPE(x)) != 0 ||
        rbf_prepare_output(rests, 1, shape, PyArray_TYPE(x)) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_softmax_dot",
                    kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                           rbf_vector_of(log_amplitude), rbf_matrix_of(weights),
                           PyArray_DATA(*output), PyArray_DATA(*log_sums), PyArray_DATA(*rests)));
}

RBF_FUNCTION int rbf_softmax_gradient_apply(
    PyArrayObject *x, PyArrayObject *y, PyArrayObject *gamma, PyArrayObject *log_amplitude,
    PyArrayObject *weights, PyArrayObject *product, PyArrayObject *log_sums, PyArrayObject *rests,
    PyArrayObject *g, PyArrayObject **dx, PyArrayObject **dy, PyArrayObject **dgamma,
    PyArrayObject **dlog_amplitude, PyArrayObject **dweights, rbf_softmax_gradient_kernel kernel) {
    PyArrayObject *inputs[5] = {x, y, gamma, log_amplitude, weights};
    PyArrayObject **outputs[5] = {dx, dy, dgamma, dlog_amplitude, dweights};
    const Py_ssize_t n = PyArray_DIM(x, 0), p = PyArray_DIM(weights, 1);
    void *data[5];
    if (rbf_check_shapes("rbf_softmax_dot", x, y, gamma, log_amplitude, weights, g) != 0)
        return -1;
    if (PyArray_DIM(product, 0) != n || PyArray_DIM(product, 1) != p ||
        PyArray_DIM(log_sums, 0) != n || PyArray_DIM(rests, 0) != n) {
        PyErr_Format(
            PyExc_ValueError,
            "rbf_softmax_dot: its value must have shape (%zd, %zd), its log_sums and rests "
            "(%zd,), but they have shapes (%zd, %zd), (%zd,) and (%zd,).",
            n, p, n, (Py_ssize_t)PyArray_DIM(product, 0), (Py_ssize_t)PyArray_DIM(product, 1),
            (Py_ssize_t)PyArray_DIM(log_sums, 0), (Py_ssize_t)PyArray_DIM(rests, 0));
        return -1;
    }
    if (rbf_prepare_gradients(outputs, inputs, data, 5) != 0)
        return -1;
    RBF_RETURN_CALL("rbf_softmax_dot",
                    kernel(rbf_matrix_of(x), rbf_matrix_of(y), rbf_vector_of(gamma),
                           rbf_vector_of(log_amplitude), rbf_matrix_of(weights),
                           rbf_matrix_of(product), rbf_vector_of(log_sums), rbf_vector_of(rests),
                           rbf_matrix_of(g), data[0], data[1], data[2], data[3], data[4]));
}

#endif
