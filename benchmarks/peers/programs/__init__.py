"""The programs of the peers. Each is run by the Python of its peer: ``python -m benchmarks.peers.programs <peer>``.

``speaking`` is how they are asked and answer, ``crew`` their worker processes; all else is the peer's. They import the
standard library, these two modules and their peer.
"""
