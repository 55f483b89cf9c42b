/* All kernels in one precision, chosen by RBF_DOUBLE (0 or 1). Included by kernels.h only. */
#include "precision.h"

#include "exponential.h"

#include "lanes.h"

#include "panel.h"

#include "points.h"

#include "matrix_distances.h"

#include "distances.h"

#include "streamed_rows.h"

#include "forward.h"

#include "product_tiles.h"

#include "symmetric_product.h"

#include "product.h"

#include "logsum.h"

#include "softmax.h"

#include "gradient_job.h"

#include "gradient_weights.h"

#include "gradient_products.h"

#include "matrix_gradient.h"

#include "gradient_reduce.h"

#include "gradient_sums.h"

#include "gradient_packing.h"

#include "gradient.h"
