"""Every error has an exit code, and one line."""

from __future__ import annotations

import pytest

from cnstra.exits import MEANINGS, EndedWith, Exit, code_of, line_of
from cnstra.orchestrator import errors

EXPECTED = {
    errors.RunNotFound: Exit.NOT_FOUND,
    errors.GraphError: Exit.CONFIGURATION,
    errors.OutputError: Exit.CONFIGURATION,
    errors.ConfigurationError: Exit.CONFIGURATION,
    errors.SchemaError: Exit.CONFIGURATION,
    errors.SubmitError: Exit.REFUSED,
    errors.PayloadError: Exit.REFUSED,
    errors.PolicyError: Exit.REFUSED,
    errors.RunStateError: Exit.REFUSED,
    errors.QueryError: Exit.REFUSED,
    errors.StoreUnavailable: Exit.AWAY,
    errors.BrokerAway: Exit.AWAY,
    errors.ServersError: Exit.FAILED,
    ValueError: Exit.FAILED,
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_an_error_comes_to_its_exit_code(kind: type[Exception]) -> None:
    """A script can tell bad input from a server that is away."""
    assert code_of(kind("no")) is EXPECTED[kind]


def test_what_a_child_ended_with_is_passed_on() -> None:
    """Its parent ends with the same."""
    assert code_of(EndedWith("no", Exit.AWAY)) is Exit.AWAY


def test_a_line_is_one_line_and_names_a_foreign_type() -> None:
    """The message of one of ours stands for itself."""
    assert line_of(errors.SubmitError("a\n  b")) == "a b"
    assert line_of(KeyError("x")) == "KeyError: 'x'"
    assert line_of(ValueError()) == "ValueError"


def test_every_exit_code_has_a_meaning() -> None:
    """The help and the reference list them all."""
    assert set(MEANINGS) == set(Exit)
