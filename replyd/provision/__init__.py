"""`replyd init` makes what is missing in AWS; `replyd check` says what is wrong."""

from replyd.provision.checks import CheckResult, check, exit_code, render, settings_result
from replyd.provision.create import Names, Outcome, Report, init, render_report

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
