"""Where servers are said to be: by the caller, by a variable, by a file that a variable names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cnstra import ConfigurationError, settings

CASES = [
    pytest.param(settings.database_url, "CNSTRA_DATABASE_URL", id="database"),
    pytest.param(settings.broker_url, "CNSTRA_BROKER_URL", id="broker"),
]
SECRET = "redis://:open-sesame@host/0"
Find = Callable[[str | None], str]


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CNSTRA_DATABASE_URL", "CNSTRA_BROKER_URL", "CNSTRA_REPLICA_URL"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(f"{variable}_FILE", raising=False)


@pytest.mark.parametrize(("find", "variable"), CASES)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_says_it_without_its_last_newline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, find: Find, variable: str, ending: str
) -> None:
    """As editors and secret stores write it."""
    (tmp_path / "url").write_bytes(f"{SECRET}{ending}".encode())
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "url"))

    assert find(None) == SECRET


@pytest.mark.parametrize(("find", "variable"), CASES)
def test_what_the_caller_gives_goes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, find: Find, variable: str
) -> None:
    """Then no file is read, and need not be there."""
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "none"))
    assert find("given") == "given"

    monkeypatch.setenv(variable, "value")
    assert find("given") == "given"


@pytest.mark.parametrize(("find", "variable"), CASES)
@pytest.mark.parametrize("passed_on", [False, True], ids=["asked", "passed on by an option"])
def test_a_value_and_a_file_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, find: Find, variable: str, passed_on: bool
) -> None:
    """Nobody can say which was meant."""
    (tmp_path / "url").write_text(SECRET)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "url"))
    monkeypatch.setenv(variable, SECRET)

    with pytest.raises(ConfigurationError, match=f"both {variable} and {variable}_FILE are set") as refused:
        find(SECRET if passed_on else None)

    assert "open-sesame" not in str(refused.value)


@pytest.mark.parametrize(("find", "variable"), CASES)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b"", "does not hold a URL alone"),
        (b"\n", "does not hold a URL alone"),
        (b"redis://:open-sesame@host/0\nmore\n", "does not hold a URL alone"),
        (b"redis://:open-sesame\xff@host/0", "does not hold a URL alone"),
    ],
)
def test_a_file_that_does_not_say_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, find: Find, variable: str, content: bytes | None, problem: str
) -> None:
    """With its variable, and nothing of what it holds."""
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "url"))

    with pytest.raises(ConfigurationError, match=problem) as refused:
        find(None)

    assert f"{variable}_FILE names the file {tmp_path / 'url'}" in str(refused.value)
    assert "open-sesame" not in str(refused.value)


@pytest.mark.parametrize(("find", "variable"), CASES)
def test_what_nobody_says_is_asked_for(find: Find, variable: str) -> None:
    """By all the ways in which it can be said."""
    with pytest.raises(ConfigurationError, match=rf"set {variable} \(or {variable}_FILE\)"):
        find(None)


def test_replicas_may_be_said_by_a_file_which_must_not_contradict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Several stand in its one line, as in the variable. Who gives none wants none."""
    one, two = "postgresql://a:open-sesame@one/shop", "postgresql://a:open-sesame@two/shop"
    (tmp_path / "urls").write_text(f"{one} {two}\n")
    monkeypatch.setenv("CNSTRA_REPLICA_URL_FILE", str(tmp_path / "urls"))

    assert settings.replica_urls(None) == [one, two]
    assert settings.replica_urls([]) == []
    assert settings.replica_urls("host=one dbname=shop") == ["host=one dbname=shop"]

    monkeypatch.setenv("CNSTRA_REPLICA_URL", one)
    assert settings.replica_urls([two]) == [two]
    for given in (None, [one]):  # the second: passed on by an option
        with pytest.raises(ConfigurationError, match="both CNSTRA_REPLICA_URL and CNSTRA_REPLICA_URL_FILE are set"):
            settings.replica_urls(given)
