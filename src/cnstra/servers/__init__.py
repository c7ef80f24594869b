"""Private Postgres and Valkey for development: ``cnstra up``, the demo and the tests.

The package owns two server processes below one ``$CNSTRA_HOME``: it finds their programs, gives them
passwords, starts them, lets any number of processes join them, and stops them. One detached supervisor a home
(`supervisor`) is the parent of both servers; everybody else (`client`) talks to it over a socket, and says "I
am still here" with a shared lock on a file, which the kernel takes back however a process ends.

It refuses to be a way to run production: it listens on loopback only, has no replication and no backups. It
creates no schema: migrating is for whoever uses the database. Nothing is started in place of what
``CNSTRA_DATABASE_URL`` and ``CNSTRA_BROKER_URL`` name.
"""

from __future__ import annotations

from cnstra.servers.client import HeldServers, Servers, down, hold, up

__all__ = ["HeldServers", "Servers", "down", "hold", "up"]
