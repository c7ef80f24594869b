"""Where runs and contexts are kept: adapters that carry out what the orchestrator decided."""

# The folder lies at the top of the repository, where a test run or a shell can find it under its bare name.
if __name__ != "cnstra.stores":
    raise ImportError(f"this package is cnstra.stores; {__name__!r} would be a second copy, with classes of its own")
