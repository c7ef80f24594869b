"""What runs the hops: doorbell, claim, call, settle, ring. Talks to a store and a broker through ports."""

# The folder lies at the top of the repository, where a test run or a shell can find it under its bare name.
if __name__ != "cnstra.workers":
    raise ImportError(f"this package is cnstra.workers; {__name__!r} would be a second copy, with classes of its own")
