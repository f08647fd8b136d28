"""All metrics there are, in one table: what each is called, what it tells, and how it is read.

What is told at the port, Grafana's dashboard, Prometheus's alert rules and docs/metrics.md are made
of it.  Labels name kinds of things (a status, a stage), never domains or text of a mail: each
combination is kept for ever.  What may not live here: how metrics are written down.
"""

from __future__ import annotations

import itertools

from rspamd_llm.domain import Cache, Failure, Skip, Source
from rspamd_llm.metrics.kinds import (
    Definition,
    Group,
    Kind,
    OfCounters,
    OfLibrary,
    OfMessages,
    OfMoment,
    Unit,
)
from rspamd_llm.metrics.process import DAEMON, HELPERS, LIBMILTER, OURS, READERS
from rspamd_llm.metrics.reading import (
    BANDS,
    band,
    injection,
    outcome,
    rspamd,
    stages,
    tokens,
    verdict,
    whole,
)

STATUSES = ("scored", "skipped", "unscored")
STAGES = ("read", "rspamd", "evidence", "fit", "model", "memory")
"""As scanner.py names them."""

_OUTCOMES = (
    ("scored", ""),
    *(("skipped", code.value) for code in Skip),
    *(("unscored", code.value) for code in Failure),
)
_CACHES = tuple(cache.value for cache in Cache)
_LOOKED_UP = tuple(source.value for source in Source if source is not Source.AUTHENTICATION)
_LOOK_UPS = ("hit", "joined", "found", "nothing", "failed", "refused", "late")
_QUESTIONS = ("answered", "failed", "late", "refused", "cut")
_PURPOSES = ("domain", "name", "control")
_REFUSALS = ("day", "day-links")

# --- Health ---------------------------------------------------------------------------------

READY = Definition(
    name="rspamd_llm_ready",
    kind=Kind.GAUGE,
    group=Group.HEALTH,
    title="Ready",
    text="Whether new mail has a chance to be judged: nothing stops, and a model server is well",
    unit=Unit.BOOLEAN,
    origin=OfMoment(lambda moment: [((), moment.health.is_ready)]),
)
INFO = Definition(
    name="rspamd_llm_info",
    kind=Kind.GAUGE,
    group=Group.HEALTH,
    title="Version and model",
    text="Always 1; the labels say which version runs, and with which model",
    labels={"version": (), "model": ()},
    origin=OfMoment(lambda moment: [((moment.health.version, moment.health.model), 1)]),
)
SERVER_UP = Definition(
    name="rspamd_llm_server_up",
    kind=Kind.GAUGE,
    group=Group.HEALTH,
    title="Model servers that are well",
    text="Whether a model server's breaker is closed; one that fails is left out, until a message "
    "that tries it succeeds",
    unit=Unit.BOOLEAN,
    labels={"server": ()},
    origin=OfMoment(
        lambda moment: [((server.url,), server.is_well) for server in moment.health.servers]
    ),
)
SOURCE_UP = Definition(
    name="rspamd_llm_source_up",
    kind=Kind.GAUGE,
    group=Group.HEALTH,
    title="Evidence sources that are well",
    text="Whether the breaker of a source of evidence is closed; those switched off are left out",
    unit=Unit.BOOLEAN,
    labels={"source": _LOOKED_UP},
    origin=OfMoment(
        lambda moment: [((source.name,), source.is_well) for source in moment.health.sources]
    ),
)
RSPAMD_UP = Definition(
    name="rspamd_llm_rspamd_up",
    kind=Kind.GAUGE,
    group=Group.HEALTH,
    title="Rspamd gives its opinion",
    text="Whether Rspamd's breaker is closed; absent where it is not asked",
    unit=Unit.BOOLEAN,
    origin=OfMoment(rspamd),
)
STORE_UP = Definition(
    name="rspamd_llm_store_up",
    kind=Kind.GAUGE,
    group=Group.HEALTH,
    title="Store works",
    text="Whether the store works",
    unit=Unit.BOOLEAN,
    origin=OfMoment(lambda moment: [((), not moment.health.store_fault)]),
)

# --- Mail -----------------------------------------------------------------------------------

