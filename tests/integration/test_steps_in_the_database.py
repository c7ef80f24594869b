"""What a handler with ``transaction=True`` may do on ``ctx.connection``, and what becomes of it, in a worker of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from tenacity import Retrying, stop_after_attempt

from cnstra import (
    CNS,
    ConfigurationError,
    Context,
    ContextError,
    Orchestrator,
    Run,
    RunResult,
    StimulationError,
    Task,
    TransactionError,
    collateral,
    neuron,
)
from cnstra.orchestrator.ports import Ring, SystemEntropy
from cnstra.stores.memory import MemoryStore
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.worker import Worker
from support import bank
from support.serving import serving
from support.waiting import eventually

PATIENCE = 60.0
COLOURS = ["sync", "async", "generator"]


class Bank:
    """The bank's graph, served, and the user's tables."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        bank.tables(database_url)
        self.database_url = database_url
        self.client = Orchestrator(bank.bank, database=database_url, broker=broker_url)

    def ends(self, colour: str, wrong: str, **order: Any) -> tuple[Run, RunResult]:
        run = self.client.submit(bank.asked.create_signal({"amount": 5, "colour": colour, "wrong": wrong, **order}))
        return run, run.wait(PATIENCE)

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    @property
    def balance(self) -> int:
        return int(self.rows("select balance from account")[0][0])

    def errors(self) -> list[str]:
        """The kinds of the tries that did not commit, in order."""
        query = "select error_type from cnstra.tries where error_type is not null order by try_number"
        return [kind for (kind,) in self.rows(query)]

    def handler_failures(self) -> int:
        return int(self.rows("select failures from cnstra.activation where activation_id = 2")[0][0])


@pytest.fixture
def served(database_url: str, broker_url: str) -> Iterator[Bank]:
    made = Bank(database_url, broker_url)
    with made.client, serving(bank.bank, database_url, broker_url):
        yield made


