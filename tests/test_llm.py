"""The model client against servers that behave, fail, stall and lie."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from bench.stubanswers import GOOD, Behaviour
from bench.stubmodel import StubModel
from rspamd_llm import api, llm, servers, tokens
from rspamd_llm import engine as engines
from rspamd_llm.domain import AnswerForm, Completion, Deadline, Failure, ModelError, Prompt
from rspamd_llm.engine import Engine
from rspamd_llm.llm import ModelClient
from rspamd_llm.servers import Endpoint

LONG = 30.0
PROMPT = Prompt(
    system="the rules", user="the mail", form=AnswerForm.JSON, categories=("scam",), id="00000000"
)
LABEL = Prompt(
    system="", user="the mail", form=AnswerForm.LABEL, categories=("scam",), id="00000000"
)


@pytest.fixture
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@contextlib.asynccontextmanager
async def client(*endpoints: str | Endpoint, concurrency: int = 4) -> AsyncIterator[ModelClient]:
    known = tuple(Endpoint(each) if isinstance(each, str) else each for each in endpoints)
    made = ModelClient(
        model="m",
        endpoints=lambda: known,
        concurrency=concurrency,
        max_output_tokens=123,
        longest=2 * servers.HANG,
        context_tokens=4_096,
    )
    try:
        yield made
    finally:
        await made.close()


def ask(
    *endpoints: str | Endpoint, prompt: Prompt = PROMPT, seconds: float = LONG, times: int = 1
) -> Completion:
    """The last of so many answers of one client."""

    async def work() -> Completion:
        async with client(*endpoints) as made:
            for _ in range(times - 1):
                await made.ask(prompt, Deadline.after(seconds))
            return await made.ask(prompt, Deadline.after(seconds))

    return asyncio.run(work())


def refusal(
    *endpoints: str | Endpoint, prompt: Prompt = PROMPT, seconds: float = LONG
) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(*endpoints, prompt=prompt, seconds=seconds)
    return caught.value


def body_of(content: object, **message: object) -> dict[str, Any]:
    """A completion as an OpenAI server sends it."""
    choice = {"index": 0, "finish_reason": "stop", **message}
    choice.setdefault("message", {"role": "assistant", "content": content})
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def raw(body: object, *more: str, status: str = "200 OK") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = (f"HTTP/1.1 {status}", "Content-Type: application/json", *more)
    lines = "".join(f"{field}\r\n" for field in (*fields, f"Content-Length: {len(data)}"))
    return lines.encode() + b"\r\n" + data


def ask_raw(answer: bytes | Callable[[], bytes], prompt: Prompt = PROMPT) -> Completion:
    """What comes of a server that sends these bytes to whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            await reader.readexactly(size)
            writer.write(answer if isinstance(answer, bytes) else answer())
            await writer.drain()
        writer.close()

    async def work() -> Completion:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with client(f"http://127.0.0.1:{port}/v1") as made:
                return await made.ask(prompt, Deadline.after(LONG))
        finally:
            server.close()

    return asyncio.run(work())


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


class TestRequest:
    def test_its_fields(self, stub: StubModel) -> None:
        ask(stub.base_url)
        (request,) = stub.requests
        assert request.path == "/v1/chat/completions"
        assert request.body["model"] == "m"
        assert request.body["messages"] == [
            {"role": "system", "content": "the rules"},
            {"role": "user", "content": "the mail"},
        ]
        assert request.body["temperature"] == 0.0
        assert request.body["seed"] == llm.SEED
        assert request.body["max_tokens"] == 123
        assert "stream" not in request.body

    def test_the_schema_has_the_reason_last(self, stub: StubModel) -> None:
        ask(stub.base_url)
        form = stub.requests[0].body["response_format"]
        assert form["type"] == "json_schema"
        assert form["json_schema"]["strict"] is True
        schema = form["json_schema"]["schema"]
        assert list(schema["properties"]) == schema["required"] == ["score", "category", "reason"]
        assert schema["properties"]["score"] == {"type": "number", "minimum": 0, "maximum": 1}
        assert schema["properties"]["category"]["enum"] == ["scam", "none"]
        assert schema["properties"]["reason"]["maxLength"] == 240
        assert schema["additionalProperties"] is False

    def test_without_instructions_there_is_no_system_message(self, stub: StubModel) -> None:
        with pytest.raises(ModelError):  # the stub tells no probabilities
            ask(stub.base_url, prompt=LABEL)
        body = stub.requests[0].body
        assert body["messages"] == [{"role": "user", "content": "the mail"}]
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
        assert "response_format" not in body

    def test_the_key_is_sent(self, stub: StubModel) -> None:
        ask(Endpoint(stub.base_url, "sk-SECRET"))
        assert stub.requests[0].headers["authorization"] == "Bearer sk-SECRET"

    def test_each_server_gets_its_own_key(self, stub: StubModel) -> None:
        ask(Endpoint(closed_port(), "sk-ONE"), Endpoint(stub.base_url, "sk-TWO"))
        assert stub.requests[0].headers["authorization"] == "Bearer sk-TWO"


