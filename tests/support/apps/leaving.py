"""A module that is a script, and ends the interpreter that imports it."""

import sys

sys.exit("done")
