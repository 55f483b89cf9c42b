/* PyArray code of the Ops that have no kernel: checked lengths, medians of columns, and matrices of
 * what repeats.
 *
 * Apart from glue.h, whose kernels take seconds to compile. Each function returns 0, or -1 with an
 * exception set. Included into Theano's module, after Python.h and numpy/arrayobject.h.
 */
#ifndef RBF_SMALL_NODES_H
#define RBF_SMALL_NODES_H

/* *output becomes `values`, if they have as many entries, or rows, as the matrix has rows (axis 0)
 * or columns (axis 1). An error is worded by reference.check_entries. */
static inline int rbf_checked_entries(const char *function, const char *argument,
                                      PyArrayObject *values, const char *matrix_name,
                                      PyArrayObject *matrix, int axis, PyArrayObject **output) {
    if (PyArray_DIM(values, 0) != PyArray_DIM(matrix, axis)) {
        PyObject *reference = PyImport_ImportModule("rbf_op.reference");
        PyObject *none =
            reference == NULL
                ? NULL
                : PyObject_CallMethod(reference, "check_entries", "ssOsOi", function, argument,
                                      (PyObject *)values, matrix_name, (PyObject *)matrix, axis);
        Py_XDECREF(none);
        Py_XDECREF(reference);
        return -1;
    }
    Py_INCREF(values);
    Py_XDECREF(*output);
    *output = values;
    return 0;
}

/* The upper median of each column, 0 where it is not finite or there are no rows, of a matrix of
 * float or double. */
static inline int rbf_column_medians(PyArrayObject *matrix, PyArrayObject **output) {
    npy_intp rows = PyArray_DIM(matrix, 0), columns = PyArray_DIM(matrix, 1), half = rows / 2, k;
    const int single = PyArray_TYPE(matrix) == NPY_FLOAT;
    PyArrayObject *place = NULL, *sorted = NULL;
    int result = -1;
    Py_XDECREF(*output);
    *output = (PyArrayObject *)PyArray_ZEROS(1, &columns, PyArray_TYPE(matrix), 0);
    if (*output == NULL)
        return -1;
    if (rows == 0 || columns == 0)
        return 0;
    place = (PyArrayObject *)PyArray_SimpleNewFromData(0, NULL, NPY_INTP, &half);
    sorted = (PyArrayObject *)PyArray_NewCopy(matrix, NPY_CORDER);
    if (place == NULL || sorted == NULL ||
        PyArray_Partition(sorted, place, 0, NPY_INTROSELECT) != 0)
        goto cleanup;
    for (k = 0; k < columns; ++k) {
        const void *from = PyArray_GETPTR2(sorted, half, k);
        void *to = PyArray_GETPTR1(*output, k);
        const double entry = single ? *(const float *)from : *(const double *)from;
        if (entry - entry != 0) /* not finite */
            continue;
        if (single)
            *(float *)to = (float)entry;
        else
            *(double *)to = entry;
    }
    result = 0;
cleanup:
    Py_XDECREF(place);
    Py_XDECREF(sorted);
    return result;
}

/* *output becomes a view of `values` with so many rows and columns (numbers, int64): an axis of
 * `values` that has another length has length one. */
static inline int rbf_repeated(PyArrayObject *values, PyArrayObject *rows, PyArrayObject *columns,
                               PyArrayObject **output) {
    npy_intp shape[2], strides[2];
    int axis;
    shape[0] = (npy_intp) * (npy_int64 *)PyArray_DATA(rows);
    shape[1] = (npy_intp) * (npy_int64 *)PyArray_DATA(columns);
    for (axis = 0; axis < 2; ++axis) {
        const npy_intp length = PyArray_DIM(values, axis);
        if (length != shape[axis] && length != 1) {
            PyErr_Format(PyExc_ValueError,
                         "rbf_op: a matrix of %zd x %zd entries cannot be repeated to %zd x %zd.",
                         (Py_ssize_t)PyArray_DIM(values, 0), (Py_ssize_t)PyArray_DIM(values, 1),
                         (Py_ssize_t)shape[0], (Py_ssize_t)shape[1]);
            return -1;
        }
        strides[axis] = length == 1 ? 0 : PyArray_STRIDE(values, axis);
    }
    Py_XDECREF(*output);
    *output = (PyArrayObject *)PyArray_New(&PyArray_Type, 2, shape, PyArray_TYPE(values), strides,
                                           PyArray_DATA(values), 0, 0, NULL);
    if (*output == NULL)
        return -1;
    Py_INCREF(values);
    if (PyArray_SetBaseObject(*output, (PyObject *)values) != 0) {
        Py_DECREF(*output);
        *output = NULL;
        return -1;
    }
    return 0;
}

#endif
