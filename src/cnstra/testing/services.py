"""A graph with other services: what a test puts in the place of a bank."""

from __future__ import annotations

from typing import Any, Final

from cnstra.orchestrator.stimulation import CNS

OWN: Final = object()
"""Stands for the services that the graph has itself."""


def with_services(cns: CNS, services: Any) -> CNS:
    """The same graph with these services; the graph itself is left as it is."""
    if services is OWN:
        return cns
    twin = object.__new__(type(cns))
    for slot in [slot for kind in type(cns).__mro__ for slot in getattr(kind, "__slots__", ())]:
        if hasattr(cns, slot):
            object.__setattr__(twin, slot, getattr(cns, slot))
    object.__setattr__(twin, "services", services)
    return twin
