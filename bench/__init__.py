"""Benchmarks and the parts they are made of: a milter client, a stub model server, made mails.

Run by hand (`python -m bench`); the parts also serve the tests. Nothing of the daemon imports it.
"""
