"""Texts that strangers write so that a page does what they want."""

from __future__ import annotations

from dataclasses import replace

from rspamd_llm.domain import Facts, Mail, Message, Scan
from tests.kept import ENVELOPE, EVIDENCE, MESSAGE, scored

PAYLOADS = {
    "script": "<script>document.title='owned'</script>",
    "closing": "</bdi></td></table></div></style></title></textarea><script>owned()</script>",
    "image": "<img src=x onerror=\"document.title='owned'\">",
    "remote image": "<img src=//remote.test/x.png><link rel=stylesheet href=//remote.test/x.css>",
    "attribute": '" autofocus onfocus="document.title=\'owned\'" x="',
    "single quote": "' onmouseover='document.title=1' x='",
    "unquoted": "x onclick=owned() style=position:fixed;inset:0",
    "link": "<a href=\"javascript:document.title='owned'\">press</a> javascript:owned()",
    "svg": "<svg onload=document.title='owned'><animate onbegin=owned() attributeName=x>",
    "frame": "<iframe srcdoc='<script>parent.document.title=1</script>'></iframe>",
    "base": "<base href=//remote.test/><meta http-equiv=refresh content='0;url=//remote.test/'>",
    "form": "<form action=//remote.test/><input name=token><button>Sign in</button></form>",
    "style": "<style>*{display:none;background:url(//remote.test/x)}</style>",
    "comment": "<!-- --><![CDATA[ ]]><?php x ?><!--[if IE]><script>owned()</script><![endif]-->",
    "template": "{{ 7*7 }}{% for x in config %}{{ x }}{% endfor %}${7*7}<%= 7*7 %>#{7*7}",
    "entities": "&lt;script&gt;owned()&lt;/script&gt;&#60;img src=x&#62;&quot;&apos;&#0;",
    "nulls": "<scr\0ipt>owned()</scr\0ipt><img\0src=x\x0conerror=owned()>\x1b[2J\x08\x7f\x9b",
    "charset": "+ADw-script+AD4-owned()+ADw-/script+AD4-\uff1cscript\uff1e\u2028\u2029",
    "direction": "invoice_\u202efdp.exe\u202c \u2066\u2067x\u2069 \u200f\u200e\u061c ok",
    "invisible": "pay\u200bpal\u2060\ufeff\u00ad\U000e0041\U000e0042 \ud800\udfff",
    "piled": "z" + "\u0335\u0341\u0301\u0300" * 40 + "algo",
    "long": "W" * 2_000,
}


def noted(payload: str) -> tuple[Message, Scan, Mail]:
    """A message whose every text that a stranger chooses is this, as it would be noted."""
    envelope = replace(
        ENVELOPE,
        queue_id=payload,
        client_address=payload,
        client_name=payload,
        helo=payload,
        sender=payload,
        recipients=(payload, payload),
    )
    scan = scored(
        category=payload,
        reason=payload,
        model=payload,
        injection=True,
        facts=Facts(sender_domain=payload),
        evidence=replace(EVIDENCE, registrations={payload: EVIDENCE.registrations["bulk.example"]}),
        stages={payload: 1.0},
    )
    return replace(MESSAGE, envelope=envelope), scan, Mail(subject=payload, text=payload)
