"""`python -m tests.model`: explore within bounds given as options, more of them than the tests do:
`--messages 2 --crashes 1 --stalls 1 --flags 1` takes some minutes."""

import argparse
import sys

from tests.model.bounds import Bounds, Budget
from tests.model.explore import explore


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    bounds, budget = Bounds(), Budget()
    for name in ("workers", "messages", "parts", "max_attempts", "max_restarts", "max_states"):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=getattr(bounds, name))
    for name in budget._fields:
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("apology", "stop", "window"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--on-ambiguous", choices=("handoff", "resend"), default="handoff")
    options = vars(parser.parse_args())
    faults = Budget(**{name: options.pop(name) for name in budget._fields})
    report = explore(Bounds(budget=faults, **options))
    print(report)  # noqa: T201 - a command prints
    return 1 if report.violation else 0


if __name__ == "__main__":
    sys.exit(main())
