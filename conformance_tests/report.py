"""The report of one run: what became of every requirement in the catalog, and the verdict on the whole."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from adapter_api.docstrings import level_descriptions
from conformance_tests.catalog import Catalog, encode
from conformance_tests.deviations import expected
from conformance_tests.outcome import EngineDeath, Outcome, Status
from conformance_tests.proofs import proofs_of

FORMAT = "1"
"""Version of the JSON form; a reader refuses another one."""

SCHEMA = Path(__file__).with_name("report.schema.json")

Conformity = Literal["conformant", "conformant with deviations", "incomplete", "not conformant"]

EXIT_CODES: Mapping[str, int] = {
    "conformant": 0,
    "conformant with deviations": 0,
    "not conformant": 1,
    "incomplete": 2,
}
HARNESS_BROKE = 3
USAGE = 4
NOT_WRITTEN = 5


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one requirement; `text` is the requirement itself, `check` where its test is."""

    id: str
    keyword: str
    text: str
    status: Status
    reason: str = ""
    duration_s: float = 0.0
    check: str | None = None


class Under(msgspec.Struct, frozen=True, kw_only=True):
    """What was under test."""

    adapter: str
    engine: str | None = None
    engine_version: str | None = None
    capabilities: tuple[str, ...] = ()
    harness: str = ""
    backend: str = "asyncio"

    @property
    def engine_label(self) -> str:
        """The engine and its version, which may begin with the engine's name itself."""
        if self.engine_version is None or (self.engine and self.engine_version.startswith(self.engine)):
            return self.engine_version or self.engine or "unknown"
        return f"{self.engine or ''} {self.engine_version}".strip()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `catalog` is the digest of the catalog: reports of two catalogs are about different requirements.

    `proved`, `unproved` and `not_provable` are the capabilities that the adapter declares: whose proof passed, whose
    proof was not tried or came to nothing, and for which this version of the suite has none.
    """

    format: Literal["1"] = "1"
    suite_version: str
    catalog: str
    under: Under
    started_at: str
    duration_s: float
    seed: int
    strict: bool
    verdict: Conformity
    counts: dict[str, int]
    results: tuple[Result, ...]
    proved: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    not_provable: tuple[str, ...] = ()
    engine_deaths: tuple[EngineDeath, ...] = ()
    """In order; the checks that they fell into were run once more."""

    @property
    def deaths_told(self) -> str:
        """How often the engine died by itself, in a few words; empty when it did not."""
        deaths = self.engine_deaths
        if not deaths:
            return ""
        times = {1: "once", 2: "twice"}.get(len(deaths), f"{len(deaths)} times")
        each = "" if len(deaths) == 1 else " each time"
        end = f"and was started anew{each}" if all(death.revived for death in deaths) else "and was not started anew"
        return f"the engine died {times} {end}"

    @property
    def exit_code(self) -> int:
        """0 conformant, 1 not, 2 incomplete, 3 the harness broke."""
        if self.verdict == "incomplete" and self.counts.get(Status.BROKEN):
            return HARNESS_BROKE
        return EXIT_CODES[self.verdict]


def make_report(
    outcomes: Iterable[Outcome],
    *,
    catalog: Catalog,
    under: Under,
    deviations: Mapping[str, str],
    started_at: float,
    duration_s: float,
    seed: int,
    strict: bool,
) -> Report:
    """Return the report of a run; what the catalog has and `outcomes` do not is `not_run`."""
    outcomes = list(outcomes)
    by_id = _worst_of_each(outcomes)
    results = []
    for requirement in catalog.requirements:
        if requirement.verify != "conformance":
            continue
        missing = Outcome(requirement=requirement.id, status=Status.NOT_RUN, reason="its test was not run")
        outcome = expected(by_id.get(requirement.id, missing), deviations)
        results.append(
            Result(
                id=requirement.id,
                keyword=requirement.keyword,
                text=requirement.text,
                status=outcome.status,
                reason=outcome.reason,
                duration_s=outcome.duration_s,
                check=outcome.check,
            )
        )
    proofs = proofs_of(under.capabilities, {result.id: result.status for result in results})
    return Report(
        suite_version=_version(),
        catalog=hashlib.sha256(encode(catalog)).hexdigest()[:16],
        under=under,
        started_at=datetime.datetime.fromtimestamp(started_at, datetime.UTC).isoformat(timespec="seconds"),
        duration_s=round(duration_s, 3),
        seed=seed,
        strict=strict,
        verdict=judge(results, strict=strict, all_proved=bool(proofs.proved) and not proofs.unproved),
        counts={status: count for status, count in sorted(Counter(result.status for result in results).items())},
        results=tuple(results),
        proved=proofs.proved,
        unproved=proofs.unproved,
        not_provable=proofs.not_provable,
        engine_deaths=tuple(death for outcome in outcomes for death in outcome.engine_deaths),
    )


def judge(results: Iterable[Result], *, strict: bool, all_proved: bool) -> Conformity:
    """Return the verdict on a whole catalog of results.

    Not conformant: a MUST fails, or a deviation that is listed passes. Incomplete: something was not tried that could
    have been, or not `all_proved`: the adapter declares a capability that no check has proved, or none at all. `strict`
    adds the SHOULDs to the former and what the harness cannot do to the latter.
    """
    undecided = {Status.NOT_RUN, Status.BLOCKED, Status.BROKEN} | ({Status.SKIPPED} if strict else set())
    found: set[Conformity] = {"conformant" if all_proved else "incomplete"}
    for result in results:
        optional = result.keyword.startswith("SHOULD") and not strict
        if result.status is Status.UNEXPECTED_PASS or (result.status is Status.FAILED and not optional):
            found.add("not conformant")
        elif result.status in undecided:
            found.add("incomplete")
        elif result.status is Status.DEVIATION:
            found.add("conformant with deviations")
    return max(found, key=_SEVERITY.index)


_SEVERITY: tuple[Conformity, ...] = ("conformant", "conformant with deviations", "incomplete", "not conformant")


def encode_report(report: Report) -> bytes:
    """Return the JSON form; `report.schema.json` is its schema."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def read_report(path: Path) -> Report:
    """Return the report in a file.

    Raises:
        ValueError: It cannot be read, or is no report of this format.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError) as exc:
        raise ValueError(f"{path}: is no conformance report of format {FORMAT}: {exc}") from exc


def report_schema() -> bytes:
    """Return the published JSON Schema, `report.schema.json`."""
    described = msgspec.json.schema(Report)
    level_descriptions(described["$defs"])
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Conformance report", **described}
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"


_WORST_FIRST = (
    Status.FAILED, Status.BROKEN, Status.BLOCKED, Status.NOT_RUN, Status.SKIPPED, Status.NOT_APPLICABLE, Status.PASSED,
)  # fmt: skip


def _worst_of_each(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """Return one outcome per requirement: a rerun that passes does not hide the failure before it."""
    worst: dict[str, Outcome] = {}
    for outcome in outcomes:
        before = worst.get(outcome.requirement)
        if before is None or _WORST_FIRST.index(outcome.status) < _WORST_FIRST.index(before.status):
            worst[outcome.requirement] = outcome
    return worst


def _version() -> str:
    try:
        return version("worker-adapter")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    SCHEMA.write_bytes(report_schema())
