"""The agent, by its command: a flaky service, workers that die, a human, a cancel; each step once; and its proof can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_flow import proof
from agent_flow.graph import Question

from support.commands import Servers
from support.examples import play, shows_its_graph

QUESTION = Question(ticket="T-1", text="Can we have a picnic in Lisbon on Sunday?")
REVIEW = "approved by Ada"


@pytest.mark.past_the_pooler
def test_each_step_of_the_agent_is_in_its_transcript_once(both: Servers, tmp_path: Path) -> None:
    """Through stalls, failures and two killed workers; with a review, a rejection, a human who never came, and a cancel."""
    ended = play("agent_flow", "--seed", "5", "--kills", "2", servers=both, home=tmp_path)

    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("SIGKILL to worker") == 2
    assert "nobody wants to know any more" in ended.out
    assert "'stalled'" in ended.out
    assert "'failed'" in ended.out
    assert all(f"review         {said}" in ended.out for said in ("approved by Ada", "rejected by Ada", "nobody came"))
    assert "no answer: tool: nobody answers the fax any more" in ended.out
    assert "out of rounds" in ended.out
    assert ended.out.rstrip().endswith("PROVED: each step once, each answer paid for once.")


Entries = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("tampering", "difference"),
    [
        (lambda entries: [*entries[:3], *entries[2:]], "too often"),
        (lambda entries: [*entries[:3], *entries[4:]], "missing"),
        (lambda entries: [{**entries[0], "said": "something else"}, *entries[1:]], "too often"),
        (lambda entries: [entries[-2], *entries[:-2], entries[-1]], "not in their order"),
    ],
    ids=["twice", "lost", "another answer", "another order"],
)
def test_the_proof_fails_for_a_transcript_that_is_not_that_of_the_loop(
    tampering: Callable[[Entries], Entries], difference: str
) -> None:
    """One entry too many, too few, or out of place is found and named."""
    transcript = proof.expected(QUESTION, REVIEW)
    assert list(proof.differences(QUESTION, REVIEW, transcript)) == []

    [found, *_] = proof.differences(QUESTION, REVIEW, tampering(transcript))

    assert difference in found


def test_the_picture_in_the_readme_is_that_of_the_graph() -> None:
    """The README shows the graph that the example has, as the command draws it."""
    assert shows_its_graph("agent_flow")
