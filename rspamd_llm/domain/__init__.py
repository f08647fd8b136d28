"""Every value that crosses a module's border, and the errors.

What may live here: frozen values, enumerations and exceptions.  What may not: behaviour that
reaches outside, and any import but the standard library's.

A message travels one way, and each stop has its value:

    Message -> Mail -> Facts -> Evidence -> Prompt -> Completion -> Verdict -> Outcome -> edits
"""

from rspamd_llm.domain.errors import (
    AddressError,
    ConfigError,
    EvidenceError,
    ModelError,
    ReadingError,
    RspamdLlmError,
)
from rspamd_llm.domain.evidence import (
    Authentication,
    DomainRecords,
    Evidence,
    Opinion,
    Page,
    Registration,
    ReverseName,
    Signature,
    Source,
)
from rspamd_llm.domain.facts import Facts, Finding, Flag, Reading
from rspamd_llm.domain.judgement import (
    NO_CATEGORY,
    REASON_LIMIT,
    AnswerForm,
    Brief,
    Completion,
    Prompt,
    Verdict,
)
from rspamd_llm.domain.mail import (
    Attachment,
    Envelope,
    Hiding,
    Hop,
    Link,
    Mail,
    Message,
    Quoted,
    Trait,
)
from rspamd_llm.domain.outcome import (
    Cache,
    Deadline,
    Failure,
    HeaderEdits,
    Key,
    Outcome,
    Scan,
    Scored,
    Skip,
    Skipped,
    Unscored,
)

__all__ = [
    "NO_CATEGORY",
    "REASON_LIMIT",
    "AddressError",
    "AnswerForm",
    "Attachment",
    "Authentication",
    "Brief",
    "Cache",
    "Completion",
    "ConfigError",
    "Deadline",
    "DomainRecords",
    "Envelope",
    "Evidence",
    "EvidenceError",
    "Facts",
    "Failure",
    "Finding",
    "Flag",
    "HeaderEdits",
    "Hiding",
    "Hop",
    "Key",
    "Link",
    "Mail",
    "Message",
    "ModelError",
    "Opinion",
    "Outcome",
    "Page",
    "Prompt",
    "Quoted",
    "Reading",
    "ReadingError",
    "Registration",
    "ReverseName",
    "RspamdLlmError",
    "Scan",
    "Scored",
    "Signature",
    "Skip",
    "Skipped",
    "Source",
    "Trait",
    "Unscored",
    "Verdict",
]
