"""The demo is a checkout's own."""

from __future__ import annotations

from pathlib import Path

import pytest

import cnstra
from cnstra import ConfigurationError
from cnstra.cli.developing import demo


def test_without_a_checkout_the_demo_says_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed wheel has no examples."""
    package = tmp_path / "site-packages" / "cnstra"
    package.mkdir(parents=True)
    monkeypatch.setattr(cnstra, "__file__", str(package / "__init__.py"))

    with pytest.raises(ConfigurationError, match="it comes with a checkout of the project"):
        demo()