# -- what it comes to ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_g2_the_effect_and_the_hop_commit_together(served: Bank, colour: str) -> None:
    """With the end of the activation, and with what follows from it."""
    run, result = served.ends(colour, "nothing")

    assert result.status == "completed"
    assert [output.payload for output in result.outputs] == [5]
    assert served.balance == 5
    assert served.rows("select key from booking") == [(f"{run.id}:2:do",)]
    assert served.errors() == []


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_g2_a_handler_that_raises_leaves_nothing(served: Bank, colour: str) -> None:
    """Its policy has it called again; both tries are on record, one effect is there."""
    _, result = served.ends(colour, "raise")

    assert result.status == "completed"
    assert served.balance == 5
    assert served.errors() == ["ConnectionError"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("wrong", "kind"), [("serialization", "SerializationFailure"), ("deadlock", "DeadlockDetected")]
)
def test_what_passes_is_no_failed_try(served: Bank, colour: str, wrong: str, kind: str) -> None:
    """It is called again, more often than its policy allows failures; with a longer and longer pause."""
    _, result = served.ends(colour, wrong, tries=3)

    assert result.status == "completed"
    assert served.balance == 5
    assert served.errors() == [f"psycopg.errors.{kind}"] * 3
    assert served.handler_failures() == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_a_constraint_that_is_checked_at_the_end_fails_the_try(served: Bank, colour: str) -> None:
    """A deferred one, too, is the handler's own error, by its own name, and its policy is asked."""
    _, result = served.ends(colour, "twice", tries=2)

    assert result.status == "failed"
    assert served.balance == 0
    assert served.errors() == ["psycopg.errors.UniqueViolation"] * (1 if colour == "generator" else 2)
    assert "once" in (result.error or "")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_transaction_that_may_not_write_cannot_be_committed(served: Bank, colour: str) -> None:
    """The handler made it so."""
    _, result = served.ends(colour, "unread", tries=2)

    assert result.status == "failed"
    assert set(served.errors()) == {"psycopg.errors.ReadOnlySqlTransaction"}
    assert served.balance == 0


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("wrong", ["commit()", "rollback()", "close()", "autocommit", "with"])
def test_the_end_of_the_transaction_is_not_the_handlers(served: Bank, colour: str, wrong: str) -> None:
    """The methods that would end it are refused; the try has failed, its policy is asked, nothing was committed."""
    _, result = served.ends(colour, wrong)

    assert result.status == "completed"
    assert served.balance == 5
    assert served.errors() == ["cnstra.TransactionError"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("wrong", ["COMMIT", "ROLLBACK", "COMMIT and BEGIN", "a COMMIT that nobody hears of"])
def test_one_that_was_ended_by_a_statement_fails_for_good(served: Bank, colour: str, wrong: str) -> None:
    """What was committed so stays, and the error says it: so the handler is not called again, whatever its policy."""
    run, result = served.ends(colour, wrong)

    assert result.status == "failed"
    assert served.errors() == ["cnstra.TransactionError"]
    assert served.balance == (0 if wrong == "ROLLBACK" else 5)
    assert "what it committed so stays" in (result.error or "")
    assert f"run {run.id}, activation 2" in (result.error or "")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_failed_statement_cannot_be_passed_over(served: Bank, colour: str) -> None:
    """The transaction is broken from there on, and nothing of it may count as done."""
    _, result = served.ends(colour, "a failed statement")

    assert result.status == "completed"
    assert served.balance == 5
    assert served.errors() == ["cnstra.TransactionError"]


# -- the connection ------------------------------------------------------------------------------------------------

go = collateral("steps.go", str)
done = collateral("steps.done", Any)


def _graph(handler: Callable[..., Any], **options: Any) -> CNS:
    one = neuron("one", {"done": done})
    one.dendrite(go, transaction=True, retry=Retrying(stop=stop_after_attempt(1)), **options)(handler)
    return CNS([one], name="steps")


@pytest.fixture
def outcome(database_url: str, broker_url: str) -> Callable[..., list[Any]]:
    """Run a handler with these payloads, one run each; the outputs."""

    def run(handler: Callable[..., Any], *payloads: str, one_by_one: bool = False, **settings: Any) -> list[Any]:
        cns = _graph(handler)
        with (
            Orchestrator(cns, database=database_url, broker=broker_url) as client,
            serving(cns, database_url, broker_url, **settings),
        ):
            runs = []
            for payload in payloads or ("",):
                runs.append(client.submit(go.create_signal(payload)))
                if one_by_one:
                    runs[-1].wait(PATIENCE)
            results = [run.wait(PATIENCE) for run in runs]
            assert {result.status for result in results} == {"completed"}, [result.error for result in results]
            return [output.payload for result in results for output in result.outputs]

    return run


def test_a_savepoint_of_the_handlers_own_is_fine(outcome: Any, database_url: str) -> None:
    """What failed within it is undone, the rest is committed."""
    bank.tables(database_url)

    def handler(_: str, axon: Any, ctx: Context) -> Any:
        ctx.connection.execute(bank.BOOK, (3,))
        with suppress(psycopg.Error), ctx.connection.transaction():
            ctx.connection.execute(bank.BOOK, (-30,))
        with ctx.connection.transaction(force_rollback=True):
            ctx.connection.execute(bank.BOOK, (7,))
        return axon.done.create_signal(ctx.connection.execute("select balance from account").fetchone()[0])

    assert outcome(handler) == [3]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select balance from account").fetchone() == (3,)


def test_it_is_made_for_the_users_own_statements(outcome: Any) -> None:
    """None of the settings that the store's statements need; read committed, unless the handler chooses otherwise."""

    def handler(payload: str, axon: Any, ctx: Context) -> Any:
        names = (
            "enable_seqscan",
            "enable_hashjoin",
            "jit",
            "idle_in_transaction_session_timeout",
            "transaction_isolation",
        )
        if payload:
            ctx.connection.execute(f"set transaction isolation level {payload}")
        return axon.done.create_signal({name: _setting(ctx.connection, name) for name in names})

    usual, serializable = outcome(handler, "", "serializable")

    assert usual == {
        "enable_seqscan": "on",
        "enable_hashjoin": "on",
        "jit": _usual_jit(usual),
        "idle_in_transaction_session_timeout": "0",
        "transaction_isolation": "read committed",
    }
    assert serializable["transaction_isolation"] == "serializable"


def _usual_jit(usual: dict[str, str]) -> str:
    return usual["jit"]  # a matter of the server's version


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("select current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_whatever_the_handler_has_set_the_hop_settles(outcome: Any, database_url: str) -> None:
    """A role without rights, a path without our schema, limits, formats: all of it is the handler's own."""
    role = f"steps_{uuid4().hex}"  # roles are the whole server's
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"create role {role}".encode())
        connection.execute(f"grant {role} to current_user".encode())
        try:

            def handler(payload: str, axon: Any, ctx: Context) -> Any:
                ctx.connection.execute("create temporary table num (x int)")
                ctx.connection.execute(
                    f"set datestyle = 'German'; set search_path = pg_temp; set role {role}; "
                    "set lock_timeout = 1000; set statement_timeout = 1000"
                )
                return axon.done.create_signal(1)

            assert outcome(handler) == [1]
        finally:
            connection.execute(f"drop role {role}".encode())


def test_nothing_of_one_handler_is_left_for_the_next(outcome: Any) -> None:
    """Settings, temporary tables, locks, adapters and row factories go with the hop, on the one connection that there is."""
    pids = []

    def handler(payload: str, axon: Any, ctx: Context) -> Any:
        found = {
            "path": _setting(ctx.connection, "search_path"),
            "rows": list(ctx.connection.execute("select 1 as one").fetchone()),
            "locks": ctx.connection.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            ).fetchone()[0],
        }
        pids.append(ctx.connection.info.backend_pid)
        ctx.connection.execute("create temporary table mine (x int)")
        ctx.connection.execute("select pg_advisory_lock(7)")
        ctx.connection.execute("listen something")
        ctx.connection.execute("set search_path = public")
        ctx.connection.row_factory = dict_row
        return axon.done.create_signal(found)

    fresh = {"path": '"$user", public', "rows": [1], "locks": 0}
    assert outcome(handler, "1", "2", "3", one_by_one=True, transactions=1) == [fresh] * 3
    assert len(set(pids)) == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_connection_that_was_kept_does_nothing_any_more(outcome: Any, colour: str) -> None:
    """Neither the object, nor its cursors, nor the context's: the next handler, on the same connection, is left alone."""
    kept: list[Any] = []

    def keep(ctx: Context) -> None:
        kept.extend([ctx, ctx.connection, ctx.connection.cursor()])

    def handler(payload: str, axon: Any, ctx: Context) -> Any:
        said = []
        if kept:
            for use in (kept[1].execute, kept[2].execute):
                with pytest.raises(TransactionError, match=r"activation 1 .*the handler has ended") as caught:
                    use("select 1")
                said.append(str(caught.value))
        keep(ctx)
        return axon.done.create_signal(len(said))

    async def handler_async(payload: str, axon: Any, ctx: Context) -> Any:
        said = []
        if kept:
            for use in (kept[1].execute, kept[2].execute):
                with pytest.raises(TransactionError, match=r"activation 1 .*the handler has ended") as caught:
                    await use("select 1")
                said.append(str(caught.value))
        keep(ctx)
        return axon.done.create_signal(len(said))

    given = handler if colour == "sync" else handler_async
    assert outcome(given, "1", "2", one_by_one=True, transactions=1) == [0, 2]
    with pytest.raises(ContextError, match=r"until it has ended"):
        _ = kept[0].connection


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_the_handler_leaves_under_way_is_ended_and_fails_it(
    database_url: str, broker_url: str, colour: str
) -> None:
    """A thread, or a task, of its own is still in a statement: nobody knows what that comes to, so all is undone."""
    bank.tables(database_url)
    left: list[Any] = []
    errors: list[BaseException] = []

    def sleeps(ctx: Context) -> bool:
        query = "select 1 from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'"
        with psycopg.connect(database_url, autocommit=True) as connection:
            return connection.execute(query).fetchone() is not None

    def handler(payload: str, axon: Any, ctx: Context) -> None:
        connection = ctx.connection
        connection.execute(bank.BOOK, (5,))

        def leave() -> None:
            try:
                connection.execute("select pg_sleep(600)")
            except psycopg.Error as error:
                errors.append(error)

        left.append(threading.Thread(target=leave))
        left[0].start()
        eventually(lambda: sleeps(ctx), PATIENCE)

    async def handler_async(payload: str, axon: Any, ctx: Context) -> None:
        connection = ctx.connection
        await connection.execute(bank.BOOK, (5,))

        async def leave() -> None:
            try:
                await connection.execute("select pg_sleep(600)")
            except psycopg.Error as error:
                errors.append(error)

        left.append(asyncio.create_task(leave()))
        while not await asyncio.to_thread(sleeps, ctx):
            pass

    cns = _graph(handler if colour == "sync" else handler_async)
    with Orchestrator(cns, database=database_url, broker=broker_url) as client, serving(cns, database_url, broker_url):
        result = client.submit(go.create_signal("")).wait(PATIENCE)
        eventually(lambda: errors, PATIENCE, what="what was left has ended")

    assert result.status == "failed"
    assert "still under way on ctx.connection" in (result.error or "")
    assert [type(error) for error in errors] == [psycopg.errors.QueryCanceled]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select balance from account").fetchone() == (0,)


