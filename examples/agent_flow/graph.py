"""The agent: plan, use the tools that the plan names, look at what they say, plan again; then write, and ask a human.

It is a loop of steps, each of which is kept. Whatever dies, the agent goes on with the step that was not done, and none of the
answers that were paid for is asked for again. What it has done so far stands in the context, as the transcript.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from agent_flow.client import ServiceDown, ask
from cnstra import (
    CNS,
    Axon,
    Context,
    Expectation,
    MaxDurationExceeded,
    MemberFailure,
    Scatter,
    Signal,
    collateral,
    neuron,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody wants to know; ``rounds`` is how often the agent may plan, ``patience`` how long the draft may lie."""

    ticket: str
    text: str
    rounds: int = 5
    patience: timedelta = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that the plan of a round names."""

    round: int
    tool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What the human says of a draft."""

    approved: bool
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end: what was found, and whether a human has seen it."""

    ticket: str
    text: str
    reviewed: bool


question_asked = collateral("question.asked", Question)
round_due = collateral("round.due", int)  # the loop: the desk begins it, the planner goes on with it
draft_reviewed = collateral("draft.reviewed", Review)  # comes from outside


class DeskAxon(Axon):
    """What a new question brings about."""

    round_due = round_due


class PlannerAxon(Axon):
    """A plan names tools; when they have answered, another plan is due, until it is enough."""

    tool_call = collateral("tool.call", ToolCall)
    round_due = round_due
    enough = collateral("enough.known", int)


class ToolsAxon(Axon):
    """What a tool has found."""

    observed = collateral("tool.observed", list[str])


class WriterAxon(Axon):
    """What happens to a draft that nobody looked at."""

    unreviewed = collateral("draft.unreviewed", Question)


class EditorAxon(Axon):
    """The end."""

    answered = collateral("question.answered", Answer)
    withdrawn = collateral("question.withdrawn", Question)


# The service fails and stalls. Neither is a reason to give up soon; that it refuses something is a reason to do so at once.
stubborn = Retrying(
    stop=stop_after_attempt(8),
    wait=wait_exponential(multiplier=0.1, max=5) + wait_random(0, 0.1),
    retry=retry_if_exception_type((ServiceDown, MaxDurationExceeded)),
)
at_most = timedelta(seconds=2)  # for one answer: who waits longer waits in vain

desk = neuron("desk", DeskAxon)
planner = neuron("planner", PlannerAxon, retry=stubborn, max_duration=at_most)
tools = neuron("tools", ToolsAxon, retry=stubborn, max_duration=at_most)
writer = neuron("writer", WriterAxon, retry=stubborn, max_duration=at_most)
editor = neuron("editor", EditorAxon)


@desk.dendrite(question_asked)
def open_ticket(question: Question, axon: DeskAxon, ctx: Context) -> Signal[int]:
    """Write down what is asked, and begin the first round."""
    ctx["ticket"], ctx["question"], ctx["rounds"] = question.ticket, question.text, question.rounds
    ctx["patience"] = question.patience.total_seconds()
    return axon.round_due.create_signal(1)


@planner.dendrite(round_due)
async def plan(number: int, axon: PlannerAxon, ctx: Context) -> Signal[int] | Scatter[ToolCall]:
    """Ask for a plan. It names tools, which are used side by side, or says that enough is known."""
    if number > ctx["rounds"]:
        note(ctx, number, "plan", "out of rounds")
        return axon.enough.create_signal(number)
    answer = await ask("plan", key=ctx.idempotency_key, question=ctx["question"], round=number)
    note(ctx, number, "plan", "enough" if answer["done"] else f"use {', '.join(answer['tools'])}")
    if answer["done"]:
        return axon.enough.create_signal(number)
    ctx["round"] = number
    return axon.tool_call.scatter([ToolCall(round=number, tool=tool) for tool in answer["tools"]], limit=3)


@tools.dendrite(PlannerAxon.tool_call)
async def use(call: ToolCall, axon: ToolsAxon, ctx: Context) -> Signal[list[str]] | None:
    """Use a tool, page by page. Another try goes on after the last page that was read."""
    read: dict[str, Any] = ctx.progress or {"pages": [], "more": True}
    pages: list[str] = read["pages"]
    while read["more"]:
        if ctx.cancelled:
            return None  # nobody waits for it any more
        key = f"{ctx.idempotency_key}/{len(pages)}"
        page = await ask("tool", key=key, tool=call.tool, question=ctx["question"], page=len(pages))
        pages.append(page["text"])
        read = {"pages": pages, "more": page["more"]}
        ctx.heartbeat(read)  # it has come this far, and its time begins anew
    note(ctx, call.round, call.tool, "; ".join(pages))
    return axon.observed.create_signal(pages)


@planner.gather(ToolsAxon.observed, return_failures=True)
def look(results: list[list[str] | MemberFailure], axon: PlannerAxon, ctx: Context) -> Signal[int]:
    """When all tools of a round have ended, well or not, the next plan is due."""
    number: int = ctx["round"]
    found: list[str] = ctx.get("findings", [])
    for result in results:
        if isinstance(result, MemberFailure):
            call: ToolCall = result.payload
            note(ctx, number, call.tool, f"no answer: {result.error}")
        else:
            found += result
    ctx["findings"] = found
    return axon.round_due.create_signal(number + 1)


@writer.dendrite(PlannerAxon.enough)
async def write(number: int, axon: WriterAxon, ctx: Context) -> Expectation:
    """Write a draft, and wait for a human, who has days for it. Nothing is held meanwhile: no thread, no worker."""
    findings: list[str] = ctx.get("findings", [])
    draft = (await ask("summarise", key=ctx.idempotency_key, question=ctx["question"], findings=findings))["text"]
    ctx["draft"] = draft
    note(ctx, number, "draft", draft)
    question = Question(ticket=ctx["ticket"], text=ctx["question"])
    return ctx.expect(
        draft_reviewed,
        key=review_of(question.ticket),
        timeout=timedelta(seconds=ctx["patience"]),
        on_timeout=axon.unreviewed.create_signal(question),
    )


@editor.dendrite(draft_reviewed)
def decide(review: Review, axon: EditorAxon, ctx: Context) -> Signal[Any]:
    """Do as the human says."""
    note(ctx, 0, "review", f"{'approved' if review.approved else 'rejected'} by {review.by}")
    if not review.approved:
        return axon.withdrawn.create_signal(Question(ticket=ctx["ticket"], text=ctx["question"]))
    return axon.answered.create_signal(Answer(ticket=ctx["ticket"], text=ctx["draft"], reviewed=True))


@editor.dendrite(WriterAxon.unreviewed)
def publish(question: Question, axon: EditorAxon, ctx: Context) -> Signal[Answer]:
    """Nobody has looked at it in time."""
    note(ctx, 0, "review", "nobody came")
    return axon.answered.create_signal(Answer(ticket=question.ticket, text=ctx["draft"], reviewed=False))


def review_of(ticket: str) -> str:
    """The key by which a review finds the run that waits for it."""
    return f"review-{ticket}"


def note(ctx: Context, number: int, step: str, said: str) -> None:
    """Add a line to the transcript. Tools that end at the same time both do, in one order or the other."""
    entry = asdict(Entry(round=number, step=step, said=said))
    ctx.update("transcript", lambda entries: [*(entries or []), entry])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the transcript; a review belongs to no round, and has 0."""

    round: int
    step: str
    said: str


cns = CNS([desk, planner, tools, writer, editor], name="agent_flow")
