"""Rows of the fault suite about what comes in: forged verdicts, and the corpus of broken mail."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.faults_chain import DEADLINE, SLACK, Chain, letter, running
from bench.faults_forgeries import forgeries, of_own_queue_id
from bench.faults_rows import TIMEOUT, UNAVAILABLE
from bench.faults_tally import ABSENT, SCORED, UNREAD, Sent, Tally, skipped
from bench.memory import memory
from bench.stubanswers import Behaviour
from tests.chain.daemon import ROOT
from tests.chain.ports import free_port
from tests.chain.rspamd import PrivateRspamd
from tests.chain.verdicts import HEADER, QUEUE_ID, verdict

# --- Forgers ---------------------------------------------------------------------------------


def forged(rspamd: PrivateRspamd, short: bool) -> Tally:
    """Every forgery while the daemon is up, waits for the model in vain, is killed, and is down."""
    tricks = forgeries(_replayed(rspamd))
    with running("forged", rspamd) as chain:

        def each(*may: str, within: float = SLACK) -> None:
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(
                    pool.map(
                        lambda one: chain.send(*(may or one.may), within=within, forgery=one),
                        tricks,
                    )
                )

        def at_once(*may: str) -> Callable[[], list[Sent]]:
            return lambda: chain.burst(
                2 * len(tricks),
                may[0] if may else ABSENT,
                within=DEADLINE + 2 * SLACK,
                forgeries=tricks,
                forged=may,
            )

        for _ in range(1 if short else 5):
            each(SCORED)
        chain.stub.set(Behaviour(fault="hang"))
        with chain.under_way(at_once(), 2 * len(tricks)):
            chain.daemon.process.kill()
            chain.daemon.process.wait()
        for _ in range(1 if short else 5):
            each()
        chain.daemon.start()
        at_once(TIMEOUT)()
        if not short:
            chain.stub.set(Behaviour())
            chain.heals(UNAVAILABLE)
        _own_queue_id(chain)
        chain.notes.append(f"{len(tricks)} forgeries: " + ", ".join(one.name for one in tricks))
        return chain.tally()


def _replayed(rspamd: PrivateRspamd) -> list[str]:
    """Verdicts that the daemon made for mails which were delivered with them."""
    absent = f"inet:127.0.0.1:{free_port()}"
    with running("replayed", rspamd, second_milter=absent) as chain:
        chain.burst(2, UNREAD)
        chain.delivered()
        heads = [mail.decode("latin-1").partition("\n\n")[0] for mail in chain.files]
    lines = [line for head in heads for line in head.splitlines()]
    return [line.partition(": ")[2] for line in lines if line.startswith(f"{HEADER}: ")]


def _own_queue_id(chain: Chain) -> None:
    """What nobody can send, as the queue ID comes after the mail: shown to Rspamd itself."""

    def symbols(values: list[str]) -> set[str]:
        lines = "".join(f"{HEADER}: {value}\r\n" for value in values).encode()
        answer = chain.rspamd.scan(
            lines + letter("own", "ann@sender.example"), {"Queue-Id": QUEUE_ID}
        )
        return {name for name in answer["symbols"] if name.startswith("LLM_")}

    tricks = of_own_queue_id(QUEUE_ID)
    for name, values in tricks.items():
        found = symbols(values)
        chain.check(found == {"LLM_FORGED"}, f"of the right queue ID, {name}: {found}")
    found = symbols([verdict(q=QUEUE_ID)])
    chain.check("LLM_SPAM" in found, f"a genuine verdict is not believed: {found}")
    chain.notes.append(f"of the right queue ID, shown to Rspamd itself: {', '.join(tricks)}")


# --- Broken mail -----------------------------------------------------------------------------

CORPUS = ROOT.parent / "shared" / "corpus" / "torture"
EACH = 20
"""Of the corpus the short form takes one mail of so many."""

GTUBE = "Gtube pattern"
"""What Rspamd says to a mail that holds the text made for testing filters; 3.4 cannot be told not
to."""

TORTURE_DEADLINE = 20.0
MEMORY_MOST = 400.0
"""MB of the daemon once it has read the whole corpus; it starts with about 100."""


def torture(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The corpus of broken mail that stands beside the project."""
    files = sorted(path for path in CORPUS.rglob("*") if path.is_file())
    if not files:
        return Tally(skipped=f"there is no corpus at {CORPUS}")
    chosen = files[::EACH] if short else files
    with running("torture", rspamd, settings={"milter": {"deadline": TORTURE_DEADLINE}}) as chain:
        # The stub's guess of a token for four characters would be far too few for binary rubbish:
        # the daemon would rightly take the prompt for cut.
        chain.stub.set(Behaviour(prompt_tokens=0))
        first = chain.daemon.pid
        names: dict[str, str] = {}

        def send(path: Path) -> None:
            mail = path.read_bytes() or b"\r\n"
            one = chain.send(SCORED, skipped("no-text"), mail=mail, within=TORTURE_DEADLINE + SLACK)
            names[one.id] = str(path.relative_to(CORPUS))

        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(send, chosen))
        chain.heals()
        used = memory(chain.daemon.pid)
        chain.notes.append(f"{len(chosen)} files of {len(files)}; the daemon has {used:.0f} MB")
        chain.check(chain.daemon.pid == first, "the daemon was restarted")
        chain.check(used <= MEMORY_MOST, f"the daemon has {used:.0f} MB")
        tests = [one for one in chain.sent if one.code == 554 and GTUBE in one.reply]
        chain.sent = [one for one in chain.sent if one not in tests]
        if tests:
            chain.notes.append(f"{len(tests)} of them are Rspamd's test pattern, which it rejects")
        odd = {
            names[one.id]: one.outcome
            for one in chain.delivered()
            if one.id in names and one.outcome not in (SCORED, skipped("no-text"))
        }
        chain.check(not odd, f"not as expected: {odd}")
        return chain.tally()
