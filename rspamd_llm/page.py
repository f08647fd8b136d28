"""The administrator's page: health and history in, HTML out.

The only importer of jinja2, which escapes all that a template shows.  Reading blocks: a caller runs
these in a thread.  What may not live here: the port and who may look (web.py, login.py), and shapes
of charts (charts.py).

Much of what is shown was written by strangers, or by a model that read them.  Beside escaping, each
such text is made visible (`clean`) and stands in an element that keeps its writing direction within
(<bdi>).  There is no script, no style and no resource but our own two files.
"""

from __future__ import annotations

import functools
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from urllib.parse import urlencode

import jinja2

from rspamd_llm.charts import KINDS, charts
from rspamd_llm.health import Health
from rspamd_llm.history import Bucket, Filter, History, HistoryError, Reader, Record
from rspamd_llm.records import BANDS, band, bounded

LINES = 50
"""Records on a page: some screens, and a tenth of a megabyte of HTML."""

COLUMNS = 48
"""Spans of a chart: those of a day are half an hour, and a bar is 6 pixels wide on a phone."""

SEARCH = 100
"""Characters of a text that is searched for."""

NUMBER = 15
"""Digits of an id that is looked up: SQLite's have at most 19."""

MARKS = 3
"""Combining marks on a letter: what pointed Hebrew and Vietnamese need."""

STATUSES = ("scored", "skipped", "unscored")
_DAY = 86_400.0
_KEPT_SIGNS = "\n\u200c\u200d"  # with the joiners of Persian, Indic scripts and emoji
_MARKS = {"Mn", "Me"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a page's query string asks for; what makes no sense there is left out."""

    wanted: Filter
    before: int | None
    span: str

    @classmethod
    def read(cls, query: Mapping[str, str], spans: Mapping[str, float]) -> Asked:
        """`spans` are the charts' by name, the first of them where none is asked for."""
        status, within, span = (query.get(name, "") for name in ("status", "band", "span"))
        before = query.get("before", "")
        return cls(
            wanted=Filter(
                status=status if status in STATUSES else "",
                category=bounded(query.get("category", ""), SEARCH),
                band=within if within in BANDS else "",
                text=bounded(query.get("text", "").replace("\0", ""), SEARCH).strip(),
            ),
            before=int(before) if _is_number(before) else None,
            span=span if span in spans else next(iter(spans)),
        )

    @property
    def is_narrow(self) -> bool:
        """Whether not all verdicts are wanted."""
        return self.wanted != Filter()

    def link(self, **values: object) -> str:
        """The query string of this with some values replaced."""
        wanted = self.wanted
        told = {
            "text": wanted.text,
            "status": wanted.status,
            "category": wanted.category,
            "band": wanted.band,
            "span": self.span,
        }
        return "?" + urlencode({name: value for name, value in (told | values).items() if value})


class Page:
    """Makes the pages.  Any thread may ask."""

    def __init__(
        self,
        reader: Reader | None,
        history: History | None = None,
        *,
        days: int,
        has_login: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`reader` is None where nothing is kept; `history` is the one that is written, asked only
        how it is.  `has_login`: there is something to sign out of."""
        self._reader = reader
        self._history = history
        self._spans = {"day": 1.0, "week": 7.0, "all": float(days)}
        self._days = days
        self._has_login = has_login
        self._clock = clock

    def overview(self, health: Health | None, query: Mapping[str, str]) -> str:
        """Health, charts and the newest verdicts.  None: the daemon does not say how it is."""
        asked = Asked.read(query, self._spans)
        days = self._spans[asked.span]
        step = days * _DAY / COLUMNS
        since = (self._clock() // step + 1 - COLUMNS) * step
        records: tuple[Record, ...] = ()
        buckets: tuple[Bucket, ...] = ()
        categories: tuple[str, ...] = ()
        fault = ""
        if self._reader is not None:
            try:
                records = self._reader.recent(asked.wanted, before=asked.before, most=LINES + 1)
                buckets = self._reader.buckets(since, step)
                categories = self._reader.categories()
            except HistoryError as error:
                fault = str(error)
        older = records[LINES - 1].id if len(records) > LINES else None
        return self._rendered(
            "overview.html",
            health=health,
            history=self._history,
            is_kept=self._reader is not None,
            fault=fault,
            asked=asked,
            older=older,
            records=records[:LINES],
            categories=categories,
            charts=charts(buckets, since=since, step=step, number=COLUMNS),
            totals={kind: sum(getattr(one, kind) for one in buckets) for kind in KINDS},
            spans=self._spans,
            days=self._days,
            has_login=self._has_login,
            since=since,
        )

    def verdict(self, number: str) -> str | None:
        """One record in full; None where there is none of that id."""
        if self._reader is None or not _is_number(number):
            return None
        try:
            record = self._reader.one(int(number))
        except HistoryError as error:
            return self._rendered("failed.html", fault=str(error))
        return self._rendered("verdict.html", record=record) if record is not None else None

    def login(self, *, is_wrong: bool) -> str:
        """The form that asks for the token."""
        return self._rendered("login.html", is_wrong=is_wrong)

    def _rendered(self, name: str, **values: object) -> str:
        zone = datetime.fromtimestamp(self._clock()).astimezone().tzname()
        values |= {"now": self._clock(), "zone": zone, "kinds": KINDS, "statuses": STATUSES}
        return _environment().get_template(name).render(values | {"bands": BANDS})


@functools.cache
def asset(name: str) -> bytes:
    """A file that the pages name: `page.css` or `icon.svg`."""
    return (resources.files(__package__) / "data" / "page" / name).read_bytes()


def clean(text: object) -> str:
    """A stranger's text as it may be shown: signs that hide, move or turn others are replaced, and
    marks piled up on one letter are left out."""
    shown = []
    marks = 0
    for sign in str(text):
        marks = marks + 1 if unicodedata.category(sign) in _MARKS else 0
        if marks <= MARKS:
            shown.append(sign if _is_shown(sign) else "\ufffd")
    return "".join(shown)


def _is_shown(sign: str) -> bool:
    return sign in _KEPT_SIGNS or unicodedata.category(sign) not in _HIDDEN


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= NUMBER


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "data/page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clean": clean,
        "band": band,
        "when": _when,
        "seconds": _seconds,
        "number": _number,
        "bytes": _bytes,
    }
    return environment


def _when(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time as the machine's other logs have it."""
    return datetime.fromtimestamp(at).astimezone().strftime(form)


def _seconds(value: float) -> str:
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"


def _number(value: int) -> str:
    return f"{value:,}"


def _bytes(value: int) -> str:
    if value < 1000:
        return f"{value} bytes"
    return f"{value / 1000:.0f} kB" if value < 1_000_000 else f"{value / 1e6:.1f} MB"
