"""The program of the supervisor of servers that other hosts reach: ``python -m support.hosts.reachable HOME …``.

It is that of the development servers, and tells them to listen on one address more.
"""

from __future__ import annotations

import os
import sys

from cnstra.servers import postgres, supervisor, valkey
from cnstra.servers.programs import PostgresPrograms
from support.hosts.servers import ADDRESS


class ReachablePostgres(postgres.PostgresServer):
    """Postgres that lets hosts in, with a password."""

    def _make_data(self, programs: PostgresPrograms) -> None:
        super()._make_data(programs)
        with (self._folder / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 198.18.0.0/15 scram-sha-256\n")

    def _settings(self, port: int, programs: PostgresPrograms) -> dict[str, str]:
        given = super()._settings(port, programs)
        return given | {"listen_addresses": f"{given['listen_addresses']},{os.environ[ADDRESS]}"}


class ReachableValkey(valkey.ValkeyServer):
    """Valkey, the same."""

    def _settings(self, port: int) -> str:
        return super()._settings(port).replace("bind 127.0.0.1", f"bind 127.0.0.1 {os.environ[ADDRESS]}")


if __name__ == "__main__":
    supervisor._KINDS.update({"postgres": ReachablePostgres, "valkey": ReachableValkey})
    sys.exit(supervisor.main(sys.argv[1:]))
