"""Settings that pass over options that they do not know."""

from __future__ import annotations

from pydantic import ConfigDict

from conformance_tests.reference import ReferenceSettings


class LaxSettings(ReferenceSettings):
    model_config = ConfigDict(frozen=True, extra="ignore")
