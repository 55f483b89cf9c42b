"""In which dtype the nodes compute, which they refuse, and how variables get there.

May import Theano.
"""

from theano import tensor

from rbf_op.theano_api import Constant, upcast


def refuse_dtype(op_name, argument, variable):
    """Raise TypeError if a variable is of a dtype that no Op here computes with."""
    if variable.dtype == "float16":
        way_out = "Cast it first, e.g. theano.tensor.cast(%s, 'float32')." % argument
    elif variable.dtype.startswith("complex"):
        way_out = "Take theano.tensor.real(%s), or real and imaginary parts as columns." % argument
    else:
        return
    raise TypeError(
        "%s: %s has dtype %s; only float32 and float64 (and integers, which are upcast) are "
        "supported. %s" % (op_name, argument, variable.dtype, way_out)
    )


def common_float(dtypes):
    """The dtype, float32 or float64, that variables of these dtypes are computed in."""
    dtype = upcast(*dtypes)
    return dtype if dtype in ("float32", "float64") else "float64"


def widened(variable, dtype):
    """A variable cast to a dtype; its gradient is cast back, so that it fits the variable.

    Theano gives the input of a cast a gradient of the wider dtype, but that of a copy one of its
    own.
    """
    if variable.dtype == dtype:
        return variable
    if variable.dtype.startswith("float") and not isinstance(variable, Constant):
        variable = tensor.tensor_copy(variable)
    return tensor.cast(variable, dtype)
