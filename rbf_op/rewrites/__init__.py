"""What Theano's optimizer makes of the nodes; importing this registers it.

products.py: products with a kernel matrix, and its sums, done without the matrix (outer_products.py
reads what meets it). sums.py: sums of a matrix or a product that come with their gradients.
symmetric.py: gradients of products with K of y = x. repeated.py: gradients that need not be stored.
slices.py: slices of a matrix or a product. gradients.py: gradient nodes that compute what is asked
of them. Above ops/, below the front ends. May import Theano.
"""

from rbf_op.rewrites import gradients, products, repeated, slices, sums, symmetric

__all__ = ["gradients", "products", "repeated", "slices", "sums", "symmetric"]