MESSAGES = Definition(
    name="rspamd_llm_messages_total",
    kind=Kind.COUNTER,
    group=Group.MAIL,
    title="Messages by outcome",
    text="Messages by status and code; a scored one has no code",
    labels={
        "status": STATUSES,
        "code": tuple(code for _, code in _OUTCOMES),
    },
    begins=_OUTCOMES,
    origin=OfMessages(outcome),
)
VERDICTS = Definition(
    name="rspamd_llm_verdicts_total",
    kind=Kind.COUNTER,
    group=Group.MAIL,
    title="Verdicts",
    text="Verdicts by category, score band and where they came from: the model was asked (miss), "
    "it had been (hit), or was just then being asked about a message like this one (joined)",
    labels={
        "category": (),
        "band": tuple(band(low) for low in (0.0, *BANDS)),
        "cache": _CACHES,
    },
    origin=OfMessages(verdict),
)
MESSAGE_SECONDS = Definition(
    name="rspamd_llm_message_seconds",
    kind=Kind.HISTOGRAM,
    group=Group.MAIL,
    title="Time of a message",
    text="Seconds that a message took to judge, as a whole",
    unit=Unit.SECONDS,
    labels={"status": STATUSES},
    begins=tuple((status,) for status in STATUSES),
    origin=OfMessages(whole),
)
STAGE_SECONDS = Definition(
    name="rspamd_llm_stage_seconds",
    kind=Kind.HISTOGRAM,
    group=Group.MAIL,
    title="Time by stage",
    text="Seconds that each stage of a message took",
    unit=Unit.SECONDS,
    labels={"stage": STAGES},
    begins=tuple((stage,) for stage in STAGES),
    origin=OfMessages(stages),
)
DEADLINE = Definition(
    name="rspamd_llm_deadline_seconds",
    kind=Kind.GAUGE,
    group=Group.MAIL,
    title="Deadline",
    text="Seconds that a message has at most: milter.deadline",
    unit=Unit.SECONDS,
    origin=OfMoment(lambda moment: [((), moment.health.deadline)]),
)
IN_FLIGHT = Definition(
    name="rspamd_llm_in_flight",
    kind=Kind.GAUGE,
    group=Group.MAIL,
    title="Messages in flight",
    text="Messages that are being judged",
    origin=OfMoment(lambda moment: [((), moment.health.in_flight)]),
)
INJECTIONS = Definition(
    name="rspamd_llm_injections_total",
    kind=Kind.COUNTER,
    group=Group.MAIL,
    title="Injection attempts",
    text="Scored messages whose text speaks to a model",
    origin=OfMessages(injection),
)
FORGED_MESSAGES = Definition(
    name="rspamd_llm_forged_messages_total",
    kind=Kind.COUNTER,
    group=Group.MAIL,
    title="Messages with forged headers",
    text="Messages that arrived with X-GPT headers",
    origin=OfMessages(lambda message, _scan: [((), message.forged > 0)]),
)
FORGED_HEADERS = Definition(
    name="rspamd_llm_forged_headers_total",
    kind=Kind.COUNTER,
    group=Group.MAIL,
    title="Forged headers",
    text="X-GPT headers that arrived with messages, and were deleted",
    origin=OfMessages(lambda message, _scan: [((), message.forged)]),
)

# --- Model ----------------------------------------------------------------------------------

WAITING = Definition(
    name="rspamd_llm_waiting",
    kind=Kind.GAUGE,
    group=Group.MODEL,
    title="Queue for the model",
    text="Messages that wait for a slot of llm.concurrency",
    origin=OfMoment(lambda moment: [((), moment.health.waiting)]),
)
SERVER_CALLS = Definition(
    name="rspamd_llm_server_calls",
    kind=Kind.GAUGE,
    group=Group.MODEL,
    title="Calls by model server",
    text="Calls under way of a model server",
    labels={"server": ()},
    origin=OfMoment(
        lambda moment: [((server.url,), server.calls) for server in moment.health.servers]
    ),
)
TOKENS = Definition(
    name="rspamd_llm_tokens_total",
    kind=Kind.COUNTER,
    group=Group.MODEL,
    title="Tokens",
    text="Tokens of prompts (in) and answers (out), as the model servers count them",
    labels={"direction": ("in", "out")},
    begins=(("in",), ("out",)),
    origin=OfMessages(tokens),
)

# --- Evidence -------------------------------------------------------------------------------

