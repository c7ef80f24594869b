"""A shop that takes orders, written with CNStra as a project of its own would be. Start at ``graph``; README.md tells more."""