class Crowd:
    """A handler of either colour that stays inside until it is let go."""

    def __init__(self, colour: str) -> None:
        self.inside = 0
        self._lock = threading.Lock()
        self._go = threading.Event()
        self.handler: Callable[..., Any] = self._stay_async if colour == "async" else self._stay

    def _enter(self) -> None:
        with self._lock:
            self.inside += 1

    def _stay(self, payload: str, axon: Any, ctx: Context) -> Any:
        self._enter()
        assert self._go.wait(PATIENCE)
        return axon.done.create_signal(ctx.try_number)

    async def _stay_async(self, payload: str, axon: Any, ctx: Context) -> Any:
        self._enter()
        assert await asyncio.to_thread(self._go.wait, PATIENCE)
        await ctx.connection.execute("select 1")
        return axon.done.create_signal(ctx.try_number)

    def let_go(self) -> None:
        self._go.set()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_who_finds_no_connection_free_waits_for_one(
    database_url: str, broker_url: str, colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of four handlers two have theirs; the others are called when these have ended, and as if nothing had been."""
    caplog.set_level("INFO", "cnstra.worker")
    crowd = Crowd(colour)
    cns = _graph(crowd.handler)
    with (
        Orchestrator(cns, database=database_url, broker=broker_url) as client,
        serving(cns, database_url, broker_url, transactions=2),
    ):
        runs = client.submit_many([go.create_signal("") for _ in range(4)])
        eventually(lambda: caplog.text.count("it waits for one") == 2, PATIENCE, what="two wait")
        assert crowd.inside == 2
        crowd.let_go()
        outputs = [output.payload for run in runs for output in run.wait(PATIENCE).outputs]

    assert outputs == [1] * 4


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_who_still_waits_when_the_worker_stops_is_given_back_uncalled(
    database_url: str, broker_url: str, colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker has it at once, and it was no try."""
    caplog.set_level("INFO", "cnstra.worker")
    crowd = Crowd(colour)
    cns = _graph(crowd.handler)
    was_given_back = []

    def let_go_when_it_is_given_back() -> None:
        given_back = "select tries from cnstra.activations where status = 'ready'"
        with psycopg.connect(database_url, autocommit=True) as connection:
            eventually(lambda: connection.execute(given_back).fetchone() == (0,), PATIENCE, what="it is given back")
        was_given_back.append(True)
        crowd.let_go()

    with Orchestrator(cns, database=database_url, broker=broker_url) as client:
        with serving(cns, database_url, broker_url, transactions=1):
            runs = client.submit_many([go.create_signal("") for _ in range(2)])
            eventually(lambda: "it waits for one" in caplog.text, PATIENCE, what="one waits")
            letting_go = threading.Thread(target=let_go_when_it_is_given_back)
            letting_go.start()
        letting_go.join()
        assert was_given_back
        with serving(cns, database_url, broker_url):
            outputs = [output.payload for run in runs for output in run.wait(PATIENCE).outputs]

    assert outputs == [1, 1]


def test_g11_one_that_breaks_a_rule_of_its_group_fails_for_good_and_leaves_nothing(
    database_url: str, broker_url: str
) -> None:
    """Two results of one member: only the run's state shows that. The failure stands, though the handler's writes do not."""
    bank.tables(database_url)
    member, result = collateral("member", int), collateral("result", int)
    splitter, one, all_of_them = (
        neuron("splitter", {"member": member}),
        neuron("one", {"result": result}),
        neuron("all", {}),
    )

    @splitter.dendrite(go)
    def split(_: str, axon: Any) -> Any:
        return axon.member.scatter([1])

    @one.dendrite(member, transaction=True)
    def twice(number: int, axon: Any, ctx: Context) -> Any:
        ctx.connection.execute(bank.BOOK, (number,))
        return [axon.result.create_signal(number), axon.result.create_signal(number)]

    @all_of_them.gather(result)
    def gather(results: list[int]) -> None:
        pass

    cns = CNS([splitter, one, all_of_them], name="steps")
    with (
        Orchestrator(cns, database=database_url, broker=broker_url) as client,
        serving(cns, database_url, broker_url),
    ):
        ended = client.submit(go.create_signal("")).wait(PATIENCE)
    assert (ended.status, ended.error_type) == ("failed", "cnstra.OutputError")
    assert "two results on 'result'" in str(ended.error)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select balance from account").fetchone() == (0,)
        assert connection.execute("select tries, failures from cnstra.activation where neuron = 'one'").fetchone() == (
            1,
            1,
        )


def test_a_run_that_is_submitted_on_it_exists_with_the_hop(database_url: str, broker_url: str) -> None:
    """One run starts another exactly once: the first try is undone, and so is its run."""
    cns: list[CNS] = []
    clients: list[Orchestrator] = []

    def handler(payload: str, axon: Any, ctx: Context) -> Any:
        if payload == "child":
            return axon.done.create_signal("grown")
        clients[0].submit(go.create_signal("child"), connection=ctx.connection)
        if ctx.try_number == 1:
            ctx.connection.execute("do $$ begin raise exception using errcode = '40001'; end $$")
        return None

    cns.append(_graph(handler))
    with (
        Orchestrator(cns[0], database=database_url, broker=broker_url) as client,
        serving(cns[0], database_url, broker_url),
    ):
        clients.append(client)
        assert client.submit(go.create_signal("parent")).wait(PATIENCE).status == "completed"
        runs = client.list_runs()
        results = [run.wait(PATIENCE) for run in runs]

    assert [[output.payload for output in result.outputs] for result in results] == [["grown"], []]


# -- where there is none -------------------------------------------------------------------------------------------


def test_without_the_option_there_is_no_connection(database_url: str, broker_url: str) -> None:
    """The error names the option, the run and the activation."""
    plain = neuron("plain", {"done": done})

    @plain.dendrite(go)
    def handler(payload: str, axon: Any, ctx: Context) -> Any:
        with pytest.raises(ContextError) as caught:
            _ = ctx.connection
        return axon.done.create_signal(str(caught.value))

    cns = CNS([plain], name="plain")
    with Orchestrator(cns, database=database_url, broker=broker_url) as client, serving(cns, database_url, broker_url):
        run = client.submit(go.create_signal(""))
        (said,) = [output.payload for output in run.wait(PATIENCE).outputs]
    assert f"run {run.id}, activation 1" in said
    assert "transaction=True" in said


class _NoBell:
    def ring(self, rings: tuple[Ring, ...]) -> None:
        raise AssertionError("nobody rings")


def test_a_store_without_a_database_refuses_such_a_graph() -> None:
    """Before the worker takes any work; the error names the dendrite and the store."""

    def worker(cns: CNS) -> Worker:
        store: Any = MemoryStore()
        bell: Any = _NoBell()
        listener: Any = None
        return Worker(cns, store, bell, lambda queues, rung: listener, WorkerSettings(), SystemEntropy())

    with pytest.raises(ConfigurationError, match=r"'steps'.*neuron 'one' on 'steps\.go'.*MemoryStore"):
        worker(_graph(lambda payload: None))


def test_within_one_process_it_is_refused_before_anything_runs() -> None:
    """Wherever signals can reach it; the rest of the graph runs as ever."""
    begun, aside = collateral("begun", int), collateral("aside", int)
    first, other = neuron("first", {"go": go}), neuron("other")
    called = []
    first.dendrite(begun)(lambda number, axon: called.append(number) or axon.go.create_signal(""))
    other.dendrite(aside)(lambda number: called.append(number))
    last = neuron("last")
    last.dendrite(go, transaction=True)(lambda payload: None)
    cns = CNS([first, other, last])

    for start in (
        lambda: cns.stimulate(begun.create_signal(1)),
        lambda: cns.run([aside.create_signal(1), begun.create_signal(1)]),
        lambda: cns.activate([Task(neuron=last, collateral=go, signal=go.create_signal(""))]),
    ):
        with pytest.raises(StimulationError, match=r"neuron 'last' on 'steps\.go': transaction=True"):
            start()
    assert called == []
    cns.run(aside.create_signal(2))
    assert called == [2]
