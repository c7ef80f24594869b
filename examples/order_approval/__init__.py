"""Orders that may need an approval, and that are undone when they go wrong. README.md tells where to start."""