class TestAnswer:
    def test_its_parts(self, stub: StubModel) -> None:
        stub.set(Behaviour(prompt_tokens=900, completion_tokens=30))
        assert ask(stub.base_url) == Completion(
            text=GOOD, finish="stop", tokens_in=900, tokens_out=30
        )

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_reasoning_is_told_apart(self, name: str) -> None:
        message = {"role": "assistant", "content": None, name: "thought"}
        found = ask_raw(raw(body_of("", message=message)))
        assert (found.text, found.reasoning) == ("", "thought")

    @pytest.mark.parametrize(
        "usage",
        [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "9"}, {"prompt_tokens": -9}, [], 5],
    )
    def test_odd_counts_are_none(self, usage: object) -> None:
        found = ask_raw(raw(body_of(GOOD) | {"usage": usage}))
        assert (found.text, found.tokens_in, found.tokens_out) == (GOOD, 0, 0)

    @pytest.mark.parametrize("content", [None, 5, ["x"], {"a": 1}])
    def test_content_that_is_no_text_is_none(self, content: object) -> None:
        assert ask_raw(raw(body_of(content))).text == ""

    @pytest.mark.parametrize(
        "body",
        [
            {},
            [],
            None,
            5,
            "text",
            {"choices": None},
            {"choices": []},
            {"choices": [None]},
            {"choices": [5]},
            {"choices": {"0": 1}},
            {"choices": [{}]},
            {"choices": [{"message": None}]},
            {"choices": [{"message": "x"}]},
            {"error": "busy"},
            b"",
            b"{",
            b"\xff\xfe",
            b"[" * 200_000,
            b'{"a":' * 50_000,
        ],
        ids=lambda body: repr(body)[:20],
    )
    def test_another_form_is_invalid(self, body: object) -> None:
        with pytest.raises(ModelError) as caught:
            ask_raw(raw(body))
        assert caught.value.code is Failure.MODEL_INVALID


