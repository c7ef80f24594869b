"""What the demo can be told on its command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from order_saga.purchases import Purchase, PurchasesError, download, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, read. ``orders`` and ``file`` are None for all purchases, and for those of CDNOW."""

    home: Path
    orders: int | None
    seed: int
    file: Path | None
    keep: bool

    @property
    def folder(self) -> Path:
        """Where the demo keeps its input and its workers' logs."""
        return self.home / "demo"

    def purchases(self) -> list[Purchase]:
        """The purchases that are to be made. Raises ``PurchasesError``."""
        path = download(self.folder) if self.file is None else self.file
        try:
            found = parse(path.read_text())[: self.orders]
        except (OSError, UnicodeDecodeError) as error:
            raise PurchasesError(f"{path} cannot be read: {error}") from error
        if not found:
            raise PurchasesError(f"{path} has no purchases in it")
        return found


def parse_options(arguments: Sequence[str] | None, *, prog: str, description: str) -> Options:
    """The options on a command line; by default this process's own. Ends the process on ``--help`` and on a mistake."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--orders", type=_positive, metavar="N", help="only the first N purchases (default: all)")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="settles which calls of the bank fail (default: %(default)s)"
    )
    parser.add_argument(
        "--file", type=Path, metavar="PATH", help="purchases in CDNOW's format (default: CDNOW's, from the package index)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the servers running, until `cnstra down`")
    given = parser.parse_args(arguments)
    home = Path(os.environ.get("CNSTRA_HOME") or ".cnstra").resolve()
    return Options(home=home, orders=given.orders, seed=given.seed, file=given.file, keep=given.keep)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number
