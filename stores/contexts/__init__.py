"""Context stores on servers: one value under one name, for whoever has the name. ``cnstra.stores`` exports them."""
