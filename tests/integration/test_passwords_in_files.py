"""The database's password in files that libpq knows: the URL, the environment and lists of processes show none."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cnstra import Orchestrator
from cnstra.stores.postgres.reaching import reach
from support.graphs import routes


@pytest.fixture
def passfile(database_url: str, tmp_path: Path) -> Path:
    """For this database alone."""
    parts = urlsplit(database_url)
    file = tmp_path / "pgpass"
    file.write_text(f"{parts.hostname}:{parts.port}:{parts.path[1:]}:{parts.username}:{parts.password}\n")
    file.chmod(0o600)
    return file


def _without_password(database_url: str) -> str:
    parts = urlsplit(database_url)
    return parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()


@pytest.mark.past_the_pooler
@pytest.mark.parametrize("how", ["passfile=", "PGPASSFILE", "service="])
def test_a_password_is_found_in_a_file(
    database_url: str, broker_url: str, passfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """By the pools, and by what asks by itself."""
    plain, parts = _without_password(database_url), urlsplit(database_url)
    if how == "passfile=":
        url = f"{plain}?passfile={passfile}"
    elif how == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(passfile))
        url = plain
    else:
        (tmp_path / "services").write_text(
            f"[shop]\nhost={parts.hostname}\nport={parts.port}\nuser={parts.username}\ndbname={parts.path[1:]}\n"
            f"password={parts.password}\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        url = "service=shop"

    reach(url)
    with Orchestrator(routes.chain, database=url, broker=broker_url) as client:
        assert client.submit(routes.set_out.create_signal(1)).status() == "running"
