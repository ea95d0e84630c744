"""Bugs of new authors, as changes to the lyre adapter's source, and the requirement whose check has to find each."""

# ruff: noqa: E501 - a change is read more easily in one line

from __future__ import annotations

from typing import NamedTuple

Change = tuple[str, str]


class Bug(NamedTuple):
    name: str
    requirement: str
    changes: tuple[Change, ...]


def bug(name: str, requirement: str, *changes: Change) -> Bug:
    return Bug(name, requirement, changes)


_INIT = "        self._in_flight = 0\n"
_TOKEN = (
    '                        yield Token(index, text, logprob=None if task.logprobs is None else event["logprob"])\n'
)
_STARTED = (
    "                        yield Started(\n"
    '                            job_id=task.job_id, engine="lyre", engine_version=event["version"], model=task.model\n'
    "                        )\n"
)
_LET_GO = "        finally:\n            self._in_flight -= 1\n"
_ASKING = '            async with self._asking("POST", "/generate", json=self._question(task)) as answer:\n'
_LINES = "        async for line in answer.aiter_lines():\n"
_HTTP_ERROR = "        except httpx.HTTPError as exc:\n"
_SILENT = '            raise StreamIncomplete("the lyre fell silent before it said that it had ended")\n'

BUGS = (
    # State that tasks share.
    bug("keeps the index on self", "ORCH-3059-003",
        (_INIT, _INIT + "        self._index = 0\n"),
        (_TOKEN + "                        index += 1\n",
         _TOKEN.replace("index", "self._index") + "                        self._index += 1\n")),
    bug("keeps the task on self", "ORCH-3055-004",
        ("        self._check(task)\n        index", "        self._check(task)\n        self._task = task\n        index"),
        ("job_id=task.job_id", "job_id=self._task.job_id")),
    bug("keeps the stop cutter on self", "ORCH-3055-050",
        ("        index, stops = 0, StopCutter(task.stop)\n",
         "        index = 0\n        self._stops = stops = StopCutter(task.stop)\n"),
        ("(text := stops.feed(", "(text := self._stops.feed("),
        ("if rest := stops.finish():", "if rest := self._stops.finish():")),
    bug("adds usage up over tasks", "ORCH-3059-015",
        (_INIT, _INIT + "        self._said = 0\n"),
        ("                        usage = Usage(", '                        self._said += event["tokens_out"]\n'
         "                        usage = Usage("),
        ('tokens_out=event["tokens_out"])', "tokens_out=self._said)")),
    bug("keeps the conversation", "ORCH-3055-044",
        (_INIT, _INIT + "        self._told: list[dict[str, str]] = []\n"),
        ('        options = {name', "        self._told = messages = [*self._told, *messages]\n        options = {name")),
    bug("has one connection for all", "ORCH-3055-051", ("max_connections=None", "max_connections=1")),
    # What is sent.
    bug("flattens messages into one", "ORCH-3055-043",
        ('            "messages": messages or ', '            "messages": [{"role": "user", "text": " ".join(m["text"] for m in '
         'messages)}] if messages else ')),
    bug("drops system messages", "ORCH-3055-043",
        ("for message in task.messages or ()]", 'for message in task.messages or () if message.role != "system"]')),
    bug("ignores the seed", "ORCH-3055-045", ('"top_k", "seed", "stop")', '"top_k", "stop")')),
    bug("sends a seed of zero as none", "ORCH-3059-023",
        ("if (value := getattr(task, name)) is not None}", "if (value := getattr(task, name))}")),
    bug("drops the stop strings", "ORCH-3059-022",
        ('"top_k", "seed", "stop")', '"top_k", "seed")'), ("StopCutter(task.stop)", "StopCutter(())")),
    bug("heeds the first stop string only", "ORCH-3059-022",
        ("        options = {name", "        task = task.model_copy(update={\"stop\": task.stop[:1]})\n        options = {name"),
        ("StopCutter(task.stop)", "StopCutter(task.stop[:1])")),
    bug("defaults the version", "ORCH-3055-046", ('"version": task.model_version,', '"version": None,')),
    bug("swallows options that it does not know", "ORCH-3055-045",
        ('                raise Unsupported(f"a lyre does not heed {name!r}; leave it out")\n', "                pass\n")),
    bug("strips the prompt", "ORCH-3059-010", ('"text": task.prompt}', '"text": " ".join((task.prompt or "").split())}')),
    # What is read.
    bug("strips every token", "ORCH-3059-010", ('stops.feed(event["token"])', 'stops.feed(event["token"].strip())')),
    bug("decodes each chunk by itself", "ORCH-3059-011",
        (_LINES, '        rest = ""\n        async for chunk in answer.aiter_raw():\n'
         '          *lines, rest = (rest + chunk.decode(errors="replace")).split("\\n")\n          for line in lines:\n'),
        ('            if line.startswith("data: "):\n                yield',
         '            if line.startswith("data: "):\n              yield')),
    bug("reads the whole answer first", "ORCH-3059-014",
        (_LINES, "        for line in (await answer.aread()).decode().splitlines():\n")),
    bug("says started twice", "ORCH-3059-002", (_STARTED, _STARTED + _STARTED)),
    bug("says no started before a token", "ORCH-3059-001", (_STARTED, "                        continue\n")),
    bug("takes silence for the end", "ORCH-3059-006", (_SILENT, '            yield End(finish_reason="stop")\n')),
    bug("takes a lost connection for the end", "ORCH-3058-003",
        (_HTTP_ERROR, "        except httpx.RemoteProtocolError:\n            pass\n" + _HTTP_ERROR)),
    bug("always says stop", "ORCH-3059-018", ('finish_reason=event["done"]', 'finish_reason="stop"')),
    bug("counts its own events", "ORCH-3059-015", ('tokens_out=event["tokens_out"])', "tokens_out=index + 1)")),
    bug("swaps the counts", "ORCH-3059-016",
        ('tokens_in=event["tokens_in"], tokens_out=event["tokens_out"]',
         'tokens_in=event["tokens_out"], tokens_out=event["tokens_in"]')),
    bug("loses what was held back", "ORCH-3059-047", ("if rest := stops.finish():", "if (rest := stops.finish()) and False:")),
    bug("loses text beside logprobs", "ORCH-3055-049",
        ('yield Token(index, text, logprob=None if task.logprobs is None else event["logprob"])',
         'yield Token(index, text if task.logprobs is None or index % 2 else "", '
         'logprob=None if task.logprobs is None else event["logprob"])')),
    # Errors.
    bug("tries again after tokens", "ORCH-3059-053",
        ("    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:\n",
         "    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:\n        try:\n"
         "            async for event in self._once(task):\n                yield event\n"
         "        except (ConnectionLost, NotReady, Overloaded, EngineFailed):\n"
         "            async for event in self._once(task):\n                yield event\n\n"
         "    async def _once(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:\n")),
    bug("tells it all when it has worked", "ORCH-3059-014",
        ("    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:\n",
         "    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:\n"
         "        for event in [event async for event in self._once(task)]:\n            yield event\n\n"
         "    async def _once(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:\n")),
    bug("calls every refusal a failure", "ORCH-3058-007", ("ERRORS.get(answer.status_code, EngineFailed)", "EngineFailed")),
    bug("quotes the engine", "ORCH-3058-030",
        ('(f"the lyre refused with {answer.status_code}")', '((await answer.aread()).decode())')),
    bug("forgets the cause", "ORCH-3058-016",
        ('raise ConnectionLost(f"the lyre at {self._url} was lost") from exc',
         'raise ConnectionLost(f"the lyre at {self._url} was lost") from None')),
    bug("forgets how long to wait", "ORCH-3058-018", ('answer.headers.get("retry-after")', 'answer.headers.get("x-retry")')),
    bug("shows its token", "ORCH-3058-015",
        ('f"the lyre refused with {answer.status_code}"', 'f"{answer.status_code} with {self._client.headers}"'),
        ('            headers={"Authorization": f"Bearer {self._token}"}', '            headers={"X": self._token, '
         '"Authorization": f"Bearer {self._token}"}')),
    # Life, cancel, deadline.
    bug("reads on in a task of its own", "ORCH-3060-014",
        (_LINES, "        import asyncio\n        lines: asyncio.Queue[str | None] = asyncio.Queue()\n\n"
         "        async def read() -> None:\n            async with self._client.stream('POST', '/generate', content=answer.request.content) "
         "as again:\n                async for line in again.aiter_lines():\n                    lines.put_nowait(line)\n"
         "            lines.put_nowait(None)\n\n"
         "        self._reading = asyncio.create_task(read())\n        while (line := await lines.get()) is not None:\n")),
    bug("leaves a task behind", "ORCH-3056-020",
        ("    async def _close(self) -> None:\n", "    async def _close(self) -> None:\n        import asyncio\n\n"
         "        LEFT.append(asyncio.create_task(asyncio.sleep(3600)))\n"),
        ("class LyreAdapter(", "LEFT: list[Any] = []\n\n\nclass LyreAdapter(")),
    bug("connects when it opens", "ORCH-3056-001",
        ("    async def _close(self)", "        await self._props()\n\n    async def _close(self)")),
    bug("cannot be closed unopened", "ORCH-3056-023",
        ('        if hasattr(self, "_client"):\n            await self._client.aclose()', "        await self._client.aclose()\n"
         '        raise RuntimeError("closed twice")')),
    bug("keeps a dead client after an outage", "ORCH-3056-013",
        (_HTTP_ERROR, _HTTP_ERROR + "            await self._client.aclose()\n")),
    bug("counts down twice", "ORCH-3057-014",
        ("            raise StreamIncomplete", "            self._in_flight -= 1\n            raise StreamIncomplete"),
        ("                        yield End(", "                        self._in_flight -= 1\n                        yield End(")),
    bug("says that it cancels what it cannot", "ORCH-3060-012",
        ('CancelReceipt(found=True, sent=True, mode="hard")', 'CancelReceipt(found=True, sent=True, mode="client_only")')),
    bug("says released at once", "ORCH-3060-020",
        ('CancelReceipt(found=True, sent=True, mode="hard")', 'CancelReceipt(found=True, sent=True, released=True, mode="hard")')),
    # Health and properties.
    bug("caches its health", "ORCH-3057-009",
        ("    async def _health(self, *, canary: bool) -> HealthReport:\n",
         "    async def _health(self, *, canary: bool) -> HealthReport:\n"
         "        if not hasattr(self, \"_report\"):\n            self._report = await self._probed()\n        return self._report\n\n"
         "    async def _probed(self) -> HealthReport:\n")),
    bug("takes alive for ready", "ORCH-3057-006", ('(await self._get("/ready"))["ready"]', 'bool(await self._get("/ready"))')),
    bug("asks for a song to see if it lives", "ORCH-3057-007",
        ('        ready = (await', '        async for _ in self._submit(TaskRequest(model="lyre", prompt="ping", max_tokens=1)):\n'
         '            pass\n        ready = (await')),
    bug("says canary without one", "ORCH-3057-013", ("            capacity=Capacity(", "            canary=canary, capacity=Capacity(")),
    bug("knows its models by heart", "ORCH-3057-021",
        ('        told = await self._get("/models")\n', '        told = {"models": ["lyre", "echo"], "version": "3.1"}\n')),
    bug("has a version of its own", "ORCH-3057-018", ('engine_version=told["version"]', 'engine_version="1.0"')),
    bug("prints", "ORCH-3062-004", ("        self._check(task)\n", '        self._check(task)\n        print("asked")\n')),
    bug("logs the prompt", "ORCH-3062-001",
        ("        self._check(task)\n", '        import logging\n\n        logging.getLogger("lyre").info("asked %s", task.prompt)\n'
         "        self._check(task)\n")),
)  # fmt: skip
