"""What deploy/ comes to: kustomize's and helm's output, as lists of objects.

Overlays that a user would write are written here, beside a copy of deploy/kubernetes, so that they are tried as well.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "consentry"
WORKLOADS = ("Deployment", "StatefulSet", "Job")

# Overlays by name: the components they take in.
OVERLAYS = {
    "own": ["component"],
    "job": ["component"],
    "plain": ["component-plain"],
    "callback": ["component", "component-callback"],
    "plain-callback": ["component-callback", "component-plain"],
}
GENERATOR = {"name": "consentry", "files": ["consentry.yaml"]}

# What the configuration needs for customers to consent.
CALLBACK = """
callback:
  listen: 0.0.0.0:8090
  public_url: https://consent.example
  return_urls: [https://app.example/consent-done]
"""

# Values of the chart by name; with `config=` and no more, the configuration with the listener for customers.
VALUES = {
    "default": [],
    "volume": ["spill.volume=true"],
    "plain": ["sidecar.native=false"],
    "all": ["config=", "callback.enabled=true", "podMonitor.enabled=true", "secrets.bankTls=", "imagePullSecrets[0].name=x",
            "podSpec.nodeSelector.disk=ssd", "app.container.workingDir=/tmp", "image.digest=sha256:" + 64 * "0",
            "sidecar.env[0].name=A", "sidecar.env[0].value=b", "spill.storageClassName=fast",
            "networkPolicy.egress[0].ports[0].port=5432"],
}


def run(*command, **options):
    """A command's output; its complaint is raised."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def documents(text):
    """The objects of a stream of YAML."""
    return [document for document in yaml.safe_load_all(text) if document]


@functools.lru_cache(maxsize=None)
def kustomizations():
    """Every kustomization, by name."""
    rendered = {name: documents(run("kubectl", "kustomize", DEPLOY / folder)) for name, folder in (
        ("base", "kubernetes/base"), ("statefulset", "kubernetes/statefulset"), ("monitoring", "monitoring"))}
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        shutil.copytree(DEPLOY / "kubernetes", home / "kubernetes")
        for name, components in OVERLAYS.items():
            overlay = home / name
            overlay.mkdir()
            app = yaml.safe_load((home / "kubernetes/base/deployment.yaml").read_text())
            text = (home / "kubernetes/config/consentry.yaml").read_text()
            kustomization = {"resources": ["app.yaml"], "components": [f"../kubernetes/{component}" for component in components],
                             "configMapGenerator": [GENERATOR]}
            if name == "own":
                kustomization["images"] = [{"name": "registry.example/consentry", "newName": "registry.mine/c", "newTag": "9"}]
            (overlay / "app.yaml").write_text(yaml.safe_dump(as_job(app) if name == "job" else app))
            (overlay / "consentry.yaml").write_text(text + CALLBACK if "callback" in name else text)
            (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
            rendered[name] = documents(run("kubectl", "kustomize", overlay))
        # One that takes the example as it is, but for the configuration.
        overlay = home / "replaced"
        overlay.mkdir()
        (overlay / "consentry.yaml").write_text("replaced: yes\n")
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump({
            "resources": ["../kubernetes/base"], "configMapGenerator": [{**GENERATOR, "behavior": "replace"}]}))
        rendered["replaced"] = documents(run("kubectl", "kustomize", overlay))
    return rendered


def as_job(deployment):
    """The same pod, run once."""
    template = deployment["spec"]["template"]
    template["spec"]["restartPolicy"] = "Never"
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": deployment["metadata"], "spec": {"template": template}}


def helm(chart, *settings, release="example"):
    """What a chart renders with settings."""
    with tempfile.TemporaryDirectory() as home:
        configuration = pathlib.Path(home) / "consentry.yaml"
        configuration.write_text((DEPLOY / "kubernetes/config/consentry.yaml").read_text() + CALLBACK)
        options = [option for setting in settings for option in (
            ("--set-file", f"config={configuration}") if setting == "config=" else ("--set", setting))]
        environment = {"HOME": home, "PATH": os.environ["PATH"]}
        return documents(run("helm", "template", release, chart, "--namespace", "apps", *options, env=environment))


@functools.lru_cache(maxsize=None)
def charts():
    """What the chart renders, by the name of its values; and a chart that depends on it, as its README says."""
    rendered = {name: helm(CHART, *settings) for name, settings in VALUES.items()}
    readme = (CHART / "README.md").read_text()
    template = readme.split("# templates/deployment.yaml\n")[1].split("```")[0]
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        (home / "templates").mkdir()
        shutil.copytree(CHART, home / "charts/consentry")
        (home / "Chart.yaml").write_text("apiVersion: v2\nname: mine\nversion: 1.0.0\ndependencies:\n"
                                         "  - {name: consentry, version: 0.1.0}\n")
        (home / "values.yaml").write_text("consentry: {app: {enabled: false}}\n")
        (home / "templates/deployment.yaml").write_text(DEPENDANT + template.split("spec:\n", 1)[1] + CONTAINERS)
        rendered["dependant"] = helm(home)
    return rendered


# What stands around the lines that the chart's README gives to another chart.
DEPENDANT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: mine}
spec:
  selector: {matchLabels: {app: mine}}
"""
CONTAINERS = """      containers: [{name: app, image: "registry.mine/app:1"}]
"""


def workload(objects):
    """The one Deployment or StatefulSet among objects."""
    found = [one for one in objects if one["kind"] in WORKLOADS]
    assert len(found) == 1, [one["kind"] for one in objects]
    return found[0]


def pod(objects):
    return workload(objects)["spec"]["template"]["spec"]


def sidecar(objects):
    spec = pod(objects)
    found = [one for one in spec.get("initContainers", []) + spec["containers"] if one["name"] == "consentry"]
    assert len(found) == 1, "consentry is not there once"
    return found[0]


def of_kind(objects, kind):
    return [one for one in objects if one["kind"] == kind]


def configuration(objects):
    """The text of the sidecar's configuration."""
    texts = [one["data"]["consentry.yaml"] for one in of_kind(objects, "ConfigMap") if "consentry.yaml" in one["data"]]
    assert len(texts) == 1, "the configuration is not there once"
    return texts[0]
