"""The program itself, with the configurations that stand under deploy/.

Each is given the files it names, made up, in a folder that stands for the container's or the unit's file system, and read by
the real `consentry check`. The one of Kubernetes then runs, before a Redis that is configured as deploy/redis says.
"""

import base64
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import yaml

import render

BINARY = pathlib.Path(os.environ.get("CONSENTRY", "target/debug/consentry"))
PLACES = ("/etc/consentry", "/run/secrets", "/run/credentials", "/run/consentry", "/var/lib/consentry")


def configurations():
    """Name, text, and where its secrets may lie."""
    rendered = {"kustomize": render.kustomizations()["base"], "kustomize with callback": render.kustomizations()["callback"],
                "chart": render.charts()["default"]}
    for name, objects in rendered.items():
        volumes = {volume["name"]: volume for volume in render.pod(objects)["volumes"]}
        mounts = [mount["mountPath"] for mount in render.sidecar(objects)["volumeMounts"]
                  if "secret" in volumes.get(mount["name"], {})]
        yield name, render.configuration(objects), mounts
    compose = yaml.safe_load((render.DEPLOY / "compose.yaml").read_text())["services"]["consentry"]
    targets = [volume.split(":")[1] for volume in compose["volumes"]]
    yield "compose", (render.DEPLOY / "compose/consentry.yaml").read_text(), targets
    yield "systemd", (render.DEPLOY / "systemd/consentry.yaml").read_text(), ["/run/credentials/consentry.service"]


def files(text):
    """Every file that a configuration names as a secret, certificate or key."""
    found = []

    def look(node):
        if isinstance(node, dict):
            if isinstance(node.get("file"), str):
                found.append(os.path.normpath(node["file"]))
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(yaml.safe_load(text))
    return found


def furnish(home, text):
    """The configuration in `home`, with all its paths there, and the files it names."""
    for place in PLACES:
        (home / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name in files(text):
        path = home / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if "seal" in path.name:
            path.write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        elif path.suffix not in (".crt",) and path.name != "tls.key":
            path.write_text(secrets.token_hex(16) + "\n")
    for certificate in {path for path in files(text) if path.endswith(".crt")}:
        certificate = home / certificate.lstrip("/")
        render.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                   "-subj", "/CN=tpp", "-out", certificate, "-keyout", certificate.with_suffix(".key"))
    for name in files(text):
        (home / name.lstrip("/")).chmod(0o440)
    for place in PLACES:
        text = text.replace(place + "/", f"{home}{place}/")
    path = home / "etc/consentry/consentry.yaml"
    path.write_text(text)
    return path


def configurations_pass():
    for name, text, mounts in configurations():
        stray = [path for path in files(text) if not any(path.startswith(mount + "/") for mount in mounts)]
        if stray or not files(text):
            yield f"{name}: {stray or 'nothing'} is named, where nothing is mounted"
        with tempfile.TemporaryDirectory() as home:
            path = furnish(pathlib.Path(home), text)
            done = subprocess.run([BINARY, "check", "--json", "--config", path], capture_output=True, text=True)
            report = json.loads(done.stdout)
            if done.returncode or not report["usable"] or report["warnings"]:
                yield f"{name}: consentry check ends with {done.returncode}: {report['faults']} {report['warnings']}"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, path):
    """Status and text; None while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None, ""


def until(what, holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)


def redis(home):
    """A Redis that runs as deploy/redis says."""
    port = free_port()
    folder = home / "redis"
    shutil.copytree(render.DEPLOY / "redis", folder)
    settings = (folder / "redis.conf").read_text().replace("/etc/redis/", f"{folder}/")
    acl = (folder / "users.acl").read_text()
    (folder / "redis.conf").write_text(f"{settings}\nport {port}\nbind 127.0.0.1\ndir {folder}\nloglevel warning\n")
    password = re.search(r" on >(\S+)", acl).group(1)
    version = tuple(map(int, re.search(r"v=(\d+)\.(\d+)", render.run("redis-server", "--version")).groups()))
    if version < (7, 2):  # which does not know the command
        (folder / "users.acl").write_text(acl.replace(" +waitaof", ""))
    with open(folder / "log", "w") as log:
        return subprocess.Popen(["redis-server", folder / "redis.conf"], stdout=log, stderr=log), port, password


def doctor(path):
    """What `store doctor` finds, if need be a second time on a machine that is slow."""
    for _ in range(3):
        done = subprocess.run([BINARY, "--json", "store", "doctor", "--config", path], capture_output=True, text=True)
        if done.stdout:
            break
    return json.loads(done.stdout)["findings"]


# It is one server on purpose, and what else it is slow at is this machine's doing.
BESIDE_THE_POINT = ("replicas", "round-trip", "clock")


def it_runs():
    objects = render.kustomizations()["base"]
    sidecar = render.sidecar(objects)
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        server, redis_port, password = redis(home)
        text = render.configuration(objects).replace("redis://redis:6379", f"redis://127.0.0.1:{redis_port}")
        health, proxy, admin = free_port(), free_port(), free_port()
        text = text.replace("0.0.0.0:9091", f"127.0.0.1:{health}").replace("proxy:\n", f"proxy:\n  listen: 127.0.0.1:{proxy}\n")
        text = text.replace("admin: {", f"admin: {{listen: '127.0.0.1:{admin}', ")
        path = furnish(home, text)
        secret = home / "run/secrets/consentry/redis.password"
        secret.chmod(0o600)
        secret.write_text(password)
        program = None
        try:
            until("Redis", lambda: ask_redis(redis_port) == b"+PONG\r\n")
            arguments = [word.replace("/etc/consentry/consentry.yaml", str(path)) for word in sidecar["args"]]
            with open(home / "log", "w") as log:
                program = subprocess.Popen([BINARY, *arguments], stderr=log, env={"PATH": os.environ["PATH"]})
            started = sidecar["startupProbe"]["httpGet"]["path"]
            until(f"an answer of 200 from {started}", lambda: ask(health, started)[0] == 200)
            for probe in ("livenessProbe", "readinessProbe"):
                if ask(health, sidecar[probe]["httpGet"]["path"])[0] != 200:
                    yield f"{probe} finds no 200"
            status, metrics = ask(health, "/metrics")
            if status != 200 or "consentry_store_connected" not in metrics:
                yield "there are no metrics"
            if ask(proxy, "/nothing")[0] != 404:
                yield "the proxy does not answer"
            for finding in doctor(path):
                if finding["severity"] != "fine" and finding["check"] not in BESIDE_THE_POINT:
                    yield f"store doctor: {finding['check']}: {finding['sentence']}"
            if not (home / "var/lib/consentry/spill/lock").exists():
                yield "the spill is not where it should be"
            program.terminate()
            try:
                if program.wait(timeout=15) != 0:
                    yield f"it ends with {program.returncode} when it is told to end"
            except subprocess.TimeoutExpired:
                yield "it does not end within 15 s, with nothing under way"
            told = [json.loads(line) for line in (home / "log").read_text().splitlines()]
            loud = [line for line in told if line["level"] == "ERROR" or line.get("check", "replicas") not in BESIDE_THE_POINT]
            if loud:
                yield f"its log has warnings: {loud}"
        except RuntimeError as error:
            yield f"{error}; its log: {(home / 'log').read_text()[-600:] if (home / 'log').exists() else ''}"
        finally:
            for process in (program, server):
                if process and process.poll() is None:
                    process.kill()
                    process.wait()


def ask_redis(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
    except OSError:
        return b""
