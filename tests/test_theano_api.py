"""rbf_op.theano_api: the two functions that hide a difference between the Theanos.

May import rbf_op, then Theano.
"""

import theano.tensor as T

from rbf_op.theano_api import FunctionGraph, TopoOptimizer, clients, local_optimizer


def test_rewrites_get_the_node_and_its_graph():
    x = T.dvector("x")
    calls = []

    @local_optimizer([T.Elemwise])
    def exp_to_cosh(node, fgraph):
        if node.op != T.exp:
            return False
        calls.append((fgraph, list(clients(fgraph, node.outputs[0]))))
        return [T.cosh(node.inputs[0])]

    graph = FunctionGraph([x], [T.exp(x)])
    TopoOptimizer(exp_to_cosh).optimize(graph)
    assert graph.outputs[0].owner.op == T.cosh
    assert calls == [(graph, [("output", 0)])]
    assert exp_to_cosh.__name__ == "exp_to_cosh"


def test_clients_name_the_nodes_that_use_a_variable():
    x = T.dvector("x")
    twice = T.exp(x)
    graph = FunctionGraph([x], [T.sqr(twice), twice], clone=False)
    users = {user if isinstance(user, str) else user.op for user, _ in clients(graph, twice)}
    assert users == {T.sqr, "output"}
