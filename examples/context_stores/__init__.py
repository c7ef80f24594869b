"""Context stores of one's own, and going on after an error with the context that was saved."""