class TestSchema:
    def test_refused_once_it_is_not_sent_again(self, stub: StubModel) -> None:
        stub.set(Behaviour(reject_format="always"))
        assert ask(stub.base_url, times=3).text == GOOD
        sent = ["response_format" in request.body for request in stub.requests]
        assert sent == [True, False, False, False]

    def test_taken_once_a_refusal_is_of_the_mail(self, stub: StubModel) -> None:
        async def work() -> None:
            async with client(stub.base_url) as made:
                await made.ask(PROMPT, Deadline.after(LONG))
                await stub_set(stub, Behaviour(status=400))
                with pytest.raises(ModelError):
                    await made.ask(PROMPT, Deadline.after(LONG))

        asyncio.run(work())
        assert stub.calls == 2

    def test_each_server_is_remembered_for_itself(self, stub: StubModel) -> None:
        with StubModel.running(Behaviour(reject_format="always")) as other:
            ask(other.base_url)
            ask(stub.base_url)
            assert "response_format" in stub.requests[0].body

    def test_a_passing_fault_is_not_remembered(self) -> None:
        answers = iter(
            [
                raw({"error": {}}, status="500 Internal Server Error"),
                raw(body_of("one")),
                raw(body_of("two")),
            ]
        )
        seen: list[bool] = []

        async def work() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with client(f"http://127.0.0.1:{port}/v1") as made:
                for expected in ("one", "two"):
                    answer = await made.ask(PROMPT, Deadline.after(LONG))
                    assert answer.text == expected
            server.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split()[0])
            seen.append(b"response_format" in await reader.readexactly(size))
            writer.write(next(answers).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            await writer.drain()
            writer.close()

        asyncio.run(work())
        assert seen == [True, False, True]

    def test_a_request_refused_both_ways_is_unavailable_and_nothing_is_remembered(
        self, stub: StubModel
    ) -> None:
        async def work() -> None:
            async with client(stub.base_url) as made:
                await stub_set(stub, Behaviour(status=400))
                with pytest.raises(ModelError) as caught:
                    await made.ask(PROMPT, Deadline.after(LONG))
                assert caught.value.code is Failure.MODEL_UNAVAILABLE
                await stub_set(stub, Behaviour())
                await made.ask(PROMPT, Deadline.after(LONG))

        asyncio.run(work())
        sent = ["response_format" in request.body for request in stub.requests]
        assert sent == [True, False, True]


async def stub_set(stub: StubModel, behaviour: Behaviour) -> None:
    await asyncio.to_thread(stub.set, behaviour)


class TestFaults:
    @pytest.mark.parametrize(
        ("behaviour", "code"),
        [
            (Behaviour(fault="html"), Failure.MODEL_INVALID),
            (Behaviour(fault="not-json"), Failure.MODEL_INVALID),
            (Behaviour(fault="no-choices"), Failure.MODEL_INVALID),
            (Behaviour(fault="huge"), Failure.MODEL_INVALID),
            (Behaviour(fault="down"), Failure.MODEL_UNAVAILABLE),
            (Behaviour(fault="close"), Failure.MODEL_UNAVAILABLE),
            (Behaviour(fault="early"), Failure.MODEL_UNAVAILABLE),
            (Behaviour(fault="reset"), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=401), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=403), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=404), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=429, retry_after="600"), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=500), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=503), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=400), Failure.MODEL_UNAVAILABLE),
            (Behaviour(status=400, error="context"), Failure.CONTEXT_OVERFLOW),
            (Behaviour(status=400, error="context-llamacpp"), Failure.CONTEXT_OVERFLOW),
            (Behaviour(status=400, error="context-vllm"), Failure.CONTEXT_OVERFLOW),
        ],
        ids=lambda value: str(getattr(value, "fault", "") or getattr(value, "status", value)),
    )
    def test_code(self, stub: StubModel, behaviour: Behaviour, code: Failure) -> None:
        stub.set(behaviour)
        assert refusal(stub.base_url).code is code

    @pytest.mark.parametrize("fault", ["empty", "null", "length", "nan", "reasoning"])
    def test_answers_that_are_for_others_to_judge(self, stub: StubModel, fault: str) -> None:
        stub.set(Behaviour(fault=fault))
        found = ask(stub.base_url)
        assert found.finish == ("length" if fault in ("length", "reasoning") else "stop")

    def test_nothing_is_asked_twice(self, stub: StubModel) -> None:
        stub.set(Behaviour(status=503))
        refusal(stub.base_url)
        assert stub.calls == 1

    def test_a_context_error_is_not_taken_for_a_refused_schema(self, stub: StubModel) -> None:
        stub.set(Behaviour(status=400, error="context"))
        refusal(stub.base_url)
        assert stub.calls == 1

    def test_compressed_answers_are_not_unpacked(self) -> None:
        bomb = gzip.compress(json.dumps(body_of("0.9")).encode() + b" " * 50_000_000)
        assert len(bomb) < api.ANSWER_BYTES
        with pytest.raises(ModelError) as caught:
            ask_raw(raw(bomb, "Content-Encoding: gzip"))
        assert caught.value.code is Failure.MODEL_INVALID

    def test_an_endless_error_is_bounded_too(self) -> None:
        with pytest.raises(ModelError) as caught:
            ask_raw(raw(b"x" * (api.ANSWER_BYTES + 1), status="500 Internal Server Error"))
        assert caught.value.code is Failure.MODEL_INVALID

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_no_redirect_is_followed(self, stub: StubModel, status: int) -> None:
        moved = raw(b"", f"Location: {stub.base_url}/chat/completions", status=f"{status} Moved")
        with pytest.raises(ModelError) as caught:
            ask_raw(moved)
        assert caught.value.code is Failure.MODEL_UNAVAILABLE
        assert stub.calls == 0

    def test_no_proxy_of_the_environment_is_used(
        self, stub: StubModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, closed_port())
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("OPENAI_BASE_URL", closed_port())
        assert ask(stub.base_url).text == GOOD

    @pytest.mark.parametrize(
        "behaviour",
        [
            Behaviour(status=401, error="bad key sk-SECRET for the mail"),
            Behaviour(status=400, error="cannot judge: the mail"),
            Behaviour(fault="close"),
            Behaviour(fault="html"),
        ],
        ids=["401", "400", "close", "html"],
    )
    def test_errors_tell_neither_key_nor_mail(self, stub: StubModel, behaviour: Behaviour) -> None:
        stub.set(behaviour)
        error = refusal(Endpoint(stub.base_url, "sk-SECRET"))
        for text in (str(error), repr(error), repr(Endpoint("u", "sk-SECRET"))):
            assert "SECRET" not in text
            assert "the mail" not in text

    def test_no_server_at_all(self) -> None:
        error = refusal()
        assert error.code is Failure.MODEL_UNAVAILABLE
        assert str(error) == "no model server is well"


