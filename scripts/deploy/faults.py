"""Whether the checks find anything: plants one fault after the other in a copy, and runs the check that has to find it."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import render

COPIED = ("deploy", "docs", "scripts", "src", "tests", "benches", ".cargo", "Cargo.toml", "Cargo.lock", "README.md",
          "CHANGELOG.md", "config.example.yaml")
SIDECAR, CONFIG = "deploy/kubernetes/component/sidecar.yaml", "deploy/kubernetes/config/consentry.yaml"
CONTAINER, VALUES = "deploy/helm/consentry/templates/_sidecar.tpl", "deploy/helm/consentry/values.yaml"
RULES, BOARD = "deploy/monitoring/prometheus-rule.yaml", "deploy/monitoring/dashboard.json"
UNIT, POD = "deploy/systemd/consentry.service", "each pod is restricted"

# A file, what stands there, what is put in its place, and a word of the check that has to find it.
FAULTS = [
    ("deploy/kubernetes/base/service.yaml", "kind: Service", "kind: Service\nkind: Service", "twice"),
    (SIDECAR, "livenessProbe:", "livenesProbe:", "kustomize renders"),
    (SIDECAR, "labels: {consentry: sidecar}", "labels: {}", "the operator's"),
    (SIDECAR, "  restartPolicy: Always\n", "  restartPolicy: Allways\n", POD),
    (SIDECAR, "path: /livez", "path: /live", POD),
    (SIDECAR, "terminationGracePeriodSeconds: 90", "terminationGracePeriodSeconds: 60", POD),
    (SIDECAR, "limits: {memory: 256Mi}", "limits: {memory: 128Mi}", POD),
    (SIDECAR, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", POD),
    (SIDECAR, "runAsUser: 20911", "runAsUser: 10001", POD),
    (SIDECAR, "secretName: consentry, defaultMode: 0440", "secretName: consentry, defaultMode: 0444", POD),
    (SIDECAR, "fsGroup: 20911", "fsGroup: null", POD),
    (SIDECAR, "containerPort: 9091", "containerPort: 9090", POD),
    ("deploy/kubernetes/base/network-policy.yaml", "port: 443,", "port: 80,", POD),
    ("deploy/kubernetes/base/deployment.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", POD),
    ("deploy/kubernetes/component-plain/kustomization.yaml", "/initContainers/0/restartPolicy", "/initContainers/1/restartPolicy", "kustomize renders"),
    ("deploy/kubernetes/component-plain/kustomization.yaml", '"20"', '"60"', POD),
    ("deploy/kubernetes/component-volume/kustomization.yaml", "accessModes", "accessModus", "kustomize renders"),
    (CONTAINER, "failureThreshold: 300", "failureThreshold: 30", "render the same"),
    (CONTAINER, "startupProbe:", "startuProbe:", "the chart renders"),
    (VALUES, "max_in_flight: 512", "max_in_flight: 511", "render the same"),
    (VALUES, "  pullPolicy: IfNotPresent", "  pulPolicy: IfNotPresent", "the chart renders"),
    ("deploy/helm/consentry/values.schema.json", '"minimum": 1}', '"minimum": 0}', "the chart renders"),
    (CONFIG, "spill:", "spil:", "consentry check"),
    (CONFIG, "seal-2026-11.key}", "../seal.key}", "consentry check"),
    ("deploy/compose/consentry.yaml", "client_id: TPP_test", "client: TPP_test", "consentry check"),
    ("deploy/redis/users.acl", "+hdel ", "", "becomes ready"),
    ("deploy/redis/redis.conf", "noeviction", "allkeys-lru", "becomes ready"),
    (SIDECAR, "path: /startupz", "path: /startz", "becomes ready"),
    (RULES, "cause!=\"lost_reply\"", "cause=\"lost_reply\"", "in a test"),
    (RULES, "(consentry_store_connected) == 0", "(consentry_store_connected) == 1", "in a test"),
    (RULES, "alert: ConsentryDown", "alert: ConsentryGone", "a heading"),
    (RULES, "#consentrydown", "#consentrydowns", "in a test"),
    (RULES, "labels: {severity: critical}", "labels: {severity: page}", "in a test"),
    ("docs/operations.md", "### ConsentrySentLate", "### ConsentrySentLater", "a heading"),
    (RULES, "consentry_late_send_detected_total", "consentry_late_sends_total", "rules and dashboard"),
    (RULES, "no_answer", "no_anser", "rules and dashboard"),
    (RULES, "upstream-timeout", "upstream-time-out", "rules and dashboard"),
    (BOARD, "consentry_tokens_cached", "consentry_token_cached", "rules and dashboard"),
    (BOARD, "sum by (pod) (consentry_tokens", "sum by (replica) (consentry_tokens", "rules and dashboard"),
    (BOARD, "sum by (pod) (consentry_tokens", "sum by (pod (consentry_tokens", "rules and dashboard"),
    ("deploy/monitoring/pod-monitor.yaml", "interval: 30s", "intervall: 30s", "the operator's"),
    (UNIT, "Type=notify", "Type=exec", "systemd"),
    (UNIT, "ProtectSystem=strict", "ProtectSystem=strictly", "systemd"),
    (UNIT, "CapabilityBoundingSet=\n", "", "systemd"),
    (UNIT, "TimeoutStopSec=130", "TimeoutStopSec=90", "systemd"),
    (UNIT, "LoadCredential=tls.key:", "LoadCredential=tsl.key:", "systemd"),
    ("deploy/compose.yaml", "stop_grace_period: 60s", "stop_grace_period: 50s", "compose"),
    ("deploy/compose.yaml", '"127.0.0.1:6379:6379"', '"6379:6379"', "compose"),
    ("deploy/compose.yaml", "depends_on:", "depend_on:", "compose"),
    ("deploy/container/Dockerfile", "USER 65532:65532", "USER nonroot", "Dockerfile"),
    ("deploy/container/Dockerfile", "COPY . .", "ADD . .", "Dockerfile"),
    ("deploy/container/Dockerfile.dockerignore", "!benches\n", "", "Dockerfile"),
    ("deploy/container/compile", 'dirname "$file"', "dirname $file", "scripts"),
    ("docs/operations.md", "](errors.md)", "](error.md)", "every path"),
    ("docs/operations.md", "](#ending)", "](#the-end)", "every path"),
    (UNIT, "docs/operations.md", "docs/operation.md", "every path"),
]


def main(words):
    """Plants those whose file or check has one of the words; all without."""
    missed = 0
    chosen = [fault for fault in FAULTS if not words or any(word in fault[0] + fault[3] for word in words)]
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        for name in COPIED:
            source = render.ROOT / name
            shutil.copytree(source, home / name) if source.is_dir() else shutil.copy(source, home / name)
        environment = {**os.environ, "CONSENTRY": str(pathlib.Path(os.environ["CONSENTRY"]).resolve())}
        for file, old, new, word in chosen:
            path = home / file
            sound = path.read_text()
            assert old in sound, f"{file} does not hold {old!r}"
            path.write_text(sound.replace(old, new, 1))
            done = subprocess.run([sys.executable, "-B", "scripts/deploy", word], cwd=home, env=environment, capture_output=True, text=True)
            path.write_text(sound)
            found = done.returncode == 1 and "FAILED" in done.stdout
            print(f"{'found ' if found else 'MISSED'}  {file}: {old!r} -> {new!r} ({word})", flush=True)
            if not found:
                print(done.stdout[-300:] + done.stderr[-300:])
            missed += not found
    print(f"{len(chosen) - missed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
