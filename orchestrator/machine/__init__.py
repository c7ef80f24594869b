"""The pure core: what may happen to a run and to its activations, as data and plain functions.

No clock, no randomness, no threads, no input or output. ``states`` holds the tables of transitions, ``records`` the state,
the events and the plan that comes of them, ``fold`` the one function that makes plans. Postgres and memory carry them out.
"""
