"""The nightly import, by its command: each line once and a true report, though a worker dies; and its proof can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
import pytest
from nightly_import import catalogue, proof
from nightly_import.graph import Night

from cnstra.servers import hold
from cnstra.testing.homes import temporary_home
from support.commands import Ended, Servers
from support.examples import play, shows_its_graph

ITEMS, SEED, DAY = 400, 7, date(2026, 1, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A night that is over, on servers that are still there."""

    ended: Ended
    servers: Servers
    night: Night
    home: Path


@pytest.fixture(scope="module")
def played(no_servers_given: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A small feed, through a cron that fires twice and a worker that is killed."""
    folder = tmp_path_factory.mktemp("nightly")
    with temporary_home() as home, hold(home, durable=False) as held:
        own = Servers(database_url=held.database_url, broker_url=held.broker_url)
        ended = play("nightly_import", "--items", str(ITEMS), "--seed", str(SEED), servers=own, home=folder)
        feed = folder / "nightly_import" / f"feed-{DAY}-{ITEMS}-{SEED}.csv"
        yield Played(ended=ended, servers=own, night=Night(date=DAY, feed=str(feed)), home=folder)


@pytest.fixture
def connection(played: Played, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """A connection whose changes are not kept, in a test that knows the seed."""
    monkeypatch.setenv(catalogue.SEED, str(SEED))
    with psycopg.connect(played.servers.database_url) as connection:
        yield connection
        connection.rollback()


def test_each_line_is_imported_once_and_the_report_says_so(played: Played, connection: psycopg.Connection) -> None:
    """The command ends with 0 and says why; and the catalogue, asked by the test itself, agrees."""
    assert played.ended.code == 0, played.ended.out + played.ended.err
    assert "SIGKILL to worker" in played.ended.out
    assert played.ended.out.rstrip().endswith("PROVED: each item once, and a report that is right.")

    good, bad = proof.expected(Path(played.night.feed))
    assert len(good) + len(bad) == ITEMS
    assert {why.split()[0] for why in bad.values()} == {"line", "the"}, "some are broken, and some are refused for ever"
    assert f"{len(good)} of {ITEMS} lines imported" in played.ended.out
    [(rows, pieces)] = connection.execute("select count(*), sum(on_hand) from catalogue.items").fetchall()
    assert (rows, pieces) == (len(good), sum(item.pieces for item in good.values()))
    [(tried,)] = connection.execute("select max(calls) from catalogue.refusals").fetchall()
    assert tried >= 3, "the catalogue was busy with some, and asked again"
    [(read,)] = connection.execute("select progress from cnstra.activations where neuron = 'reader'").fetchall()
    assert read == {"lines": ITEMS, "all of them": True}


def test_a_cron_that_fires_again_gets_the_run_that_there_is(played: Played, connection: psycopg.Connection) -> None:
    """Also when the night is long over."""
    [first, second] = re.findall(r"cron +.* ([0-9a-f-]{36})", played.ended.out)

    third = play("nightly_import.cron", str(DAY), played.night.feed, servers=played.servers, home=played.home)

    assert third.out.strip() == first == second
    assert connection.execute("select count(*) from cnstra.runs").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("tampering", "difference"),
    [
        ("delete from catalogue.items where sku = 'SKU-00001'", "SKU-00001 in the catalogue"),
        ("update catalogue.items set on_hand = on_hand + 1 where sku = 'SKU-00002'", "SKU-00002 in the catalogue"),
        (
            "insert into catalogue.deliveries (key, sku, night, pieces) "
            "select key || ' again', sku, night, pieces from catalogue.deliveries where sku = 'SKU-00003'",
            "SKU-00003 in the catalogue",
        ),
        (
            "update cnstra.activation set outputs = jsonb_set(outputs, '{0,payload,pieces}', '1') where neuron = 'reporter'",
            "pieces in the report",
        ),
        (
            "update cnstra.activation set outputs = outputs #- '{0,payload,failed,0}' where neuron = 'reporter'",
            "what failed",
        ),
        ("update cnstra.activation set outputs = '[]' where neuron = 'reporter'", "there should be one report, not 0"),
        ("update cnstra.run set status = 'failed'", "one run of the night, and completed"),
    ],
    ids=["lost", "a piece too many", "twice", "a wrong total", "a failure kept quiet", "no report", "a failed run"],
)
def test_the_proof_fails_when_the_night_was_not_as_it_should_be(
    played: Played, connection: psycopg.Connection, tampering: str, difference: str
) -> None:
    """A proof that could not fail would prove nothing: what is wrong with one line, or with the report, is named."""
    assert list(proof.differences(connection, played.night)) == []

    assert connection.execute(tampering.encode()).rowcount == 1

    [found, *_] = proof.differences(connection, played.night)
    assert re.search(difference, found)


def test_the_picture_in_the_readme_is_that_of_the_graph() -> None:
    """The README shows the graph that the example has, as the command draws it."""
    assert shows_its_graph("nightly_import")
