"""``cnstra graph``: a graph as a drawing, in the text of Mermaid or of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from cnstra.cli.options import App
from cnstra.cli.printing import say
from cnstra.exits import Exit
from cnstra.loading import load
from cnstra.orchestrator.graph import CNS, axon_collaterals


class Format(StrEnum):
    """What reads the drawing."""

    mermaid = "mermaid"
    dot = "dot"


def graph(
    app: App,
    format: Annotated[
        Format, typer.Option(envvar="CNSTRA_GRAPH_FORMAT", metavar="mermaid|dot", help="What is to read it.")
    ] = Format.mermaid,
) -> Exit:
    """Draw a graph as text.

    Neurons are boxes, collaterals are arrows; what begins a run, and what comes out of it, is rounded.
    """
    say(drawn(load(app), format))
    return Exit.DONE


def drawn(cns: CNS, format: Format) -> str:
    """The drawing's text."""
    return _mermaid(cns) if format is Format.mermaid else _dot(cns)


def _arrows(cns: CNS) -> Iterator[tuple[str | None, str, str | None]]:
    """(neuron, collateral, neuron): no first one for what only comes from outside, no last one for what goes there."""
    emitted = {
        collateral.name for neuron in cns.neurons.values() for collateral in axon_collaterals(neuron.axon).values()
    }
    for name in cns.collaterals:
        for dendrite in cns.subscribers(name):
            if name not in emitted:
                yield None, name, dendrite.neuron.name
    for neuron in cns.neurons.values():
        for collateral in axon_collaterals(neuron.axon).values():
            heard = cns.subscribers(collateral.name)
            for dendrite in heard:
                yield neuron.name, collateral.name, dendrite.neuron.name
            if not heard:
                yield neuron.name, collateral.name, None


def _mermaid(cns: CNS) -> str:
    neurons = {name: f"n{number}" for number, name in enumerate(cns.neurons)}
    ends = {name: f"c{number}" for number, name in enumerate(cns.collaterals)}
    lines = ["flowchart LR"]
    lines += [f'    {known}["{_entities(name)}"]' for name, known in neurons.items()]
    for source, collateral, target in _arrows(cns):
        end = f'{ends[collateral]}(["{_entities(collateral)}"])'
        if source is None or target is None:
            lines.append(
                f"    {end if source is None else neurons[source]} --> {end if target is None else neurons[target]}"
            )
        else:
            lines.append(f'    {neurons[source]} -- "{_entities(collateral)}" --> {neurons[target]}')
    return "\n".join(lines)


def _dot(cns: CNS) -> str:
    neurons = {name: f"n{number}" for number, name in enumerate(cns.neurons)}
    ends = {name: f"c{number}" for number, name in enumerate(cns.collaterals)}
    lines = [f"digraph {_quoted(cns.durable_name)} {{", "    rankdir=LR;", "    node [shape=box];"]
    lines += [f"    {known} [label={_quoted(name)}];" for name, known in neurons.items()]
    for source, collateral, target in _arrows(cns):
        if source is None or target is None:
            lines.append(f"    {ends[collateral]} [label={_quoted(collateral)}, shape=box, style=rounded];")
        arrow = f"{ends[collateral] if source is None else neurons[source]} -> "
        arrow += ends[collateral] if target is None else neurons[target]
        label = f" [label={_quoted(collateral)}]" if source is not None and target is not None else ""
        lines.append(f"    {arrow}{label};")
    return "\n".join([*lines, "}"])


def _entities(name: str) -> str:
    """A name in Mermaid's quotes: what could be read as its own marks is written by its number."""
    return "".join(char if char.isalnum() or char in " ._-/:" else f"#{ord(char)};" for char in name)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
