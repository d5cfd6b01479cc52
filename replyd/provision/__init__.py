"""`replyd init` makes what is missing in AWS; `replyd check` says what is wrong."""

from replyd.provision.checks import check
from replyd.provision.create import Names, Outcome, Report, init, render_report
from replyd.provision.offline import check_offline
from replyd.provision.results import CheckResult, as_json, exit_code, render, settings_result

__all__ = [
    "CheckResult",
    "Names",
    "Outcome",
    "Report",
    "as_json",
    "check",
    "check_offline",
    "exit_code",
    "init",
    "render",
    "render_report",
    "settings_result",
]
