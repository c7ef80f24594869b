"""Machines for tests: hosts with addresses of their own, servers that they reach, and a network between them that loses what
it is told to.

Linux, root and iproute2 are needed, of which ``why_not`` says what is missing.
"""

from __future__ import annotations

from support.hosts.network import Host, Network, Way, swept, why_not
from support.hosts.places import Place, place_of
from support.hosts.servers import servers_on

__all__ = ["Host", "Network", "Place", "Way", "place_of", "servers_on", "swept", "why_not"]
