"""A graph's drawing holds every arrow, whatever the names are."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra import CNS, collateral, neuron
from cnstra.cli.drawing import Format, drawn


def graph(name: str = "shop") -> CNS:
    """One neuron that hears from outside and from itself, and says something that nobody hears."""
    begin = collateral(f"{name}.begin", dict)
    again, out = collateral(f"{name}.again", dict), collateral(f"{name}.out", dict)
    only = neuron(f"{name} itself", {"again": again, "out": out})

    @only.dendrite(begin, again)
    def step(payload: Any) -> None:
        """Never called."""

    return CNS([only], name=name)


def test_a_drawing_has_entries_loops_and_outputs() -> None:
    """What begins, what goes round, what comes out."""
    assert drawn(graph(), Format.mermaid).splitlines() == [
        "flowchart LR",
        '    n0["shop itself"]',
        '    c2(["shop.begin"]) --> n0',
        '    n0 -- "shop.again" --> n0',
        '    n0 --> c1(["shop.out"])',
    ]
    assert drawn(graph(), Format.dot).splitlines() == [
        'digraph "shop" {',
        "    rankdir=LR;",
        "    node [shape=box];",
        '    n0 [label="shop itself"];',
        '    c2 [label="shop.begin", shape=box, style=rounded];',
        "    c2 -> n0;",
        '    n0 -> n0 [label="shop.again"];',
        '    c1 [label="shop.out", shape=box, style=rounded];',
        "    n0 -> c1;",
        "}",
    ]


def test_a_gather_is_drawn_apart_from_what_is_heard() -> None:
    """A thick arrow with a label of its own; the gathered collateral is no output."""
    begin, item, done = collateral("begin", int), collateral("item", int), collateral("item.done", int)
    splitter, worker, report = neuron("splitter", {"item": item}), neuron("worker", {"done": done}), neuron("report")
    splitter.dendrite(begin)(lambda payload: None)
    worker.dendrite(item)(lambda payload: None)
    report.gather(done)(lambda results: None)
    cns = CNS([splitter, worker, report], name="many")

    assert drawn(cns, Format.mermaid).splitlines()[4:] == [
        '    c1(["begin"]) --> n0',
        '    n0 -- "item" --> n1',
        '    n1 == "gather item.done" ==> n2',
    ]
    assert drawn(cns, Format.dot).splitlines()[-3:-1] == [
        '    n0 -> n1 [label="item"];',
        '    n1 -> n2 [label="gather item.done", style=bold];',
    ]


@pytest.mark.parametrize("name", ['say "hi"', "a\\b", "a[b](c){d}", "x-->y", "#quot;", "<script>"])
def test_a_name_cannot_break_out_of_its_label(name: str) -> None:
    """Names are free, and the tools read marks in them."""
    mermaid, dot = drawn(graph(name), Format.mermaid), drawn(graph(name), Format.dot)

    for line in mermaid.splitlines()[1:]:
        label = line.split('"')
        assert len(label) == 3
        assert not set(label[1]) & set('"<>[](){}\\')
    for line in dot.splitlines()[3:-1]:
        assert line.replace("\\\\", "").replace('\\"', "").count('"') in (0, 2)
