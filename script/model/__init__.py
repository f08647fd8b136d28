"""The builtin model: mail to learn from, training, export to GGUF, and the measuring of it.

Nothing here runs in the daemon. The daemon ships the result, rspamd_llm/data/builtin.gguf; what
the model reads is made by the product's own rspamd_llm.compact.compact, here as there, so the text
it learnt from and the text it meets cannot differ.
"""
