"""The ledger of handlers' calls, read while others write to it."""

import json
from pathlib import Path

from support.ledger import Ledger

_CALL = {
    "key": "k",
    "run": "01a224e5-6871-70e1-9d98-09e227885bd1",
    "activation": 7,
    "attempt": 1,
    "try": 1,
    "version": 0,
    "pid": 1,
    "what": "called",
}


def test_a_call_that_is_half_written_is_not_there_yet(tmp_path: Path) -> None:
    """A file system shows the first page of a write before its second: the reader waits for the end of the line."""
    line = json.dumps(_CALL) + "\n"
    path = tmp_path / "ledger"
    for length in range(len(line)):
        path.write_text(line + line[:length])
        assert [entry.activation_id for entry in Ledger(path).entries()] == [7]
