"""The ways of operations over replicas and the primary, step by step: who is asked, and what follows from the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cnstra.orchestrator.driving import driven
from cnstra.orchestrator.errors import DataRefused, StoreUnavailable
from cnstra.stores.postgres.migrating import migrations
from cnstra.stores.postgres.replicas import Call, Replicas
from cnstra.stores.postgres.standing import BehindError, Standing
from cnstra.stores.postgres.transactions import PostgresOperation, Replica

SCHEMA = migrations()[-1][0]
PRIMARY = Standing(is_replica=False, system=7, timeline=1, lsn=1_000, schema=SCHEMA)
FIRST = "postgresql://a/x"
AWAY = StoreUnavailable("away")


def operation(replica: Replica = Replica.ALWAYS) -> PostgresOperation[Any]:
    def steps(_repeated: bool) -> Any:
        raise NotImplementedError

    return PostgresOperation("look", steps, replica=replica)


class Servers:
    """Answers calls, and writes down who was asked what. What is to be raised is an exception."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "standing": PRIMARY,
            "primary": "the primary's",
            "replica": "a replica's",
        } | answers
        self.asked: list[str] = []

    def __call__(self, call: Call) -> Any:
        kind = (
            "replica" if call.server is not None else {"look": "primary"}.get(call.operation.name, call.operation.name)
        )
        self.asked.append(kind)
        answer = self.answers[kind]
        if isinstance(answer, Exception):
            raise answer
        return (answer, PRIMARY._replace(is_replica=True)) if kind == "replica" else answer


def look(replicas: Replicas, servers: Servers, replica: Replica = Replica.ALWAYS) -> Any:
    servers.asked.clear()
    return driven(replicas.route(operation(replica)), servers)


def test_a_read_goes_to_a_replica() -> None:
    """The first one asks the primary which log it is."""
    replicas, servers = Replicas([FIRST]), Servers()
    assert look(replicas, servers) == "a replica's"
    assert servers.asked == ["standing", "replica"]
    assert look(replicas, servers) == "a replica's"
    assert servers.asked == ["replica"]


def test_a_write_goes_to_the_primary_and_is_followed_by_its_position() -> None:
    """So does what decides on writes."""
    replicas, servers = Replicas([FIRST]), Servers()
    assert look(replicas, servers, Replica.NEVER) == "the primary's"
    assert servers.asked == ["primary", "standing"]


@pytest.mark.parametrize("problem", [BehindError(), AWAY])
def test_what_no_replica_answers_the_primary_does(problem: Exception) -> None:
    """And for a moment no replica is asked."""
    replicas, servers = Replicas([FIRST]), Servers(replica=problem)
    assert look(replicas, servers) == "the primary's"
    assert servers.asked == ["standing", "replica", "primary", "standing"]
    assert look(replicas, servers) == "the primary's"
    assert servers.asked == ["primary", "standing"]


def test_each_replica_is_asked_in_its_turn() -> None:
    """One that cannot be used is passed over for the next one."""
    replicas = Replicas([FIRST, "postgresql://b/x"])
    asked: list[int | None] = []

    def carry_out(call: Call) -> Any:
        asked.append(call.server)
        if call.server == 1 and asked.count(1) == 1:
            raise AWAY
        return PRIMARY if call.server is None else ("a replica's", PRIMARY._replace(is_replica=True))

    for _ in range(3):
        driven(replicas.route(operation()), carry_out)
    assert asked == [None, 1, 0, 0, 0]


def test_a_write_of_which_nobody_knows_whether_it_was_committed_counts() -> None:
    """Until the primary has said how far it is, no replica is read: where it does not say, the primary is asked itself."""
    replicas, servers = Replicas([FIRST]), Servers(primary=AWAY)
    with pytest.raises(StoreUnavailable):
        look(replicas, servers, Replica.NEVER)
    servers.answers |= {"primary": "the primary's", "standing": AWAY}
    assert look(replicas, servers) == "the primary's"
    assert "replica" not in servers.asked
    servers.answers |= {"standing": PRIMARY}
    assert look(replicas, servers) == "a replica's"
    assert servers.asked == ["standing", "replica"]


def test_a_primary_that_is_away_from_the_beginning_is_done_without() -> None:
    """It is asked who it is, and not again and again."""
    replicas, servers = Replicas([FIRST]), Servers(standing=AWAY)
    assert look(replicas, servers) == "a replica's"
    assert look(replicas, servers) == "a replica's"
    assert servers.asked == ["replica"]


def test_what_a_replica_does_not_find_the_primary_is_asked_for() -> None:
    """Where somebody may have been told of it; an empty list is an answer."""
    replicas, servers = Replicas([FIRST]), Servers(replica=None)
    assert look(replicas, servers, Replica.IF_FOUND) == "the primary's"
    assert look(replicas, servers, Replica.ALWAYS) is None


def test_transactions_of_which_nobody_has_heard_after_a_failover_are_forgotten(
    in_transaction: Callable[[Replicas, str], None],
) -> None:
    """They are not waited for for ever."""
    replicas = Replicas([FIRST])
    in_transaction(replicas, "99")
    servers = Servers(transactions_ended=DataRefused("transaction ID 99 is in the future"))
    assert look(replicas, servers) == "the primary's"
    assert servers.asked == ["transactions_ended", "primary", "standing"]
    assert look(replicas, servers) == "a replica's"


def test_a_transaction_that_is_open_keeps_reads_on_the_primary(
    in_transaction: Callable[[Replicas, str], None],
) -> None:
    """When it has ended they go to replicas again."""
    replicas, servers = Replicas([FIRST]), Servers(transactions_ended=[])
    in_transaction(replicas, "99")
    assert look(replicas, servers) == "the primary's"
    servers.answers["transactions_ended"] = ["99"]
    assert look(replicas, servers) == "a replica's"
    assert servers.asked == ["transactions_ended", "standing", "replica"]


@pytest.fixture
def in_transaction() -> Callable[[Replicas, str], None]:
    """Does something in a transaction of the user's own."""

    def do(replicas: Replicas, transaction: str) -> None:
        def nothing(_repeated: bool) -> Any:
            return "done"
            yield

        steps = replicas.within(PostgresOperation("submit", nothing)).steps(False)
        assert next(steps).statement == "transaction_id"
        with pytest.raises(StopIteration) as stop:
            steps.send([(transaction,)])
        assert stop.value.value == "done"

    return do
