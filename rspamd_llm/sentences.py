"""What each flag says, in words for models and for people.

What may not live here: what a flag weighs and when it is found (facts.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from rspamd_llm.domain import Flag

SENTENCES: Mapping[Flag, str] = {
    Flag.NAME_HAS_ADDRESS: "the sender's name contains an address of another domain",
    Flag.BRAND_ELSEWHERE: "a well-known name stands there, the domain is not its own",
    Flag.SENDER_LOOKALIKE: "the sender's domain looks like another",
    Flag.LINK_LOOKALIKE: "a link's domain looks like another",
    Flag.REPLY_ELSEWHERE: "replies go to another domain than the sender's",
    Flag.LINK_MISMATCH: "a link shows one domain and leads to another",
    Flag.LINK_ADDRESS: "a link leads to a bare IP address",
    Flag.LINK_PUNYCODE: "a link's host name uses an international spelling",
    Flag.LINK_MIXED_SCRIPT: "a link's host name mixes alphabets",
    Flag.LINK_CREDENTIALS: "a link hides its host behind login data",
    Flag.LINK_SHORTENER: "a link goes through a shortener",
    Flag.LINK_REDIRECT: "a link goes through another site's redirect",
    Flag.LINKS_ELSEWHERE: "no link leads to the sender's domain",
    Flag.ATTACHMENT_RUNS: "an attachment can run code",
    Flag.ATTACHMENT_MACROS: "an attachment contains macros",
    Flag.ATTACHMENT_ENCRYPTED: "an attachment is encrypted, so that scanners cannot look into it",
    Flag.ATTACHMENT_MISNAMED: "an attachment is of another kind than its name says",
    Flag.ATTACHMENT_BOMB: "an attachment claims to unpack to far more than its size",
    Flag.ATTACHMENT_ARCHIVE: "an attachment is an archive",
    Flag.ATTACHMENT_PAGE: "an attachment is a web page",
    Flag.TEXT_HIDDEN: "text is hidden from the reader",
    Flag.SPELLING_EVADES: "words are spelled to evade filters",
    Flag.PARTS_DIFFER: "the plain text says something else than the formatted one",
    Flag.IMAGE_ONLY: "the mail is images and little text",
    Flag.ADDRESSES_MODEL: "text speaks to an assistant or a filter",
    Flag.DATE_OFF: "the date is far from now",
    Flag.ENVELOPE_ELSEWHERE: "the envelope sender is of another domain than the From address",
    Flag.SENDER_MISSING: "there is no sender address",
    Flag.RECIPIENTS_HIDDEN: "no recipient is named in To or Cc",
    Flag.DAMAGED: "the message is malformed",
}
