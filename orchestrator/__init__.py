"""The words, the graph and the rules of durable runs. Knows no database, no broker, no clock."""

# The folder lies at the top of the repository, where a test run or a shell can find it under its bare name.
if __name__ != "cnstra.orchestrator":
    raise ImportError(
        f"this package is cnstra.orchestrator; {__name__!r} would be a second copy, with classes of its own"
    )
