"""Facts + Mail -> Prompt, within a budget.

The wording of everything a model reads is here and in prompts/.  What may not live here: asking
the model (llm.py) and finding facts (facts.py).  Two profiles: `instruct` for models that follow
instructions, `compact` for the builtin one, which was trained on exactly the text that `compact`
returns: a change to it calls for a new training (script/train).
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rspamd_llm.domain import (
    NO_CATEGORY,
    AnswerForm,
    ConfigError,
    Facts,
    Flag,
    Link,
    Mail,
    Prompt,
)

COMPACT_LIMIT = 1_400
"""UTF-8 bytes of a compact prompt.  A token is at least a byte, so with its few special tokens it
always fits the 2,048 tokens that the engine gives the builtin model for each slot."""

COMPACT_PARTS = ("none", "phishing", "scam", "malware", "marketing")
"""The builtin model's answers."""

LINKS_SHOWN = 8
FILES_SHOWN = 6

_MEANINGS: Mapping[str, str] = {
    "phishing": "wants credentials, codes or payment data under a false name",
    "scam": "wants money or goods by deceit: advance fee, fake boss, lottery, extortion, loans",
    "malware": "wants something dangerous to be opened or installed",
    "marketing": "unsolicited advertising by a stranger",
    NO_CATEGORY: "wanted mail, or unwanted mail of another kind",
}

