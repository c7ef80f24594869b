"""``python -m subscription``: a year of a subscription, in a moment; with ``--on-servers``, a few months of seconds.

Ends with 0 when what was paid is what should have been, else with 1.
"""

from __future__ import annotations

import argparse
import sys

EXPECTED = 4 * 1_200 + 840 + 6 * 3_000
"""Four months of basic; half a month's difference, 14 days of 30; and six months of plus: for two it was paused."""


def main() -> int:
    """The year, or the months."""
    parser = argparse.ArgumentParser(prog="python -m subscription", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--on-servers", action="store_true", help="the same graph on real servers, by a real worker")
    if parser.parse_args().on_servers:
        from subscription import on_servers

        return on_servers.main()
    return _year()


def _year() -> int:
    from subscription.year import a_year

    year = a_year()
    for at, line in year.calendar:
        print(f"  {at:%a %d %b}  {line}")
    until = f", paid until {year.farewell.paid_until:%d %b %Y}" if year.farewell else ""
    print(f"\n  the run is {year.status} after {year.farewell.months if year.farewell else 0} months{until}")
    print(f"  paid in all: {year.paid / 100:.2f}, and it should be {EXPECTED / 100:.2f}")
    return 0 if year.paid == EXPECTED and year.status == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())
