"""A module that needs one that is not there."""

import importlib

importlib.import_module("a_module_that_nobody_has")
