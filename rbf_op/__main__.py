"""`python -m rbf_op` is `rbf-op`. Touches cli."""

from rbf_op.cli import main

main()
