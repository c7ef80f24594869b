"""A shop that takes orders, written with CNStra as a project of its own would be. README.md tells where to start."""
