"""The reference: what the code says of itself, as Markdown pages and manual pages.

`python -m script.reference` writes docs/configuration.md, the marked parts of docs/reference.md,
man/rspamd-llm.1 and man/rspamd-llm.toml.5; tests/test_reference.py proves that they are up to date.
What a setting, a command, a header, a symbol is called comes from the code; what they mean comes
from the comments of rspamd-llm.toml, the help of the commands, the group of Rspamd, and texts.py.
"""
