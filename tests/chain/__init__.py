"""The chain of real parts: a private Postfix, a private Rspamd, a DNS server that knows nothing.

Used by the tests of this folder, by script/demo and by the fault suites. Nothing in here may
touch the system's own Postfix or Rspamd, nor reach any network but 127.0.0.1.
"""
