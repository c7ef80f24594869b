"""Orders reach a child as they were given."""

from __future__ import annotations

import pytest

from cnstra import ConfigurationError
from cnstra.running.orders import Orders


def orders(**changes: object) -> Orders:
    """Some orders, changed."""
    given: dict[str, object] = {
        "app": "shop:cns", "database_url": "postgresql://u:p@h/d", "broker_url": "redis://h", "processes": 2,
        "threads": 3, "queues": ("a", "b"), "lease": 1.5, "drain": 0.0, "log_level": "info", "debug": True,
        "coroutines": 4, "transactions": 5,
        "contexts": ("a=redis://:p@h/0", "shop:store"),
    }  # fmt: skip
    return Orders(**given | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("queues", [None, ("bank",), ("a", "b")])
def test_orders_survive_the_pipe(queues: tuple[str, ...] | None) -> None:
    """On one line."""
    given = orders(queues=queues)

    line = given.packed()

    assert line.count(b"\n") == 1
    assert Orders.unpacked(line) == given


def test_orders_show_no_password() -> None:
    """They hold two URLs."""
    assert "p@h" not in repr(orders())


def test_orders_that_cannot_be_followed_are_refused() -> None:
    """In the worker's own words."""
    with pytest.raises(ConfigurationError, match="empty list of queues"):
        orders(queues=()).settings()
