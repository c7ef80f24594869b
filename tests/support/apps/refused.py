"""A module whose graph is refused when it is built."""

from cnstra import CNS, neuron

cns = CNS([neuron("deaf", {})], name="refused")
