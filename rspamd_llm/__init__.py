"""rspamd-llm: a mail scanner that asks a local language model, between Postfix and Rspamd."""
