"""The embedded engine's own process: llama.cpp, serving the OpenAI API on loopback.

Run as `python -m rspamd_llm.engine_child` by engine.py.  The only importer of xllamacpp.  It reads
one line of JSON from standard input (so that the key stands in no argument list and no
environment), answers one line of JSON with its URL, and ends when standard input does: the kernel
closes that when the daemon goes, however it goes, so the engine is never left behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    """Serves until standard input ends."""
    # The terminal's Ctrl-C goes to the whole process group; the daemon decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The daemon blocks these for libmilter's sake, and children inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))
    order = json.loads(sys.stdin.readline())
    # llama.cpp prints to standard output too: our one line goes to a descriptor of its own.
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    import xllamacpp  # noqa: PLC0415  takes its time; the order is read first

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.n_ctx = order["context"] * order["slots"]
    params.n_parallel = order["slots"]
    params.cpuparams.n_threads = order["threads"]
    params.cpuparams_batch.n_threads = order["threads"]
    params.api_keys = [order["key"]]
    params.port = 0
    params.ui = False
    params.verbosity = 1
    params.offline = True
    server = xllamacpp.Server(params)
    reply.write(json.dumps({"url": f"{server.listening_address}/v1"}) + "\n")
    reply.flush()
    sys.stdin.read()
    # Ending the server's threads one by one serves nobody: the process is all there is.
    os._exit(0)


if __name__ == "__main__":
    main()
