"""The tree of errors."""

from __future__ import annotations

import pickle

import pytest

import cnstra
from cnstra.orchestrator import errors

ERRORS = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_exported_under_the_name_that_sql_shows(error: type[Exception]) -> None:
    """Whoever reads ``cnstra.WorkerLost`` in a row can import it, and all stand under the one root."""
    assert issubclass(error, cnstra.CnstraError)
    assert error.__module__ == "cnstra"
    assert getattr(cnstra, error.__name__) is error
    assert error.__name__ in cnstra.__all__
    assert isinstance(pickle.loads(pickle.dumps(error("text"))), error)
