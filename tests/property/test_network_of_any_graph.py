"""The network of any graph, against a plain search from every neuron."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnstra.orchestrator.graph import CNS, Neuron, collateral, neuron

# The first example builds classes and imports libraries, on machines of any load: time says nothing here.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

Edges = dict[int, set[int]]
GRAPHS = st.integers(1, 8).flatmap(
    lambda size: st.dictionaries(
        st.integers(0, size - 1), st.sets(st.integers(0, size - 1)), min_size=size, max_size=size
    )
)


def build(edges: Edges) -> CNS:
    """A CNS in which neuron ``a`` emits to neuron ``b`` for every edge; each hears a collateral of its own."""
    incoming = {node: collateral(f"to.{node}") for node in edges}
    neurons: list[Neuron] = []
    for node, targets in edges.items():
        made = neuron(f"n{node}", {f"to_{target}": incoming[target] for target in targets})
        made.dendrite(incoming[node])(lambda _payload: None)
        neurons.append(made)
    return CNS(neurons, name="any")


def reachable(edges: Edges, start: int) -> set[int]:
    """Every node that a walk of no, one or more steps from ``start`` can meet."""
    seen, todo = {start}, [start]
    while todo:
        for target in edges[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    return seen


@settings(CALM)
@given(GRAPHS)
def test_components_are_the_neurons_that_reach_each_other(edges: Edges) -> None:
    """Each neuron stands in one component, with exactly those that it reaches and that reach it."""
    reach = {node: reachable(edges, node) for node in edges}
    components = build(edges).network.strongly_connected_components
    assert sorted(name for component in components for name in component) == sorted(f"n{node}" for node in edges)
    for component in components:
        members = {int(name[1:]) for name in component}
        for node in members:
            assert members == {other for other in reach[node] if node in reach[other]}


@settings(CALM)
@given(GRAPHS)
def test_a_component_comes_after_those_that_it_reaches(edges: Edges) -> None:
    """What a neuron can still start stands before it, or in its own component."""
    components = build(edges).network.strongly_connected_components
    place = {int(name[1:]): index for index, component in enumerate(components) for name in component}
    for node, targets in edges.items():
        assert all(place[target] <= place[node] for target in targets)


@settings(CALM)
@given(GRAPHS, st.randoms())
def test_the_fingerprint_does_not_depend_on_the_order_of_definition(edges: Edges, random: Random) -> None:
    """The same structure, its neurons in another order, has the same version; one edge more has another."""
    nodes = list(edges)
    random.shuffle(nodes)
    assert build({node: edges[node] for node in nodes}).version == build(edges).version
    for node in edges:
        for missing in edges.keys() - edges[node]:
            assert build({**edges, node: edges[node] | {missing}}).version != build(edges).version
            return


def test_a_chain_of_thousands_of_neurons_is_no_deep_recursion() -> None:
    """The search keeps its own stack, so that a long graph can be built."""
    size = 3000
    cns = build({node: {node + 1} if node + 1 < size else set() for node in range(size)})
    assert len(cns.network.strongly_connected_components) == size
