"""Showing what was found: claim by claim, with the queries, so that whoever reads can ask them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import indent

import psycopg
from psycopg import sql

from order_saga.proof import Finding
from order_saga.stage.screen import Screen

_ROWS = 5
_DIFFERENCES = 10

_TOLL = """
select coalesce(t.error_type, 'done') as how_a_try_ended, count(*) as tries, count(distinct t.worker) as workers
from cnstra.tries t join cnstra.runs r using (run_id) where r.tags @> jsonb_build_object('batch', {batch})
group by t.error_type order by tries desc
"""
_CALLS = """
select asked as calls_of_the_bank, count(*) as charges from bank.ledger
where batch = {batch} group by asked order by asked
"""


def show(findings: Iterable[Finding], screen: Screen) -> bool:
    """Show each finding, and tell whether all of them are as claimed."""
    differing = 0
    for finding in findings:
        screen.say(f"\n  {'✗' if finding.differences else '✓'} {finding.claim}")
        _show_rows(finding.query, finding.columns, finding.rows, screen)
        for difference in finding.differences[:_DIFFERENCES]:
            screen.say(f"     differs: {difference}")
        if (more := len(finding.differences) - _DIFFERENCES) > 0:
            screen.say(f"     and {more:,} more differences")
        differing += bool(finding.differences)
    return not differing


def conclude(screen: Screen, *, proved: bool) -> None:
    """The last word."""
    verdict = "PROVED: every purchase was charged exactly once." if proved else "NOT PROVED: see what differs above."
    screen.say(f"\n  {verdict}")


def show_toll(connection: psycopg.Connection, batch: str, screen: Screen) -> None:
    """What it took: tries by how they ended, lost workers among them, and the bank's repeated calls."""
    screen.say("\n  what it took")
    for template in (_TOLL, _CALLS):
        query = sql.SQL(template.strip()).format(batch=sql.Literal(batch)).as_string(connection)
        cursor = connection.execute(query.encode())
        _show_rows(query, [column.name for column in cursor.description or ()], cursor.fetchall(), screen)


def _show_rows(query: str, columns: Iterable[str], rows: Sequence[tuple[object, ...]], screen: Screen) -> None:
    screen.say(indent(f"sql> {indent(query, ' ' * 5).lstrip()}", " " * 5))
    screen.table(list(columns), rows[:_ROWS])
    if (more := len(rows) - _ROWS) > 0:
        screen.say(f"     … and {more:,} rows more")
