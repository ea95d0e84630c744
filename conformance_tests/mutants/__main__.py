"""Prove that every check of the suite can fail: run it on every mutant.

Exit code 1 when a mutant is not found, when more than its own requirement is, or when a requirement has none; 4 where
there are no mutants, as in an installed wheel.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from conformance_tests.catalog import load

NOT_HERE = (
    "the mutants are not in an installed worker-adapter: they prove the suite, not your adapter. Run this command in a "
    "checkout of its repository, or in its unpacked source distribution; to try your adapter, run "
    "`python -m conformance_tests --adapter NAME`"
)


def main(arguments: list[str]) -> int:
    """Run the mutants of the requirements that begin in one of `arguments`, or all."""
    if find_spec("conformance_tests.mutants.breaking") is None:
        sys.stderr.write(f"{NOT_HERE}\n")
        return 4
    from conformance_tests.mutants.breaking import found_broken, mutants, trial

    bad = 0
    chosen = [mutant for mutant in mutants() if not arguments or mutant.requirement.startswith(tuple(arguments))]
    for mutant in chosen:
        found = found_broken(trial(mutant))
        right = found.keys() == {mutant.requirement}
        bad += not right
        sys.stdout.write(f"{'ok  ' if right else 'BAD '}  {mutant}: {found.get(mutant.requirement, 'not found')}\n")
        for id in found.keys() - {mutant.requirement}:
            sys.stdout.write(f"      also {id}: {found[id]}\n")
        sys.stdout.flush()
    broken = {mutant.requirement for mutant in mutants()}
    untried = sorted(r.id for r in load().requirements if r.verify == "conformance" and r.id not in broken)
    sys.stdout.write(f"{len(chosen)} mutants, {bad} not as they should be; no mutant for: {untried or 'none'}\n")
    return 1 if bad or untried else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
