"""Waiting for signals from outside: what is expected, what is sent, and what comes too late.

A signal feeds one expectation, the oldest that there is; one that nobody expects yet is kept, and taken by the next that does.
All of it happens under the run's lock, so that of a signal and a timeout that meet one wins.
"""

from __future__ import annotations

from msgspec.structs import replace

from cnstra.orchestrator.machine import groups
from cnstra.orchestrator.machine.events import ExpectationDue, Expected, Sent
from cnstra.orchestrator.machine.folding import Folding
from cnstra.orchestrator.machine.plans import Answer, NewLetter, Verdict
from cnstra.orchestrator.machine.records import Activation, Expectation, Letter, NewActivation, Origin
from cnstra.orchestrator.machine.states import ENDED, ActivationMove, ActivationStatus


def expect(folding: Folding, parent: Activation, expected: Expected) -> None:
    """Wait for a signal; one that is there already starts its dendrites at once."""
    if folding.plan.run.ending is not None:
        return
    numbers = []
    for target in expected.targets:
        number = folding.plan.run.last_activation + 1
        folding.plan.created.append(
            NewActivation(
                activation_id=number,
                parent=parent.activation_id,
                target=replace(target, payload="null"),
                attempt=folding.plan.run.attempt,
                status=ActivationStatus.WAITING,
                available_at=folding.now,
                origin=Origin.AWAITED,
                path=parent.path,
            )
        )
        numbers.append(number)
        folding.run(last_activation=number)
        folding.count(parent.path, 1, 0)
    expectation = Expectation(
        expectation_id=numbers[0],
        collateral=expected.collateral,
        key=expected.key,
        activations=tuple(numbers),
        expires_at=None if expected.timeout is None else folding.now + expected.timeout,
        late=expected.late,
    )
    letter = _letter_for(folding, expectation)
    if letter is None:
        folding.expectations.append(expectation)
        folding.plan.expectations.append(expectation)
    else:
        folding.plan.taken.append((letter, expectation.expectation_id))
        _deliver(folding, expectation, letter.payload)


def _letter_for(folding: Folding, expectation: Expectation) -> Letter | None:
    """The oldest signal that fits; those sent to the run go before those sent by key."""
    fits = (
        letter
        for letter in folding.letters
        if letter.collateral == expectation.collateral and letter.key in (None, expectation.key)
    )
    letter = min(fits, key=lambda letter: (letter.key is not None, letter.number), default=None)
    if letter is not None:
        folding.letters.remove(letter)
    return letter


def sent(folding: Folding, event: Sent) -> Answer:
    """A signal from outside: to the oldest expectation of it, or kept for the next one."""
    run = folding.plan.run
    known = folding.sent.get(event.idempotency_key)
    for letter in folding.plan.letters:  # in the same batch: texts of one signal are alike
        if letter.sent.idempotency_key == event.idempotency_key:
            known = (letter.sent.collateral, letter.sent.payload) == (event.collateral, event.payload)
    if known is not None:
        return Answer(verdict=Verdict.REPEATED if known else Verdict.REFUSED)
    if run.status in ENDED or run.ending is not None:
        return Answer(verdict=Verdict.VOID)
    open_ones = (
        one
        for one in folding.expectations
        if one.collateral == event.collateral and (event.key is None or event.key == one.key)
    )
    expectation = next(open_ones, None)
    if event.key is not None:  # its sender keeps it
        if expectation is None:
            return Answer(verdict=Verdict.VOID)
    else:
        number = run.last_letter + 1
        folding.run(last_letter=number)
        taken_by = None if expectation is None else expectation.expectation_id
        folding.plan.letters.append(NewLetter(number=number, sent=event, taken_by=taken_by))
        if expectation is None:
            folding.letters.append(Letter(number=number, collateral=event.collateral, payload=event.payload))
    if expectation is not None:
        _close(folding, expectation)
        _deliver(folding, expectation, event.payload)
    return Answer(verdict=Verdict.APPLIED)


def expectation_due(folding: Folding, event: ExpectationDue) -> Answer:
    """Nothing has come in time: what was to happen then does."""
    found = (one for one in folding.expectations if one.expectation_id == event.expectation_id)
    expectation = next(found, None)
    if expectation is None or expectation.expires_at is None or expectation.expires_at > folding.now:
        return Answer(verdict=Verdict.VOID)
    _close(folding, expectation)
    for number in expectation.activations[1:]:
        folding.finish(folding.activations[number], ActivationMove.TIME_OUT)
    waiting, late = folding.activations[expectation.expectation_id], expectation.late
    outputs = groups.collect(folding, waiting.path, late.results, late.outputs)
    folding.finish(waiting, ActivationMove.TIME_OUT, outputs=outputs)
    folding.start(waiting, late.targets)
    return Answer(verdict=Verdict.APPLIED)


def _close(folding: Folding, expectation: Expectation) -> None:
    folding.expectations.remove(expectation)
    if expectation in folding.plan.expectations:
        folding.plan.expectations.remove(expectation)
    else:
        folding.plan.closed.append(expectation.expectation_id)


def _deliver(folding: Folding, expectation: Expectation, payload: str) -> None:
    """The dendrites of an expected signal are called with it."""
    for number in expectation.activations:
        waiting = folding.activations.get(number)
        if waiting is None:
            folding.begin_waiting_one(number, payload)
        else:
            folding.plan.delivered[number] = payload
            folding.change(waiting, ActivationMove.ARRIVE, blocked=folding.blocked(waiting), available_at=folding.now)
