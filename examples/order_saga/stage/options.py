"""What the demo and the proof can be told: on the command line, or by each option's twin in the environment."""

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
    file: Path | None
    seed: int = 0
    keep: bool = False

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


def demo_options(arguments: Sequence[str] | None) -> Options:
    """Those of the demo. Ends the process on ``--help``, and on a mistake."""
    parser = _parser(
        "cnstra demo", "Real purchases become order sagas, through a crash; SQL proves each was charged once."
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=os.environ.get("CNSTRA_DEMO_SEED") or 22,
        metavar="S",
        help="settles which calls of the bank fail; without it, 22 [env var: CNSTRA_DEMO_SEED]",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        default=bool(os.environ.get("CNSTRA_DEMO_KEEP")),
        help="leave the servers running, until cnstra down [env var: CNSTRA_DEMO_KEEP]",
    )
    return _options(parser, arguments)


def proof_options(arguments: Sequence[str] | None) -> Options:
    """Those of the proof that is repeated. Ends the process on ``--help``, and on a mistake."""
    description = "Prove once more that every purchase of the latest batch was charged exactly once."
    return _options(_parser("python -m order_saga.prove", description), arguments)


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument(
        "--orders",
        type=_positive,
        default=os.environ.get("CNSTRA_DEMO_ORDERS") or None,
        metavar="N",
        help="only the first N purchases; without it, all [env var: CNSTRA_DEMO_ORDERS]",
    )
    parser.add_argument(
        "--file",
        type=Path,
        default=os.environ.get("CNSTRA_DEMO_FILE") or None,
        metavar="PATH",
        help="purchases in CDNOW's format; without it, CDNOW's, from the package index [env var: CNSTRA_DEMO_FILE]",
    )
    return parser


def _options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> Options:
    home = Path(os.environ.get("CNSTRA_HOME") or ".cnstra").resolve()
    return Options(home=home, **vars(parser.parse_args(arguments)))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
