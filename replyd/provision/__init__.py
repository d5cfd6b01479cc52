"""`replyd init` makes what is missing in AWS; `replyd check` says what is wrong."""

from replyd.provision.checks import check
from replyd.provision.create import Names, Outcome, Report, init, render_report
from replyd.provision.results import CheckResult, exit_code, render, settings_result

__all__ = [
    "CheckResult",
    "Names",
    "Outcome",
    "Report",
    "check",
    "exit_code",
    "init",
    "render",
    "render_report",
    "settings_result",
]
