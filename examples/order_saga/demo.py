"""The demo: thousands of real purchases become order sagas; half way, a worker is killed and the broker emptied; at the
end, SQL proves that every purchase was charged exactly once.

``make demo`` or ``cnstra demo`` runs it. It is the shop's own program plus an accident; ``_play`` reads from top to bottom.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
import redis

from cnstra import CnstraError, Orchestrator
from order_saga import bank, proof, warehouse
from order_saga.graph import cns
from order_saga.orders import Order, order_placed
from order_saga.purchases import Purchase, PurchasesError
from order_saga.stage import commands, report, servers, signals
from order_saga.stage.commands import DemoError
from order_saga.stage.crew import COMMAND, Crew
from order_saga.stage.farewell import say_farewell
from order_saga.stage.options import Options, demo_options
from order_saga.stage.screen import Screen
from order_saga.stage.watch import Watch

_WORKERS = 2
_RETRY = ("retry", "--failed", "--graph", "order_saga")
_CHUNK = 250
_OPEN = 1_000  # runs that have not ended, before more are submitted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo: 0 when everything was proved, 1 when not, 130 after Ctrl-C. By default as the command line says."""
    given = demo_options(arguments)
    os.environ[bank.SEED] = str(given.seed)
    try:
        with signals.as_exits():
            return 0 if _play(given, Screen()) else 1
    except (CnstraError, DemoError, PurchasesError, psycopg.Error, redis.RedisError) as error:
        sys.stderr.write(f"\ncnstra demo: {error}\n")
        return 1
    except BrokenPipeError:  # who reads has seen enough; nothing may be written when Python ends, either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ncnstra demo: interrupted; its workers are stopped\n")
        return 130


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What the acts of the demo share."""

    given: Options
    urls: servers.Urls
    batch: str
    purchases: list[Purchase]
    connection: psycopg.Connection
    screen: Screen


def _play(given: Options, screen: Screen) -> bool:
    screen.say("The order saga: real purchases, each charged exactly once, whatever dies.\n")
    with servers.running(given.home, keep=given.keep) as urls:
        screen.step("servers", servers.described(given.home))
        purchases, batch = given.purchases(), secrets.token_hex(3)
        screen.step("input", f"{len(purchases):,} purchases, as batch {batch!r}")
        screen.command(["migrate"], commands.run(["migrate"], urls.environment))
        bank.open_books(urls.database)
        warehouse.stock_up(urls.database, batch, _shelves(_orders(purchases, batch)))
        with psycopg.connect(urls.database, autocommit=True) as connection:
            scene = _Scene(
                given=given, urls=urls, batch=batch, purchases=purchases, connection=connection, screen=screen
            )
            as_expected = _process(scene)
            as_claimed = report.show(proof.prove(connection, batch, purchases), screen)
            report.show_toll(connection, batch, screen)
            report.conclude(screen, proved=as_expected and as_claimed)
            say_farewell(connection, batch, given, screen)
    return as_expected and as_claimed


def _process(scene: _Scene) -> bool:
    """Carry out all orders, through the accident and the retry; whether the first pass failed for whom it should."""
    screen = scene.screen
    with Crew(scene.urls.environment, scene.given.folder) as crew:
        watch = Watch(scene.connection, scene.batch, crew, screen)
        for _ in range(_WORKERS):
            screen.command(COMMAND, [f"ready, as process {crew.start()}"])
        screen.say()
        _submit(scene, crew, watch)
        watch.until_open(0, last=True)

        declined = {purchase.number for purchase in scene.purchases if bank.declines(purchase.customer)}
        as_expected = report.show([proof.only_declined_failed(scene.connection, scene.batch, declined)], screen)
        screen.command(_RETRY, commands.run(_RETRY, scene.urls.environment))
        screen.say()
        watch.until_open(0, last=True)
    return as_expected


def _submit(scene: _Scene, crew: Crew, watch: Watch) -> None:
    """Submit all orders, chunk by chunk as the workers get on; the accident comes right after the chunk in the middle."""
    orders = _orders(scene.purchases, scene.batch)
    size = min(_CHUNK, max(len(orders) // 8, 1))
    with Orchestrator(cns, database=scene.urls.database, broker=scene.urls.broker) as orchestrator:
        for start in range(0, len(orders), size):
            watch.until_open(_OPEN - size)
            chunk = orders[start : start + size]
            orchestrator.submit_many(
                [order_placed.create_signal(order) for order in chunk], tags={"batch": scene.batch}
            )
            if start < len(orders) / 2 <= start + size:
                _accident(scene, crew)


def _accident(scene: _Scene, crew: Crew) -> None:
    scene.screen.say(f"\n  ⚡ SIGKILL to worker {crew.kill_one()}: it cannot say what it was doing")
    if scene.urls.disposable:
        scene.urls.empty_broker()
        scene.screen.say("  ⚡ FLUSHALL: the broker has forgotten everything\n")
    else:
        scene.screen.say("  The broker was not empty when the demo began, so its contents are left alone\n")


def _orders(purchases: Sequence[Purchase], batch: str) -> list[Order]:
    return [
        Order(batch=batch, number=one.number, customer=one.customer, day=one.day, cds=one.cds, amount=one.amount)
        for one in purchases
    ]


def _shelves(orders: Sequence[Order]) -> Counter[int]:
    """Shelf to the number of CDs that lie on it: exactly those that will be bought."""
    shelves = Counter[int]()
    for order in orders:
        shelves[order.shelf] += order.cds
    return shelves


if __name__ == "__main__":
    sys.exit(main())
