"""What Theano's optimizer makes of the nodes; importing this registers it.

products.py: products with a kernel matrix, done without the matrix. sums.py: sums of a matrix or a
product that come with their gradients. gradients.py: gradient nodes that compute what is asked of
them. Above ops/, below the front ends. May import Theano.
"""

from rbf_op.rewrites import gradients, products, sums

__all__ = ["gradients", "products", "sums"]
