/* All kernels in one precision, chosen by RBF_DOUBLE (0 or 1). Included by kernels.h only. */
#include "precision.h"

#include "exponential.h"

#include "panel.h"

#include "distances.h"

#include "forward.h"

#include "product.h"

#include "logsum.h"

#include "gradient_products.h"

#include "gradient.h"
