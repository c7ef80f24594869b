"""The page about the state machines is drawn from their tables."""

from __future__ import annotations

from support.state_machines import PAGE, generated


def test_the_page_is_drawn_from_the_tables() -> None:
    """A transition that was added, or goes elsewhere now, is on the page."""
    assert PAGE.read_text() == generated(), "write it anew: cd tests && python -m support.state_machines"
