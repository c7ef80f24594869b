"""The proof: the same agent as a loop of twenty lines that never fails, and what it would have written down.

A run has done each step once when its transcript is that of the loop; tools of one round may have ended in any order. And each
answer was paid for once: the service's bill has the keys of these steps, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agent_flow import brain
from agent_flow.graph import Question


def differences(question: Question, review: str, transcript: Sequence[dict[str, Any]]) -> Iterator[str]:
    """In what a transcript is not that of an agent that nothing ever happened to."""
    wanted, found = _sorted(expected(question, review)), _sorted(transcript)
    for entry in found:
        if found.count(entry) > wanted.count(entry):
            yield f"{question.ticket}: too often: {entry}"
    for entry in wanted:
        if wanted.count(entry) > found.count(entry):
            yield f"{question.ticket}: missing: {entry}"
    order = [entry["round"] or len(transcript) for entry in transcript]
    if order != sorted(order):
        yield f"{question.ticket}: the rounds are not in their order: {order}"


def expected(question: Question, review: str) -> list[dict[str, Any]]:
    """The transcript that a question should have, with this review."""
    transcript: list[dict[str, Any]] = []

    def note(number: int, step: str, said: str) -> None:
        transcript.append({"round": number, "step": step, "said": said})

    findings, number = 0, 1
    while number <= question.rounds and not (planned := brain.plan(question.text, number))["done"]:
        note(number, "plan", f"use {', '.join(planned['tools'])}")
        for tool in planned["tools"]:
            try:
                pages = list(_pages(tool, question.text))
            except brain.BadRequest as error:
                note(number, tool, f"no answer: tool: {error}")
            else:
                note(number, tool, "; ".join(pages))
                findings += len(pages)
        number += 1
    note(number, "plan", "out of rounds" if number > question.rounds else "enough")
    note(number, "draft", brain.answer("/summarise", {"question": question.text, "findings": [""] * findings})["text"])
    note(0, "review", review)
    return transcript


def bill(transcript: Sequence[dict[str, Any]]) -> int:
    """How many answers a run with this transcript has been given."""
    answers = 0
    for entry in transcript:
        if entry["step"] in ("plan", "draft"):
            answers += entry["said"] != "out of rounds"
        elif entry["step"] != "review" and not entry["said"].startswith("no answer"):
            answers += len(entry["said"].split("; "))
    return answers


def _pages(tool: str, question: str) -> Iterator[str]:
    more, page = True, 0
    while more:
        said = brain.tool(tool, question, page)
        yield said["text"]
        more, page = said["more"], page + 1


def _sorted(transcript: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(transcript, key=lambda entry: (entry["round"], entry["step"], entry["said"]))
