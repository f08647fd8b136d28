"""Mail to prompt as the daemon does it, step by step, for benchmarks and golden files.

The one place here that knows how the daemon's functions are put together on that way.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rspamd_llm import facts as facts_of
from rspamd_llm import fence, injection
from rspamd_llm import mail as mails
from rspamd_llm import prompt as prompts
from rspamd_llm.config import Config
from rspamd_llm.domain import Brief, Envelope, Facts, Mail, Message, Prompt
from rspamd_llm.prompt import Instructions

NOW = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)
"""When the project's own mails arrive: a fixed time, for a date far off is a fact."""

RECIPIENT = "user@example.org"


def message_of(data: bytes, *, max_body: int = Config().milter.max_body) -> Message:
    """The message as a client of nobody's hands it in."""
    envelope = Envelope(
        queue_id="4bench",
        client_address="203.0.113.9",
        recipients=(RECIPIENT,),
        recipient_count=1,
    )
    return Message(envelope=envelope, data=data[:max_body], size=len(data))


def mail_of(message: Message) -> Mail:
    return mails.read(message.data, truncated=message.size > len(message.data))


def facts_known(message: Message, mail: Mail, now: datetime) -> Facts:
    return injection.noted(facts_of.gather(message, mail, now=now), mail)


def brief(data: bytes, now: datetime = NOW) -> Brief:
    """The mail of these bytes as the daemon reads it."""
    message = message_of(data)
    mail = mail_of(message)
    return Brief(message=message, mail=mail, facts=facts_known(message, mail, now))


def instructions(config: Config) -> Instructions:
    """What a model that follows instructions is told.  Raises ConfigError."""
    return prompts.load_instructions(
        file=config.prompt.file,
        categories=config.verdict.categories,
        context_tokens=config.llm.context_tokens,
        max_output_tokens=config.llm.max_output_tokens,
        content=config.prompt.content,
        redact=config.prompt.redact,
    )


def prompt(found: Brief, told: Instructions, mark: str = "") -> Prompt:
    """The prompt for such a model, with a mark of its own where none is given."""
    return prompts.instruct(found, told, mark=mark or fence.mark())