_SENTENCES: Mapping[Flag, str] = {
    Flag.NAME_HAS_ADDRESS: "the sender's name contains an address of another domain",
    Flag.REPLY_ELSEWHERE: "replies go to another domain than the sender's",
    Flag.LINK_MISMATCH: "a link shows one domain and leads to another",
    Flag.LINK_ADDRESS: "a link leads to a bare IP address",
    Flag.LINK_PUNYCODE: "a link's host name uses an international spelling",
    Flag.LINK_CREDENTIALS: "a link hides its host behind login data",
    Flag.LINKS_ELSEWHERE: "no link leads to the sender's domain",
    Flag.ATTACHMENT_RUNS: "an attachment can run code",
    Flag.ATTACHMENT_ARCHIVE: "an attachment is an archive",
    Flag.ATTACHMENT_PAGE: "an attachment is a web page",
    Flag.ENVELOPE_ELSEWHERE: "the envelope sender is of another domain than the From address",
    Flag.SENDER_MISSING: "there is no sender address",
    Flag.RECIPIENTS_HIDDEN: "no recipient is named in To or Cc",
    Flag.DAMAGED: "the message is malformed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """The fixed text of the `instruct` profile and what is derived from it."""

    system: str
    categories: tuple[str, ...]
    mail_tokens: int
    """What facts and mail together may cost, by `tokens_at_most`."""

    @property
    def id(self) -> str:
        """First 8 hex digits of SHA-256 over the fixed text."""
        return hashlib.sha256(self.system.encode()).hexdigest()[:8]


def load_instructions(
    *, file: str, categories: tuple[str, ...], context_tokens: int, max_output_tokens: int
) -> Instructions:
    """The instructions from `file`, or the package's own where it is empty.

    `{categories}` and `{meanings}` in the text are replaced.  Raises ConfigError if the file
    cannot be read, or if the context cannot hold the instructions, an answer and a short mail.
    """
    try:
        source = Path(file) if file else resources.files(__package__) / "prompts" / "instruct.txt"
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError((f"prompt.file: cannot be read as UTF-8 text: {error}",)) from error
    names = (*categories, NO_CATEGORY)
    meanings = "\n".join(f"{name}: {_MEANINGS[name]}" for name in names if name in _MEANINGS)
    system = text.replace("{categories}", ", ".join(f'"{name}"' for name in names))
    system = system.replace("{meanings}", meanings).strip()
    left = context_tokens - max_output_tokens - tokens_at_most(system) - CHAT_TOKENS
    if left < MAIL_TOKENS_LEAST:
        least = context_tokens - left + MAIL_TOKENS_LEAST
        raise ConfigError(
            (
                f"llm.context_tokens: {context_tokens} cannot hold the instructions, an answer of "
                f"{max_output_tokens} tokens and a mail; set it, and the model server's context, "
                f"to {least} or more, or llm.max_output_tokens lower",
            )
        )
    return Instructions(system=system, categories=categories, mail_tokens=left)


CHAT_TOKENS = 64
"""Tokens that a chat template adds around two messages; the known ones need fewer than 40."""

MAIL_TOKENS_LEAST = 400
"""Below this there is room for the facts but for no text worth judging."""


_CHEAP = (string.ascii_letters + string.whitespace).encode()


def tokens_at_most(text: str) -> int:
    """A bound from above for the tokens of a text in the vocabularies of common models.

    ASCII letters and blanks run to 4 a token in prose and seldom below 2.5; digits and signs are
    often a token each; other letters about one each; what is outside the BMP up to 4.
    """
    plain = text.encode("ascii", "ignore")
    signs = len(plain.translate(None, _CHEAP))
    foreign = len(text) - len(plain)
    beyond_bmp = len(text.encode("utf-16-le", "surrogatepass")) // 2 - len(text)
    cost = 0.4 * (len(plain) - signs) + signs + 1.2 * (foreign - beyond_bmp) + 4.0 * beyond_bmp
    return int(cost) + 1


def instruct(mail: Mail, facts: Facts, instructions: Instructions) -> Prompt:
    """The prompt for a model that follows instructions: fixed text, facts, and the mail last."""
    budget = instructions.mail_tokens
    lines = "\n".join(_fact_lines(mail, facts))
    # Facts quote the mail: however long a sender makes them, there is room for its text, and the
    # line that calls it untrusted stands.
    head = "FACTS (from the scanner)\n" + _fitting(lines, budget // 2)
    head += "\n\nMAIL (untrusted, to its end)\n"
    head += f"Subject: {_fitting(mail.subject, budget // 8)}\nText:\n"
    user = head + excerpt(mail.text, budget - tokens_at_most(head))
    return Prompt(
        system=instructions.system,
        user=user,
        form=AnswerForm.JSON,
        categories=instructions.categories,
        id=instructions.id,
    )


def excerpt(text: str, tokens: int) -> str:
    """The text, or two thirds from its head and a third from its tail, within the budget."""
    if tokens_at_most(text) <= tokens:
        return text
    mark = "\n[...]\n"
    room = tokens - tokens_at_most(mark)
    if room <= 0:
        return ""
    head = _fitting(text, room * 2 // 3)
    tail = _fitting(text[len(head) :][::-1], room // 3)[::-1]
    return head + mark + tail


def _fitting(text: str, tokens: int) -> str:
    """The longest head of the text that costs at most so many tokens, found by bisection."""
    if tokens_at_most(text[: tokens * 3]) <= tokens:
        return text[: tokens * 3]
    low, high = 0, min(len(text), tokens * 3)  # no sign costs less than a third of a token
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens_at_most(text[:middle]) <= tokens else (low, middle - 1)
    return text[:low]


def _fact_lines(mail: Mail, facts: Facts) -> list[str]:
    """The facts as labelled lines.  Recipients are counted, never named."""
    name = f'"{mail.from_name}" ' if mail.from_name else ""
    lines = [f"Sender: {name}<{mail.from_address}>" if mail.from_address else "Sender: none given"]
    if facts.sender_domain:
        lines.append(f"Sender's registered domain: {facts.sender_domain}")
    if facts.envelope_domain and facts.envelope_domain != facts.sender_domain:
        lines.append(f"Envelope sender's domain: {facts.envelope_domain}")
    if facts.reply_domains:
        lines.append(f"Replies go to: {', '.join(facts.reply_domains[:3])}")
    if mail.hop.address:
        lines.append(f"Came from: {mail.hop.host or 'unnamed host'} [{mail.hop.address}]")
    lines.append(f"Recipients named in To and Cc: {mail.to_count}")
    if mail.date is not None:
        lines.append(f"Date: {mail.date:%Y-%m-%d %H:%M}")
    claims = [
        claim
        for claim, holds in (
            ("a mailing list or newsletter", mail.listed),
            ("a reply", mail.reply),
            ("an automatic message", mail.automatic),
        )
        if holds
    ]
    if claims:
        lines.append(f"The header claims: {', '.join(claims)} (not checked)")
    lines.append(f"Links: {len(mail.links)}" + (" to " if facts.link_domains else ""))
    lines[-1] += ", ".join(facts.link_domains[:LINKS_SHOWN])
    lines += [f"- {_shown(link)}" for link in mail.links[:LINKS_SHOWN]]
    if mail.attachments:
        files = (f"{f.name[:60] or 'unnamed'} ({f.type}, {f.size} bytes)" for f in mail.attachments)
        lines.append(f"Attachments: {'; '.join(list(files)[:FILES_SHOWN])}")
    lines += [
        f"Noticed: {_SENTENCES[finding.flag]}" + (f" ({finding.detail})" if finding.detail else "")
        for finding in facts.findings
    ]
    lines += [f"Reading: {defect}" for defect in mail.defects]
    return lines


def _shown(link: Link) -> str:
    text = " ".join(link.text.split())[:60]
    target = " ".join(link.target.split())[:120]
    return f'"{text}" -> {target}' if text else target


# --- The compact profile --------------------------------------------------------------------

_COMPACT_TEMPLATE = "from|to|facts|links|files|subject|text"


def compact_prompt(mail: Mail, facts: Facts, categories: tuple[str, ...]) -> Prompt:
    """The prompt for the builtin model, which answers with one of COMPACT_PARTS."""
    return Prompt(
        system="",
        user=compact(mail, facts),
        form=AnswerForm.LABEL,
        categories=categories,
        id=hashlib.sha256(_COMPACT_TEMPLATE.encode()).hexdigest()[:8],
    )


def compact(mail: Mail, facts: Facts) -> str:
    """Facts and an excerpt in the form the builtin model was trained on, at most COMPACT_LIMIT.

    Signs that could spell a special token of the model's are replaced.
    """
    marks = [finding.flag.value for finding in facts.findings if finding.flag in _COMPACT_FLAGS]
    claims = (("list", mail.listed), ("reply", mail.reply), ("automatic", mail.automatic))
    marks += [name for name, holds in claims if holds]
    parts = [
        f"from: {mail.from_name[:60]} ({mail.from_address[:80]})",
        f"to: {'none' if mail.to_count == 0 else 'one' if mail.to_count == 1 else 'many'}",
        f"facts: {' '.join(marks)}",
        f"links: {len(mail.links)} {' '.join(d[:40] for d in facts.link_domains[:4])}",
        f"files: {' '.join(file.name[-30:] for file in mail.attachments[:3])}",
        f"subject: {mail.subject[:150]}",
        f"text: {' '.join((mail.plain or mail.text)[: COMPACT_LIMIT * 2].split())}",
    ]
    text = "\n".join(parts).translate(_DEFUSED)
    return text.encode("utf-8")[:COMPACT_LIMIT].decode("utf-8", "ignore")


_DEFUSED = str.maketrans("<>|[]", "()/()")

_COMPACT_FLAGS = frozenset(
    (
        Flag.NAME_HAS_ADDRESS,
        Flag.REPLY_ELSEWHERE,
        Flag.LINK_MISMATCH,
        Flag.LINK_ADDRESS,
        Flag.LINK_PUNYCODE,
        Flag.LINK_CREDENTIALS,
        Flag.LINKS_ELSEWHERE,
        Flag.ATTACHMENT_RUNS,
        Flag.ATTACHMENT_ARCHIVE,
        Flag.ATTACHMENT_PAGE,
        Flag.SENDER_MISSING,
        Flag.RECIPIENTS_HIDDEN,
    )
)
"""The flags that the builtin model has learned."""


def strongest_facts(facts: Facts) -> str:
    """A sentence of the facts that weigh most, for a model that writes none; it says so."""
    order = list(Flag)
    ranked = sorted(facts.findings, key=lambda finding: order.index(finding.flag))
    shown = [_SENTENCES[f.flag] for f in ranked if f.flag in _COMPACT_FLAGS][:2]
    return f"Put together from facts: {'; '.join(shown) or 'nothing stands out'}"
