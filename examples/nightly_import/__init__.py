"""A nightly import of thousands of items, of which some fail. README.md tells where to start."""
