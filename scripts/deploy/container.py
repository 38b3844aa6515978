"""The Dockerfile and the scripts. Nothing is built here: no registry of images can be reached, and no engine is needed."""

import re
import subprocess

import render

FOLDER = render.DEPLOY / "container"


def dockerfile():
    text = (FOLDER / "Dockerfile").read_text()
    render.run("hadolint", "--failure-threshold", "style", FOLDER / "Dockerfile")
    if not re.search(r"^USER \d+:\d+$", text, re.M) or re.search(r"^USER 0\b", text, re.M):
        yield "it does not run as a numbered user that is not root"
    stages = re.findall(r"^FROM .* AS ([\w-]+)$", text, re.M)
    if stages[-1] != "runtime" or "with-sleep" not in stages:
        yield f"the stages are {stages}"
    oldest = re.search(r'rust-version = "([\d.]+)"', (render.ROOT / "Cargo.toml").read_text()).group(1)
    compiler = re.search(r"BUILD_IMAGE=\S*rust:([\d.]+)-", text).group(1)
    if tuple(map(int, compiler.split(".")[:2])) < tuple(map(int, oldest.split("."))):
        yield f"it compiles with Rust {compiler}, and {oldest} is the oldest that will do"
    for image in re.findall(r"^ARG \w+_IMAGE=(\S+)$", text, re.M):
        if ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest"):
            yield f"{image} names no version"
    # What .dockerignore lets through is all that cargo asks for, and no other compiler.
    kept = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    manifest = (render.ROOT / "Cargo.toml").read_text()
    targets = [f"{kind}s" if kind == "test" else f"{kind}es" for kind in re.findall(r"^\[\[(test|bench)\]\]$", manifest, re.M)]
    for name in {"Cargo.toml", "Cargo.lock", ".cargo", "src", "deploy/container/compile", *targets} - set(kept):
        yield f"the build does not see {name}, which Cargo.toml names"
    if "rust-toolchain.toml" in kept or "*" not in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines():
        yield "rust-toolchain.toml would replace the compiler of the image"
    outside = [path for path in (render.ROOT / "src").rglob("*.rs")
               for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', path.read_text())
               if render.ROOT / "src" not in (path.parent / name).resolve().parents]
    if outside:
        yield f"these take in files that the build does not see: {outside}"
    entry = re.search(r'ENTRYPOINT \["([^"]+)"\]', text).group(1)
    if entry != "/usr/local/bin/consentry" or f" {entry}\n" not in text:
        yield "the program is not where it is started from"
    mounted = {mount["mountPath"] for mount in render.sidecar(render.kustomizations()["base"])["volumeMounts"]}
    if re.search(r"CONSENTRY_CONFIG=(\S+)/consentry.yaml", text).group(1) not in mounted:
        yield "CONSENTRY_CONFIG names another place than the one that Kubernetes mounts"


def scripts():
    paths = [path for folder in ("scripts", "deploy/container") for path in (render.ROOT / folder).iterdir()
             if path.is_file() and path.read_bytes().startswith(b"#!") and b"sh" in path.read_bytes().split(b"\n")[0]]
    ours = [path for path in paths if path.name in ("check-deploy", "compile")]
    if len(ours) != 2:
        yield f"only {ours} were found"
    done = subprocess.run(["shellcheck", *ours], capture_output=True, text=True)
    if done.returncode:
        yield done.stdout
    for path in ours:
        if not path.stat().st_mode & 0o111:
            yield f"{path.name} cannot be run"