EVIDENCE = Definition(
    name="rspamd_llm_evidence_total",
    kind=Kind.COUNTER,
    group=Group.EVIDENCE,
    title="Look-ups",
    text="Look-ups by source and outcome: remembered (hit), waited for another's (joined), found, "
    "nothing there, failed, refused (the source is left alone, or a limit is reached), and late "
    "(too late for its message, which was judged without)",
    labels={"source": tuple(source.value for source in Source), "outcome": _LOOK_UPS},
    begins=(
        *itertools.product(_LOOKED_UP, _LOOK_UPS),
        (Source.AUTHENTICATION.value, "late"),
    ),
    origin=OfCounters("evidence"),
)
RSPAMD = Definition(
    name="rspamd_llm_rspamd_total",
    kind=Kind.COUNTER,
    group=Group.EVIDENCE,
    title="Questions to Rspamd",
    text="Questions to Rspamd by outcome: answered, failed, late, refused (it failed too often, "
    "and is left alone), and cut (not asked, as not all of the message was kept)",
    labels={"outcome": _QUESTIONS},
    begins=tuple((outcome,) for outcome in _QUESTIONS),
    origin=OfCounters("rspamd"),
)
SEARCHES = Definition(
    name="rspamd_llm_search_queries_total",
    kind=Kind.COUNTER,
    group=Group.EVIDENCE,
    title="Web searches",
    text="Queries sent to the search provider by purpose: a domain, a sender's name with its "
    "domain, and controls, which tell whether the provider finds anything at all",
    labels={"purpose": _PURPOSES},
    begins=tuple((purpose,) for purpose in _PURPOSES),
    origin=OfCounters("search_queries"),
)
SEARCHES_REFUSED = Definition(
    name="rspamd_llm_search_refused_total",
    kind=Kind.COUNTER,
    group=Group.EVIDENCE,
    title="Web searches beyond the day's",
    text="Queries not sent, as search.max_per_day is used up (day), or as much of it as links may "
    "use (day-links)",
    labels={"reason": _REFUSALS},
    begins=tuple((reason,) for reason in _REFUSALS),
    origin=OfCounters("search_refused"),
)

# --- Process --------------------------------------------------------------------------------

MEMORY = Definition(
    name="rspamd_llm_memory_bytes",
    kind=Kind.GAUGE,
    group=Group.PROCESS,
    title="Memory by process",
    text="Memory of the daemon, of the processes that read mail, and of its helpers (the embedded "
    "engine, web searches); what several share is counted once (Pss)",
    unit=Unit.BYTES,
    labels={"process": (DAEMON, READERS, HELPERS)},
    origin=OfMoment(
        lambda moment: [((kind,), size) for kind, size in moment.footprint.memory.items()]
    ),
)
THREADS = Definition(
    name="rspamd_llm_threads",
    kind=Kind.GAUGE,
    group=Group.PROCESS,
    title="Threads",
    text="Threads of the daemon: its own, and libmilter's pool of workers",
    labels={"kind": (OURS, LIBMILTER)},
    origin=OfMoment(
        lambda moment: [((kind,), count) for kind, count in moment.footprint.threads.items()]
    ),
)


def _library(name: str, title: str, text: str, unit: Unit) -> Definition:
    return Definition(
        name=name,
        kind=Kind.COUNTER if name.endswith("_total") else Kind.GAUGE,
        group=Group.PROCESS,
        title=title,
        text=text,
        unit=unit,
        origin=OfLibrary(),
    )


CPU = _library(
    "process_cpu_seconds_total", "CPU", "Seconds of CPU that the daemon used", Unit.SECONDS
)
RESIDENT = _library(
    "process_resident_memory_bytes",
    "Resident memory",
    "Memory of the daemon's process that is not swapped out, shared or not",
    Unit.BYTES,
)
VIRTUAL = _library(
    "process_virtual_memory_bytes",
    "Virtual memory",
    "Addresses that the daemon's process has mapped",
    Unit.BYTES,
)
DESCRIPTORS = _library(
    "process_open_fds", "Open descriptors", "File descriptors that the daemon has open", Unit.COUNT
)
MOST_DESCRIPTORS = _library(
    "process_max_fds", "Most descriptors", "File descriptors that it may have open", Unit.COUNT
)
STARTED = _library("process_start_time_seconds", "Started", "When the daemon began", Unit.TIME)

DEFINITIONS = (
    READY,
    INFO,
    SERVER_UP,
    SOURCE_UP,
    RSPAMD_UP,
    STORE_UP,
    MESSAGES,
    VERDICTS,
    MESSAGE_SECONDS,
    STAGE_SECONDS,
    DEADLINE,
    IN_FLIGHT,
    INJECTIONS,
    FORGED_MESSAGES,
    FORGED_HEADERS,
    WAITING,
    SERVER_CALLS,
    TOKENS,
    EVIDENCE,
    RSPAMD,
    SEARCHES,
    SEARCHES_REFUSED,
    MEMORY,
    THREADS,
    CPU,
    RESIDENT,
    VIRTUAL,
    DESCRIPTORS,
    MOST_DESCRIPTORS,
    STARTED,
)
"""Every metric, in the order in which it is told of."""
