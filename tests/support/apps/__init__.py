"""Graphs, and modules that hold none, for the tests of the command line: they are its current folder."""
