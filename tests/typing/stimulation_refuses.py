"""What must not type-check of a graph within one process; each mistake is marked for both checkers.

Nothing in this file runs.
"""

from __future__ import annotations

from typing import Any

from cnstra import (
    CNS,
    Axon,
    Context,
    Drain,
    Response,
    StimulationGate,
    Task,
    afferent_path,
    collateral,
    modality,
    neuron,
)
from cnstra.stores import InMemoryContextStore


class DeckAxon(Axon):
    made = collateral("deck.made", str)


asked = collateral("deck.asked", str)
deck = neuron("deck", DeckAxon, local=int)


@deck.dendrite(asked)
def make(title: str, axon: DeckAxon, ctx: Context[dict[str, int], int]) -> None:
    ctx.local.set(title)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.set(title)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(ctx.modality.afferent_paths)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    ctx.abort_signal.set()  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess, reportUnknownMemberType]


cns = CNS([deck])
one = asked.create_signal("birds")


def hears_nothing() -> None: ...
def hears_a_drain(drain: Drain) -> None: ...
def hears_a_response(response: Response) -> None: ...
async def hears_later(drain: Drain) -> None: ...
def gives_a_number(response: Response) -> int:
    return 1


class Half:
    def get(self) -> Any:
        return None


# What it starts with.
cns.run(asked)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run("birds")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(["birds"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
cns.stimulate(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.activate([one])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
cns.activate(one)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Options of the wrong kind, or that there are not.
cns.run(one, concurency=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
cns.run(one, concurrency="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, max_neuron_hops=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, abort_signal=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, ctx={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, ctx=Half())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, create_context_store=InMemoryContextStore())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, create_context_store=dict)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, modality="click")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, afferent_path="click")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Listeners.
cns.run(one, on_response=hears_nothing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, on_response=hears_a_drain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, on_response=gives_a_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, on_drain=hears_a_response)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.run(one, on_drain=hears_later)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.add_drain_listener(hears_later)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.add_response_listener(hears_a_drain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cns.add_response_listener(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# What comes of it does not change, and is awaited where it is async.
stimulation = cns.run(one)
stimulation.is_complete = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
stimulation.context = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def on_response(response: Response) -> None:
    response.error = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    print(response.output_signal.payload)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    response.context()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def waits() -> None:
    await stimulation  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await cns.run(one)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await stimulation.wait_until_complete  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


Task(deck, asked, one)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Task(neuron=deck, collateral=asked)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Task(neuron="deck", collateral=asked, signal=one)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# A gate.
StimulationGate(cns)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
StimulationGate(cns, "birds")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
StimulationGate(cns, one, concurency=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
StimulationGate(deck, one)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Modalities.
click = afferent_path()
modality(click="click")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
entry = modality(click=click)
afferent_path("click")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
deck.modality_dendrite(asked, modality=entry, paths={click: lambda title: title})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
deck.modality_dendrite(asked, modality=click, default=lambda title: title, output=lambda word: None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
deck.modality_dendrite(asked, modality=entry, paths={"click": lambda title: title}, output=lambda word: None)  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
