"""Evidence -> the lines that a model reads.

Plain functions.  `known` is ours: results, dates and names of domains; `told` is somebody else's
words and belongs inside a fence.  What may not live here: the prompt's frame (prompt.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from rspamd_llm.domain import Authentication, Envelope, Evidence, Facts
from rspamd_llm.domains import registered_domain
from rspamd_llm.evidence.privacy import kind

YOUNG = 30
"""Days for which a domain is called new: most domains of campaigns are used within a month."""

NAME_SHOWN = 32
"""Characters shown of a domain: nine in ten have fewer; longer ones would push out the rest."""

_KINDS_SHOWN = 3


def known(evidence: Evidence, facts: Facts, envelope: Envelope) -> Iterator[str]:
    """Our own lines about what was looked up, and about what needs no look-up; what weighs most
    comes first, for there may not be room for all."""
    if evidence.missing:
        yield f"Not found out in time: {', '.join(source.value for source in evidence.missing)}"
    if evidence.is_correspondent:
        yield "The recipient has written to this address before, and it is authenticated"
    yield from _domain(evidence, facts.sender_domain)
    if evidence.authentication is not None:
        yield from _authentication(evidence.authentication)
    for domain in dict.fromkeys((*evidence.registrations, *evidence.web)):
        if domain != facts.sender_domain:
            yield from _domain(evidence, domain)
    if evidence.records is not None:
        records = evidence.records
        has = ["takes mail" if records.mail else "takes no mail"]
        has += ["has SPF"] if records.spf else []
        has += [f"DMARC policy {records.dmarc}"] if records.dmarc else []
        yield f"Sender's domain in DNS: {', '.join(has) if records.exists else 'does not exist'}"
    if envelope.client_address:
        yield _client(evidence, envelope)
    if kinds := _kinds(facts):
        yield f"Known domains: {', '.join(kinds)}"


def told(evidence: Evidence) -> list[str]:
    """What the web and registrars say, a line a domain: somebody else's words."""
    lines = []
    for domain in dict.fromkeys((*evidence.web, *evidence.registrations)):
        says = [
            f'"{page.title}" at {page.host}' + (f": {page.snippet}" if page.snippet else "")
            for page in evidence.web.get(domain, ())
        ]
        registration = evidence.registrations.get(domain)
        if registration is not None and registration.registrar:
            says.append(f"registrar {registration.registrar}")
        if says:
            lines.append(f"{_shown(domain)}: {'; '.join(says)}")
    if evidence.named:
        says = [f'"{page.title}" at {page.host}: {page.snippet}' for page in evidence.named]
        lines.append(f"The sender's name: {'; '.join(says)}")
    return lines


def warnings(evidence: Evidence, facts: Facts) -> tuple[str, ...]:
    """What weighs against the mail, in sentences; the heaviest first."""
    found = []
    for domain, one in evidence.registrations.items():
        whose = _whose(domain, facts)
        if not one.found:
            found.append(f"{whose} is not registered")
        elif one.created is not None and (evidence.day - one.created).days <= YOUNG:
            found.append(f"{whose} was registered {_days(one.created, evidence.day)} ago")
    if evidence.records is not None and not evidence.records.exists:
        found.append("the sender's domain does not exist")
    if evidence.authentication is not None and evidence.authentication.dmarc == "fail":
        found.append("the sender's domain did not authenticate this mail")
    if not evidence.web.get(facts.sender_domain, (facts.sender_domain,)):
        found.append("the web knows nothing of the sender's domain")
    return tuple(found)


def _whose(domain: str, facts: Facts) -> str:
    if domain == facts.sender_domain:
        return "the sender's domain"
    is_for_replies = domain in facts.reply_domains and domain not in facts.link_domains
    return "the domain for replies" if is_for_replies else "a link's domain"


def _domain(evidence: Evidence, domain: str) -> Iterator[str]:
    """How old a domain is, and whether the web knows nothing of it."""
    one = evidence.registrations.get(domain)
    if one is not None:
        age = _age(one.created, evidence.day) if one.found else "is not registered"
        yield f"Registered: {_shown(domain)} {age}"
    if evidence.web.get(domain) == ():
        yield f"The web knows nothing of: {_shown(domain)}"


def _kinds(facts: Facts) -> list[str]:
    several = dict.fromkeys((facts.sender_domain, *facts.reply_domains, *facts.link_domains))
    named = ((domain, kind(domain)) for domain in several if domain)
    return [f"{_shown(domain)} is a {what}" for domain, what in named if what][:_KINDS_SHOWN]


def _client(evidence: Evidence, envelope: Envelope) -> str:
    name, confirmed = registered_domain(envelope.client_name), True
    if not name and evidence.reverse is not None:
        name, confirmed = registered_domain(evidence.reverse.name), evidence.reverse.confirmed
    told = [f"[{envelope.client_address}]"]
    if name:
        told.append(f"name {_shown(name)}" if confirmed else f"unconfirmed name {_shown(name)}")
    elif envelope.client_name or evidence.reverse is not None:
        told.append("no confirmed name")
    if helo := registered_domain(envelope.helo):
        told.append(f"HELO {_shown(helo)}")
    return f"Sent by: {', '.join(told)}"


def _authentication(found: Authentication) -> Iterator[str]:
    if found.dmarc:
        policy = f" (policy {found.policy})" if found.policy else ""
        yield f"DMARC: {found.dmarc}{policy}"
    if found.spf:
        of = registered_domain(found.spf_domain)
        yield f"SPF: {found.spf}" + (f" for {_shown(of)}" if of else "")
    for signature in found.signatures[:2]:
        by = registered_domain(signature.domain)
        fits = "" if signature.aligned else ", not the From domain"
        yield f"DKIM: {signature.result} by {_shown(by) or 'unnamed'}{fits}"
    if found.arc == "pass" and found.sealer:
        yield f"ARC: pass by {_shown(registered_domain(found.sealer))}"


def _shown(domain: str) -> str:
    """A domain, of a long one the end: what its owner pays for stands there."""
    return domain if len(domain) <= NAME_SHOWN else f"\u2026{domain[-NAME_SHOWN:]}"


def _age(created: date | None, today: date) -> str:
    if created is None:
        return "at an unknown date"
    if (today - created).days <= YOUNG:
        return f"{_days(created, today)} ago"
    return f"{created:%Y-%m}"


def _days(created: date, today: date) -> str:
    days = max(0, (today - created).days)
    return "1 day" if days == 1 else f"{days} days"
