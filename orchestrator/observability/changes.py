"""Telling what changes for tasks: each change is one log record, and one count of `worker_adapter_changes_total`.

What somebody does (a drain, a reload) is told by who does it, and a breaker by itself. What else happens to a replica
is found by comparing it with how it was at the last look, after each probe.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import msgspec

from adapter_api import EngineProps, PluginReport, PluginStatus
from orchestrator.observability.metrics import OrchestratorMetrics
from orchestrator.pools.embedding import embeddings_fault
from orchestrator.pools.pool import Pool
from orchestrator.pools.replica import Replica

_log = logging.getLogger("orchestrator.changes")

CHANGES = (
    "replica_up", "replica_down", "replica_state",
    "breaker_open", "breaker_half_open", "breaker_closed",
    "models_ready", "models_gone", "version",
    "certificate_renewed", "certificate_ends_soon", "certificate_ended",
    "draining", "resumed", "reloaded", "reload_refused", "plugin",
)  # fmt: skip
"""The values of the label `change`."""
CERTIFICATE_WARNING_S = 14 * 86400.0
"""How long before its end a certificate is spoken of."""
_NAMED = 10
_FIGURES = re.compile(r"\d+")


class _Seen(msgspec.Struct, kw_only=True):
    """A replica at the last look."""

    told: tuple[str, bool, str] | None = None
    models: frozenset[str] = frozenset()
    version: str | None = None
    certificate: tuple[float, str] | None = None
    described: EngineProps | None = None
    embeddings: str | None = None


class Changes:
    """Told, or shown, what changes."""

    def __init__(self, metrics: OrchestratorMetrics) -> None:
        self._metrics = metrics
        self._replicas: WeakKeyDictionary[Replica, _Seen] = WeakKeyDictionary()
        self._own_certificate: tuple[float, str] | None = None
        self._missing: dict[str, tuple[str, ...]] = {}
        """By pool, the models that it shall serve and cannot have, as they were told last."""

    def tell(
        self, change: str, text: str, *, level: int = logging.INFO, pool_id: str = "", replica_id: str = "", **more: str
    ) -> None:
        """Log and count one change; `change` is one of `CHANGES`, and `more` goes into the log record as it is."""
        assert change in CHANGES
        self._metrics.changed(change, pool_id, replica_id)
        named = {"pool_id": pool_id, "replica_id": replica_id, **more}
        _log.log(level, "%s", text, extra={"change": change, **{name: value for name, value in named.items() if value}})

    def look(self, pool: Pool, replica: Replica) -> None:
        """Tell what changed at a replica since the last look."""
        seen = self._replicas.setdefault(replica, _Seen())
        self._look_at_state(pool, replica, seen)
        self._look_at_models(replica, seen)
        self._look_at_missing(pool)
        if replica.props is not None:
            self._look_at_version(replica, seen)
            if replica.props is not seen.described:
                seen.described = replica.props
                self._look_at_embeddings(pool, replica, seen)
            ends = replica.props.certificate_expires_at
            whose = f"our certificate for replica {replica.pool_id}/{replica.id}"
            seen.certificate = self._look_at_certificate(whose, ends, seen.certificate, replica.pool_id, replica.id)

    def _look_at_embeddings(self, pool: Pool, replica: Replica, seen: _Seen) -> None:
        """Warn where none of a replica's models has the tensors that the settings name."""
        models = replica.props.models if replica.props is not None else ()
        fault = embeddings_fault([each for each in models if pool.may_serve(each.name)], pool.settings.embeddings)
        if fault not in (None, seen.embeddings):
            _log.warning("pool %s cannot embed at replica %s: %s", pool.id, replica.id, fault)
        seen.embeddings = fault

    def _look_at_missing(self, pool: Pool) -> None:
        """Warn of models that the settings name and no engine has: their clients are told that there is no such
        model."""
        missing = pool.models_missing
        if missing and missing != self._missing.get(pool.id):
            _log.warning("pool %s shall serve %s, which none of its replicas has", pool.id, _names(missing))
        self._missing[pool.id] = missing

    def look_at_plugins(self, reports: Iterable[PluginReport]) -> None:
        """Tell which plugins cannot be used, and why."""
        for report in reports:
            if report.status in (PluginStatus.BROKEN, PluginStatus.INCOMPATIBLE, PluginStatus.CONFLICT):
                self.tell(
                    "plugin", f"plugin {report.name!r} is not used, it is {report.status}: {report.reason}",
                    level=logging.WARNING,
                )  # fmt: skip

    def look_at_own_certificate(self, ends: float | None) -> None:
        """Tell when the certificate that the host serves with ends soon."""
        self._own_certificate = self._look_at_certificate("the host's own certificate", ends, self._own_certificate)

    def _look_at_state(self, pool: Pool, replica: Replica, seen: _Seen) -> None:
        health, before = replica.health, seen.told
        # Without figures: a time or a count in it changes with each probe, and nothing else does.
        seen.told = (health.state, health.takes_work, _FIGURES.sub("", health.detail))
        if seen.told == before:
            return
        up, was_up = health.takes_work, before is not None and before[1]
        change = "replica_state" if up == was_up and before is not None else "replica_up" if up else "replica_down"
        state = health.state.value if up else f"{health.state.value} and takes no work"
        self.tell(
            change, f"replica {pool.id}/{replica.id} is {state}{f': {health.detail}' if health.detail else ''}",
            level=logging.INFO if up else logging.WARNING, pool_id=pool.id, replica_id=replica.id,
        )  # fmt: skip

    def _look_at_models(self, replica: Replica, seen: _Seen) -> None:
        report = replica.report
        if report is None or not report.live or not replica.health.takes_work:
            return  # silence says nothing of models: that the replica is down is told, when it is believed
        before, seen.models = seen.models, frozenset(m.name for m in report.models if m.ready)
        where = f"replica {replica.pool_id}/{replica.id}"
        if new := seen.models - before:
            text = f"{where} has {_names(new)} ready"
            self.tell("models_ready", text, pool_id=replica.pool_id, replica_id=replica.id)
        if gone := before - seen.models:
            text = f"{where} no longer has ready: {_names(gone)}"
            self.tell("models_gone", text, level=logging.WARNING, pool_id=replica.pool_id, replica_id=replica.id)

    def _look_at_version(self, replica: Replica, seen: _Seen) -> None:
        before, seen.version = seen.version, replica.engine_version
        if before is not None and seen.version != before:
            text = (
                f"replica {replica.pool_id}/{replica.id} runs {seen.version or 'an unknown version'}, before {before}"
            )
            self.tell("version", text, pool_id=replica.pool_id, replica_id=replica.id)

    def _look_at_certificate(
        self, whose: str, ends: float | None, before: tuple[float, str] | None, pool_id: str = "", replica_id: str = ""
    ) -> tuple[float, str] | None:
        """Return what is to be remembered: when it ends, and what was said of that."""
        if ends is None:
            return None
        left_s = ends - time.time()
        said = "ended" if left_s <= 0 else "ends_soon" if left_s < CERTIFICATE_WARNING_S else ""
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
        if before is not None and before[0] != ends:
            self.tell(
                "certificate_renewed", f"{whose} was renewed: it is good until {day}",
                pool_id=pool_id, replica_id=replica_id,
            )  # fmt: skip
        if said and (before is None or before != (ends, said)):
            text = f"{whose} {'ended' if said == 'ended' else 'ends'} on {day}: renew it"
            level = logging.ERROR if said == "ended" else logging.WARNING
            self.tell(f"certificate_{said}", text, level=level, pool_id=pool_id, replica_id=replica_id)
        return ends, said


def _names(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"model{'' if len(known) == 1 else 's'} {', '.join(known[:_NAMED])}{more}"
