"""How fast CNStra is, measured beside the bare limits of what it is made of. ``make bench`` runs all of it.

``measuring`` takes figures, ``suites`` say what is measured, ``machine`` says where, ``reporting`` writes it down. Nothing
in here is a test: seconds are reported, never asserted; what is checked is that each measured run did its work.
"""
