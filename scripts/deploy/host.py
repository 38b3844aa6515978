"""The unit of systemd, the compose file, and the documents that lead through all of it."""

import os
import pathlib
import re
import subprocess
import tempfile

import yaml

import program
import render

UNIT = render.DEPLOY / "systemd/consentry.service"


def systemd():
    text = UNIT.read_text()
    with tempfile.TemporaryDirectory() as home:
        path = pathlib.Path(home) / "consentry.service"
        # The program is not installed where it will be.
        path.write_text(text.replace("/usr/local/bin/consentry", str(program.BINARY.resolve())))
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
        told = (done.stdout + done.stderr).strip()
        if done.returncode or told:
            yield f"systemd-analyze verify: {told or done.returncode}"
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", path], capture_output=True, text=True)
        if done.returncode or "Overall exposure level" not in done.stdout:
            yield f"systemd-analyze security: {done.stdout.strip().splitlines()[-1:]} {done.stderr.strip()}"
    said = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    config = yaml.safe_load((render.DEPLOY / "systemd/consentry.yaml").read_text())
    if int(said["TimeoutStopSec"]) <= int(config["shutdown"]["grace"].rstrip("s")):
        yield "systemd kills the process before its grace is over"
    credentials = set(re.findall(r"^LoadCredential=([^:]+):", text, re.M))
    named = {pathlib.Path(path).name for path in program.files((render.DEPLOY / "systemd/consentry.yaml").read_text())}
    if credentials != named:
        yield f"the unit loads {sorted(credentials)}, and the configuration names {sorted(named)}"
    tells = any("NOTIFY_SOCKET" in path.read_text() for path in (render.ROOT / "src").rglob("*.rs"))
    if said["Type"] != ("notify" if tells else "exec"):
        yield "Type=notify is for a program that says when it is ready, and Type=exec for one that does not"


def compose():
    folder = render.DEPLOY
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    render.run("docker-compose", "-f", folder / "compose.yaml", "config", "-q", env=environment)
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"{name} is open to the network with {port}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (folder / source).exists():
                yield f"{name} mounts {source}, which is not there"
        if ":" not in service.get("image", ""):
            yield f"{name} names no version of its image"
    ours = services["consentry"]
    config = yaml.safe_load((folder / "compose/consentry.yaml").read_text())
    if int(ours["stop_grace_period"].rstrip("s")) < int(config["shutdown"]["grace"].rstrip("s")) + 5:
        yield "consentry is killed before its grace is over"
    if not (folder / ours["build"]["context"] / ours["build"]["dockerfile"]).exists():
        yield "the Dockerfile is not where compose looks for it"
    if services["door"]["network_mode"] != "service:consentry" or "127.0.0.1:8080" not in services["door"]["command"][1]:
        yield "the door does not lead to the proxy"


def documents():
    """Paths in code and targets of links, in what is written about running it."""
    seen = 0
    for document in ("deploy/README.md", "deploy/helm/consentry/README.md", "docs/operations.md"):
        path = render.ROOT / document
        text = path.read_text()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            seen += 1
            if not target.startswith("http") and not (path.parent / target).exists():
                yield f"{document} links to {target}, which is not there"
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", text):
            other = path.parent / target if target else path
            if other.suffix == ".md" and other.exists() and anchor not in anchors(other.read_text()):
                yield f"{document} links to {target}#{anchor}, and there is no such heading"
        for name in re.findall(r"\b(?:deploy|scripts|docs)/[\w./-]*\w", text):
            seen += 1
            if not (render.ROOT / name).exists() and not (render.ROOT / "deploy" / name).exists():
                yield f"{document} names {name}, which is not there"
    if seen < 30:
        yield f"only {seen} paths were found"
    # Comments of what is shipped name files as well.
    for path in render.DEPLOY.rglob("*"):
        if path.is_file() and path.suffix in (".yaml", ".service", ".conf", ".txt", ".tpl", "") and "secrets" not in path.parts:
            for name in re.findall(r"\b(?:deploy|docs)/[\w./-]*\w", path.read_text()):
                if not (render.ROOT / name).exists():
                    yield f"{path.relative_to(render.ROOT)} names {name}, which is not there"


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
