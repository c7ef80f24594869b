"""``cnstra graph``: a graph as a drawing, in the text of Mermaid or of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, NamedTuple

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

    Neurons are boxes, collaterals are arrows; what begins a run, and what comes out of it, is rounded. A thick arrow,
    "gather ...", goes to a neuron that gathers.
    """
    say(drawn(load(app), format))
    return Exit.DONE


def drawn(cns: CNS, format: Format) -> str:
    """The drawing's text."""
    return _mermaid(cns) if format is Format.mermaid else _dot(cns)


class _Arrow(NamedTuple):
    """A way between two neurons; from outside without a source, to the outside without a target."""

    source: str | None
    collateral: str
    target: str | None
    gathers: bool = False


def _arrows(cns: CNS) -> Iterator[_Arrow]:
    emitted = {
        collateral.name for neuron in cns.neurons.values() for collateral in axon_collaterals(neuron.axon).values()
    }
    for name in cns.collaterals:
        if name not in emitted:
            yield from _heard(cns, name)
    for neuron in cns.neurons.values():
        for collateral in axon_collaterals(neuron.axon).values():
            heard = list(_heard(cns, collateral.name))
            for arrow in heard:
                yield arrow._replace(source=neuron.name)
            if not heard:
                yield _Arrow(neuron.name, collateral.name, None)


def _heard(cns: CNS, name: str) -> Iterator[_Arrow]:
    for dendrite in cns.subscribers(name):
        yield _Arrow(None, name, dendrite.neuron.name)
    if name in cns.network.gathered:
        for neuron in cns.neurons.values():
            if (gather := neuron.dendrites.get(name)) is not None and gather.gathering is not None:
                yield _Arrow(None, name, neuron.name, gathers=True)


def _label(arrow: _Arrow) -> str:
    return f"gather {arrow.collateral}" if arrow.gathers else arrow.collateral


def _mermaid(cns: CNS) -> str:
    neurons = {name: f"n{number}" for number, name in enumerate(cns.neurons)}
    ends = {name: f"c{number}" for number, name in enumerate(cns.collaterals)}
    lines = ["flowchart LR"]
    lines += [f'    {known}["{_entities(name)}"]' for name, known in neurons.items()]
    for arrow in _arrows(cns):
        source, collateral, target, gathers = arrow
        end = f'{ends[collateral]}(["{_entities(collateral)}"])'
        if source is None or target is None:
            lines.append(
                f"    {end if source is None else neurons[source]} --> {end if target is None else neurons[target]}"
            )
        else:
            start, tip = ("==", "==>") if gathers else ("--", "-->")
            lines.append(f'    {neurons[source]} {start} "{_entities(_label(arrow))}" {tip} {neurons[target]}')
    return "\n".join(lines)


def _dot(cns: CNS) -> str:
    neurons = {name: f"n{number}" for number, name in enumerate(cns.neurons)}
    ends = {name: f"c{number}" for number, name in enumerate(cns.collaterals)}
    lines = [f"digraph {_quoted(cns.durable_name)} {{", "    rankdir=LR;", "    node [shape=box];"]
    lines += [f"    {known} [label={_quoted(name)}];" for name, known in neurons.items()]
    for arrow in _arrows(cns):
        source, collateral, target, gathers = arrow
        if source is None or target is None:
            lines.append(f"    {ends[collateral]} [label={_quoted(collateral)}, shape=box, style=rounded];")
        line = f"{ends[collateral] if source is None else neurons[source]} -> "
        line += ends[collateral] if target is None else neurons[target]
        bold = ", style=bold" if gathers else ""
        label = f" [label={_quoted(_label(arrow))}{bold}]" if source is not None and target is not None else ""
        lines.append(f"    {line}{label};")
    return "\n".join([*lines, "}"])


def _entities(name: str) -> str:
    """A name in Mermaid's quotes: what could be read as its own marks is written by its number."""
    return "".join(char if char.isalnum() or char in " ._-/:" else f"#{ord(char)};" for char in name)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
