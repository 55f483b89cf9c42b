/* The plain C kernels: include this, with RBF_WITH_FLOAT and/or RBF_WITH_DOUBLE defined.
 *
 * Gives rbf_forward, rbf_mixture, rbf_product, rbf_log_sum, rbf_softmax, and the gradients of each
 * (rbf_gradient, rbf_mixture_gradient and so on, rbf_outer_gradient of y = x), as _f32 and _f64:
 * sizes int64, strides in bytes, contiguous outputs of the caller, RBF_OK or RBF_NO_MEMORY in
 * return. May be included again to add the other precision. No Python, no NumPy. Of the Ops above,
 * rbf_product is RBFDot's, rbf_log_sum RBFLogSumExp's, rbf_softmax RBFSoftmaxDot's; offset is their
 * log_amplitude, g (of K) and h (of a product) their grad_output.
 */
#include "matrix_unit.h"
#include "shares.h"
#include "streaming.h"
#include "threads.h"
#include "workspace.h"

#ifndef RBF_KERNELS_H
#define RBF_KERNELS_H
/* What is made of the distances. */
enum {
    RBF_OF_KERNEL,
    RBF_OF_MIXTURE,
    RBF_OF_PRODUCT,
    RBF_OF_LOG_SUM,
    RBF_OF_SOFTMAX,
    RBF_OF_DISTANCES
};
#endif

#if defined(RBF_WITH_FLOAT) && !defined(RBF_HAVE_FLOAT)
#define RBF_HAVE_FLOAT
#define RBF_DOUBLE 0
#include "instantiate.h"
#undef RBF_DOUBLE
#endif

#if defined(RBF_WITH_DOUBLE) && !defined(RBF_HAVE_DOUBLE)
#define RBF_HAVE_DOUBLE
#define RBF_DOUBLE 1
#include "instantiate.h"
#undef RBF_DOUBLE
#endif
