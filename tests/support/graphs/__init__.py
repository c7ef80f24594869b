"""The graphs of the fault tests, a module a subject; more stand beside them, in ``support.saga_graphs`` and ``support.bank``.
Worker processes import them by name, so each stands at the top of its module. Every handler notes its call in the ledger
first; all but the one that kills its process pass the point ``call.inside`` after that.
"""
