"""Runs the checks of everything under deploy/, one after the other, and names all that is wrong.

Each check is a function that yields complaints. One that yields nothing is content; one that could not look at anything
complains itself.
"""

import sys
import time
import traceback

import container
import host
import manifests
import monitoring
import program

CHECKS = [
    ("YAML and JSON parse, and no key stands twice", manifests.parse),
    ("kustomize renders, and Kubernetes knows every field", manifests.kustomize_fits_schemas),
    ("the chart renders, is refused what it does not know, and Kubernetes knows every field", manifests.chart_fits_schemas),
    ("each pod is restricted, ends in time, and has the memory its configuration asks for", manifests.pods_are_sound),
    ("the chart and kustomize render the same", manifests.chart_and_kustomize_agree),
    ("every configuration passes consentry check without a warning", program.configurations_pass),
    ("the program becomes ready as configured, answers its probes, and ends when told", program.it_runs),
    ("Prometheus' rules are sound, and each alert fires in a test", monitoring.rules),
    ("every alert has a heading that says what to do", monitoring.runbook),
    ("rules and dashboard speak of metrics, labels and words that exist", monitoring.names),
    ("the operator's resources have no field it does not know", monitoring.resources),
    ("the systemd unit is sound and hardened", host.systemd),
    ("the compose file is sound", host.compose),
    ("the Dockerfile is sound, and the build sees all it needs", container.dockerfile),
    ("the scripts are sound", container.scripts),
    ("every path and link that the documents name is there", host.documents),
]


def main(words):
    chosen = [(name, check) for name, check in CHECKS if not words or any(word in name for word in words)]
    if not chosen:
        print(f"no check has one of the words {words}", file=sys.stderr)
        return 64
    failed = 0
    for name, check in chosen:
        began = time.monotonic()
        try:
            complaints = list(check())
        except Exception:  # a check that breaks has not passed
            complaints = [traceback.format_exc()]
        took = time.monotonic() - began
        print(f"{'FAILED' if complaints else 'ok':6} {took:5.1f} s  {name}", flush=True)
        for complaint in complaints:
            print(f"         - {complaint}")
        failed += bool(complaints)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
