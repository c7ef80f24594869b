"""Other engines, doing the same work as CNStra's durable one, on the same machine and the same servers.

``programs`` has one program for each peer. It runs in a virtual environment of the peer's own, since what the peers pin
does not go together. ``environments`` makes those, ``roster`` says who the peers are and why each is configured as it is,
``taking`` gives a peer fresh servers, runs its program and reads its figures.

Importing this package imports nothing: programs import it where neither CNStra nor its dependencies are installed.
"""
