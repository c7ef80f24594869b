"""A subscription: a run that lives for a year, and what its customer does meanwhile. README.md tells where to start."""