class TestSeveralServers:
    def test_the_first_that_answers_serves(self, stub: StubModel) -> None:
        with StubModel.running() as other:
            ask(stub.base_url, other.base_url)
            assert (stub.calls, other.calls) == (1, 0)

    @pytest.mark.parametrize(
        "behaviour", [Behaviour(fault="down"), Behaviour(fault="reset"), Behaviour(status=503)]
    )
    def test_the_next_is_asked_when_one_is_not_there(
        self, stub: StubModel, behaviour: Behaviour
    ) -> None:
        with StubModel.running(behaviour) as other:
            assert ask(other.base_url, stub.base_url).text == GOOD

    def test_a_host_that_takes_no_connection_leaves_time_for_the_next(
        self, stub: StubModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "CONNECT_TIMEOUT", 0.2)
        with socket.socket() as silent, contextlib.ExitStack() as queued:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            host, port = silent.getsockname()
            for _ in range(4):  # its queue is full: further connections are not answered
                waiting = queued.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((host, port))
            assert ask(f"http://127.0.0.1:{port}/v1", stub.base_url).text == GOOD

    def test_an_answer_that_is_no_good_is_not_asked_for_elsewhere(self, stub: StubModel) -> None:
        with StubModel.running(Behaviour(fault="html")) as other:
            assert refusal(other.base_url, stub.base_url).code is Failure.MODEL_INVALID
        assert stub.calls == 0

    def test_the_last_failure_is_told(self) -> None:
        with StubModel.running(Behaviour(status=503)) as other:
            assert "503" in str(refusal(closed_port(), other.base_url))

    def test_calls_go_to_the_least_busy(self, stub: StubModel) -> None:
        with StubModel.running() as other:
            for one in (stub, other):
                one.set(Behaviour(latency=0.3))

            async def story() -> None:
                async with client(stub.base_url, other.base_url) as made:
                    calls = (made.ask(PROMPT, Deadline.after(LONG)) for _ in range(4))
                    await asyncio.gather(*calls)

            asyncio.run(story())
            assert (stub.calls, other.calls) == (2, 2)

    def test_one_that_fails_in_a_row_is_left_alone_and_mail_passes_at_once(
        self, stub: StubModel
    ) -> None:
        stub.set(Behaviour(status=503))

        async def story() -> ModelError | None:
            async with client(stub.base_url) as made:
                for _ in range(3 * servers.FAILURES):
                    with pytest.raises(ModelError) as caught:
                        await made.ask(PROMPT, Deadline.after(LONG))
                    assert caught.value.code is Failure.MODEL_UNAVAILABLE
                return made.refusal(Deadline.after(LONG))

        refused = asyncio.run(story())
        assert stub.calls == servers.FAILURES
        assert refused is not None
        assert refused.code is Failure.MODEL_UNAVAILABLE

    def test_one_that_hangs_is_left_alone(
        self, stub: StubModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(llm, "HANG", 0.1)
        stub.set(Behaviour(fault="hang"))

        async def story() -> list[Failure]:
            codes = []
            async with client(stub.base_url) as made:
                for _ in range(servers.FAILURES + 1):
                    with pytest.raises(ModelError) as caught:
                        await made.ask(PROMPT, Deadline.after(0.3))
                    codes.append(caught.value.code)
            return codes

        hung = [Failure.TIMEOUT] * servers.FAILURES
        assert asyncio.run(story()) == [*hung, Failure.MODEL_UNAVAILABLE]


class TestOverload:
    def test_mail_that_could_not_be_answered_in_time_is_refused_at_once(
        self, stub: StubModel
    ) -> None:
        stub.set(Behaviour(latency=1.0))

        async def outcome(made: ModelClient) -> Failure | None:
            try:
                await made.ask(PROMPT, Deadline.after(3.8))
            except ModelError as error:
                return error.code
            return None

        async def story() -> list[Failure | None]:
            async with client(stub.base_url, concurrency=1) as made:
                await made.ask(PROMPT, Deadline.after(LONG))  # now it knows what a call takes
                waits = [asyncio.create_task(outcome(made)) for _ in range(10)]
                refused, _ = await asyncio.wait(waits, timeout=0.5)
                assert len(refused) >= 4
                return await asyncio.gather(*waits)

        codes = asyncio.run(story())
        assert codes.count(Failure.OVERLOADED) >= 4
        assert None in codes


class TestDeadline:
    @pytest.mark.parametrize(
        "behaviour",
        [Behaviour(fault="hang"), Behaviour(fault="drip", interval=0.05), Behaviour(latency=LONG)],
        ids=["hang", "drip", "slow"],
    )
    def test_when_it_comes_the_server_is_hung_up_on(
        self, stub: StubModel, behaviour: Behaviour
    ) -> None:
        stub.set(behaviour)
        error = refusal(stub.base_url, seconds=0.4)
        assert error.code is Failure.TIMEOUT
        assert str(error) == "the model did not answer in time"
        give_up = time.monotonic() + LONG
        while not stub.cancelled and time.monotonic() < give_up:
            time.sleep(0.01)
        assert stub.cancelled == 1

    def test_one_that_has_passed_asks_nobody(self, stub: StubModel) -> None:
        assert refusal(stub.base_url, seconds=0.0).code is Failure.TIMEOUT
        assert stub.calls == 0

    def test_waiting_for_a_turn_counts(self, stub: StubModel) -> None:
        async def work() -> tuple[ModelError, int]:
            async with client(stub.base_url, concurrency=1) as made:
                first = asyncio.create_task(made.ask(PROMPT, Deadline.after(LONG)))
                async with asyncio.timeout(LONG):
                    while not stub.active:  # noqa: ASYNC110  the state is another thread's
                        await asyncio.sleep(0.005)
                with pytest.raises(ModelError) as caught:
                    await made.ask(PROMPT, Deadline.after(0.2))
                calls = stub.calls
                first.cancel()
                await asyncio.wait([first])
                await stub_set(stub, Behaviour())
                # The place of the cancelled one is free again.
                assert (await made.ask(PROMPT, Deadline.after(LONG))).text == GOOD
                return caught.value, calls

        stub.set(Behaviour(fault="hang"))
        error, calls = asyncio.run(work())
        assert (error.code, calls) == (Failure.TIMEOUT, 1)

    def test_no_more_calls_at_a_time_than_configured(self, stub: StubModel) -> None:
        stub.set(Behaviour(latency=0.02))

        async def work() -> None:
            async with client(stub.base_url, concurrency=3) as made:
                await asyncio.gather(*(made.ask(PROMPT, Deadline.after(LONG)) for _ in range(20)))

        asyncio.run(work())
        assert (stub.calls, stub.peak) == (20, 3)


def logprobs(*pairs: tuple[object, object]) -> bytes:
    entries = [{"token": token, "logprob": value, "bytes": None} for token, value in pairs]
    content = [{"token": "x", "logprob": 0.0, "bytes": None, "top_logprobs": entries}]
    return raw(body_of("<|scam|>", logprobs={"content": content}))


class TestLabels:
    def test_the_probabilities_of_labels_are_read(self) -> None:
        answer = logprobs(
            ("<|scam|>", math.log(0.7)), ("<|none|>", math.log(0.2)), ("the", math.log(0.1))
        )
        found = ask_raw(answer, LABEL).label_probabilities
        assert dict(found) == {"scam": pytest.approx(0.7), "none": pytest.approx(0.2)}

    def test_what_is_no_label_is_left_out(self) -> None:
        answer = logprobs(("spam", -0.1), ("", -1.0), (None, -2.0))
        assert ask_raw(answer, LABEL).label_probabilities == {}

    @pytest.mark.parametrize(
        "answer",
        [
            raw(body_of("x")),
            raw(body_of("x", logprobs=None)),
            raw(body_of("x", logprobs={"content": []})),
            raw(body_of("x", logprobs={"content": None})),
            raw(body_of("x", logprobs={"content": [{"token": "x"}]})),
            logprobs(("<|none|>", "high")),
            logprobs(("<|none|>", None)),
            logprobs(("<|none|>", 1e6)),  # no logarithm of a probability: exp overflows
        ],
    )
    def test_another_form_is_invalid(self, answer: bytes) -> None:
        with pytest.raises(ModelError) as caught:
            ask_raw(answer, LABEL)
        assert caught.value.code is Failure.MODEL_INVALID


class TestModels:
    def models(self, endpoint: Endpoint, seconds: float = LONG) -> tuple[str, ...]:
        async def work() -> tuple[str, ...]:
            async with client() as made:
                return await made.models(endpoint, Deadline.after(seconds))

        return asyncio.run(work())

    def test_their_names(self, stub: StubModel) -> None:
        stub.set(Behaviour(model="gemma3:12b"))
        assert self.models(Endpoint(stub.base_url)) == ("gemma3:12b",)

    def test_a_server_that_is_not_there(self) -> None:
        with pytest.raises(ModelError) as caught:
            self.models(Endpoint(closed_port(), "sk-SECRET"))
        assert caught.value.code is Failure.MODEL_UNAVAILABLE
        assert "SECRET" not in f"{caught.value!r} {caught.value.__cause__!r}"


def json_prompt(user: str) -> Prompt:
    return Prompt(
        system="the rules", user=user, form=AnswerForm.JSON, categories=("scam",), id="00000000"
    )


class TestContext:
    """No prompt is longer than the context, and a server that cuts one is noticed."""

    @staticmethod
    def excess(url: str, prompt: Prompt, times: int = 1) -> float:
        async def work() -> float:
            async with client(url) as made:
                for _ in range(times - 1):
                    await made.ask(PROMPT, Deadline.after(LONG))
                return await made.excess(prompt, Deadline.after(LONG))

        return asyncio.run(work())

    def test_a_short_prompt_is_not_counted(self, stub: StubModel) -> None:
        assert 0 < self.excess(stub.base_url, PROMPT) < 0.1

    def test_a_label_prompt_is_bounded_by_its_form(self) -> None:
        assert self.excess("http://127.0.0.1:1/v1", LABEL) == 0.0

    def test_without_a_tokeniser_our_bound_counts(self, stub: StubModel) -> None:
        long = json_prompt("a1" * 5_000)
        assert self.excess(stub.base_url, long) > 1.0
        assert self.excess("http://127.0.0.1:1/v1", long) > 1.0

    def test_a_server_that_counts_more_teaches_it(self, stub: StubModel) -> None:
        middle = json_prompt("word " * 1_500)
        before = self.excess(stub.base_url, middle)
        stub.set(Behaviour(prompt_tokens=40))  # for PROMPT, of which our bound says 8
        assert self.excess(stub.base_url, middle, times=2) > 2 * before

    def test_llama_cpp_counts_exactly(self) -> None:
        """Its own tokeniser is asked: repeated words cost it less than our bound says."""

        async def work() -> tuple[float, float]:
            engine = Engine(engines.plan(model="builtin", context_tokens=2_048, slots=1, threads=1))
            await engine.start()
            try:
                (endpoint,) = engine.endpoints()
                async with client(endpoint) as made:
                    prompt = json_prompt("please click here to confirm your account " * 200)
                    counted = await made.excess(prompt, Deadline.after(LONG))
                bound = tokens.at_most(prompt.system + prompt.user)
                return counted, bound / (4_096 - 123 - tokens.CHAT)
            finally:
                await engine.stop()

        counted, bound = asyncio.run(work())
        assert 0 < counted < bound

    def test_a_passing_fault_does_not_switch_counting_off(self, stub: StubModel) -> None:
        async def work() -> dict[str, bool]:
            async with client("http://127.0.0.1:1/v1") as made:
                await made.excess(json_prompt("a1" * 5_000), Deadline.after(LONG))
                down = dict(made._counts)
            async with client(stub.base_url) as made:
                await made.excess(json_prompt("a1" * 5_000), Deadline.after(LONG))
                return down | made._counts

        assert asyncio.run(work()) == {stub.base_url: False}

    def test_a_prompt_that_was_cut_gives_no_verdict(self, stub: StubModel) -> None:
        stub.set(Behaviour(prompt_tokens=1_100))
        with pytest.raises(ModelError) as caught:
            ask(stub.base_url, prompt=json_prompt("word " * 2_500))
        assert caught.value.code is Failure.CONTEXT_OVERFLOW
        assert "OLLAMA_CONTEXT_LENGTH" in str(caught.value)

    @pytest.mark.parametrize("count", [0, 12, 2_400])
    def test_an_unknown_or_a_whole_count_is_no_cut(self, stub: StubModel, count: int) -> None:
        stub.set(Behaviour(prompt_tokens=count))
        assert ask(stub.base_url, prompt=json_prompt("word " * 2_500)).text == GOOD
