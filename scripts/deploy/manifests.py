"""Whether what is rendered is what Kubernetes takes, and what we want of it.

Schemas of Kubernetes say which fields there are; what values mean is asserted here, against the configuration where the
two have to fit together.
"""

import copy
import importlib.resources
import functools
import json
import re

import jsonschema
import referencing
import yaml

import render

NATIVE = [f"1.{minor}" for minor in range(29, 38)]      # the versions with native sidecars
OLD = ["1.25", "1.26", "1.27", "1.28"]
MONITORING = "monitoring.coreos.com/v1"                  # looked at in monitoring.py


class Strict(yaml.SafeLoader):
    """Refuses a key that stands twice, which YAML forbids and its readers pass over."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{sorted(twice)} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse():
    seen = 0
    for path in sorted(render.DEPLOY.rglob("*")):
        if render.CHART / "templates" in path.parents:
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix in (".yaml", ".yml"):
                list(yaml.load_all(path.read_text(), Strict))
            else:
                continue
            seen += 1
        except (ValueError, yaml.YAMLError) as error:
            yield f"{path.relative_to(render.ROOT)}: {error}"
    if seen < 20:
        yield f"only {seen} files were found"


@functools.lru_cache(maxsize=None)
def definitions(version):
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    registry = referencing.Resource.from_contents(json.loads((folder / "_definitions.json").read_text())) @ referencing.Registry()
    return folder, registry


@functools.lru_cache(maxsize=None)
def validator(version, kind, api_version):
    folder, registry = definitions(version)
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((folder / f"{kind.lower()}-{name}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=referencing.Resource.from_contents(schema) @ registry)


def unfit(name, objects, versions):
    """What some version of Kubernetes would not take."""
    if not objects:
        yield f"{name}: nothing is rendered"
    for one in objects:
        if one["apiVersion"] == MONITORING:
            continue
        what = f"{one['kind']}/{one['metadata']['name']}"
        for version in versions:
            try:
                errors = list(validator(version, one["kind"], one["apiVersion"]).iter_errors(one))
            except FileNotFoundError:
                yield f"{name}: Kubernetes {version} has no {one['kind']} in {one['apiVersion']}"
                continue
            for error in errors:
                yield f"{name}, Kubernetes {version}: {what}: {'.'.join(map(str, error.path))}: {error.message[:200]}"


def kustomize_fits_schemas():
    for name, objects in render.kustomizations().items():
        yield from unfit(name, objects, OLD + NATIVE if name.startswith("plain") else NATIVE)
    own = render.kustomizations()["own"]
    if render.sidecar(own)["image"] != "registry.mine/c:9":
        yield "own: the image is not replaced"
    if "replaced: yes\n" != render.configuration(render.kustomizations()["replaced"]):
        yield "replaced: the configuration of the example is not replaced"
    callback = [render.kustomizations()[name] for name in ("callback", "plain-callback")]
    if not all({"name": "cs-callback", "containerPort": 8090} in render.sidecar(objects)["ports"] for objects in callback):
        yield "callback: the port is not there"


def chart_fits_schemas():
    lint = render.run("helm", "lint", "--strict", render.CHART)
    if "0 chart(s) failed" not in lint:
        yield lint
    for name, objects in render.charts().items():
        yield from unfit(name, objects, OLD + NATIVE if name == "plain" else NATIVE)
    refused = [("image.tga=x", "don't meet the specifications"), ("podSpec.containers[0].name=x", "don't meet the specifications"),
               ("sidecar.user=0", "don't meet the specifications"), ("app.port=0", "don't meet the specifications"),
               ("terminationGracePeriodSeconds=59", "needs at least 60"), ("config=health: [", "config is not YAML"),
               ("config=log: {level: info}", "let it be 0.0.0.0:9091"), ("callback.enabled=true", "not on port 8090")]
    for setting, why in refused:
        try:
            render.helm(render.CHART, setting)
            yield f"the chart takes {setting}"
        except RuntimeError as error:
            if why not in str(error):
                yield f"the chart refuses {setting} for another reason: {error}"
    if "disk" not in json.dumps(render.pod(render.charts()["all"])):
        yield "podSpec is not taken over"


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


def pods_are_sound():
    everything = {**{f"kustomize {name}": objects for name, objects in render.kustomizations().items()
                     if name not in ("monitoring", "replaced")},
                  **{f"chart {name}": objects for name, objects in render.charts().items()}}
    for name, objects in everything.items():
        for complaint in unsound(objects, native="plain" not in name):
            yield f"{name}: {complaint}"


def unsound(objects, native):
    config = yaml.safe_load(render.configuration(objects))
    yield from ends_in_time(render.pod(objects), render.sidecar(objects), config, native)
    yield from is_asked(render.sidecar(objects), config)
    yield from has_memory(render.sidecar(objects), config)
    yield from has_volumes(objects, config)
    yield from is_restricted(render.pod(objects), render.sidecar(objects))
    for policy in render.of_kind(objects, "NetworkPolicy"):
        if "Egress" in policy["spec"]["policyTypes"]:
            yield from is_closed(policy, int(config["health"]["listen"].rsplit(":", 1)[1]))


def ends_in_time(spec, sidecar, config, native):
    """Where it stands, and how it ends."""
    grace = seconds(config["shutdown"]["grace"])
    if native:
        if spec["initContainers"][0] is not sidecar or sidecar.get("restartPolicy") != "Always":
            yield "consentry is not the first init container, or no native sidecar"
        if "lifecycle" in sidecar:
            yield "a native sidecar is told to end when the app has ended, and needs no preStop"
        needed = 30 + grace + 5
    else:
        if sidecar not in spec["containers"] or "restartPolicy" in sidecar:
            yield "consentry is no plain container"
        delay = sidecar["lifecycle"]["preStop"]["exec"]["command"]
        if delay[0] != "/busybox/sleep":
            yield "preStop runs something else than what the image with-sleep holds"
        needed = int(delay[1]) + grace + 5
    if spec["terminationGracePeriodSeconds"] < needed:
        yield f"the pod is given {spec['terminationGracePeriodSeconds']} s to end, and needs {needed}"


def is_asked(sidecar, config):
    """Probes and ports."""
    port = int(config["health"]["listen"].rsplit(":", 1)[1])
    if {"name": "cs-health", "containerPort": port} not in sidecar["ports"]:
        yield "the port cs-health is not the health listener's"
    for probe, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        if sidecar[probe]["httpGet"] != {"path": path, "port": "cs-health"}:
            yield f"{probe} does not ask {path}"
    if config.get("proxy", {}).get("listen", "127.0.0.1:8080") != "127.0.0.1:8080":
        yield "the app is told another address than the proxy's"


def has_memory(sidecar, config):
    wanted = 64 + (config["tokens"]["cache_capacity"] + config["proxy"]["limits"]["max_in_flight"] * 64) // 1024
    limits = sidecar["resources"]["limits"]
    limit = int(re.fullmatch(r"(\d+)Mi", limits["memory"]).group(1))
    if limit < wanted:
        yield f"the memory limit is {limit} MiB, and the configuration may ask for {wanted}"
    if "cpu" in limits:
        yield "the CPU is limited, so that a refresh may be held up"


def has_volumes(objects, config):
    spec = render.pod(objects)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    claims = {claim["metadata"]["name"] for claim in render.workload(objects)["spec"].get("volumeClaimTemplates", [])}
    for mount in render.sidecar(objects)["volumeMounts"]:
        path = mount["mountPath"]
        if mount["name"] not in volumes.keys() | claims or "subPath" in mount:
            yield f"{path} has no volume, or is a subPath, which is never renewed"
        if bool(mount.get("readOnly")) == (path == "/var/lib/consentry"):
            yield f"{path}: only the spill is written"
        secret = volumes.get(mount["name"], {}).get("secret")
        if secret and secret.get("defaultMode") != 0o440:
            yield f"{path}: everybody may read the secrets"
    if not config["store"]["spill"]["directory"].startswith("/var/lib/consentry/"):
        yield "the spill is not on its volume"
    if claims and "consentry-spill" in volumes:
        yield "the spill is on two volumes"
    if not isinstance(spec["securityContext"].get("fsGroup"), int):
        yield "without fsGroup the files of secrets cannot be read"
    if any("hostPath" in volume for volume in spec["volumes"]) or spec.get("hostNetwork"):
        yield "the pod reaches the node"


def is_restricted(spec, sidecar):
    """What the `restricted` Pod Security Standard asks for, of every container that is ours to say."""
    whole = "automountServiceAccountToken" in spec
    if whole and spec["automountServiceAccountToken"] is not False:
        yield "the pod is given a token of the cluster"
    ours = spec["containers"] + spec.get("initContainers", []) if whole else [sidecar]
    users = []
    for container in ours:
        own = {**spec["securityContext"], **container["securityContext"]}
        users.append(own.get("runAsUser"))
        wrong = [key for key, value in (("runAsNonRoot", True), ("allowPrivilegeEscalation", False),
                                        ("readOnlyRootFilesystem", True), ("capabilities", {"drop": ["ALL"]}),
                                        ("seccompProfile", {"type": "RuntimeDefault"})) if own.get(key) != value]
        if wrong or not own.get("runAsUser") or not own.get("runAsGroup"):
            yield f"{container['name']} is not restricted: {wrong}"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{container['name']} takes a port of the node"
    if len(set(users)) != len(users):
        yield "consentry runs as the same user as the app"


def is_closed(policy, health):
    """Who may reach the pod, and whom it may reach; rules of the user's own have no protocol here."""
    name, rules = policy["metadata"]["name"], policy["spec"]["egress"]
    ours = [rule for rule in rules if any("protocol" in port for port in rule["ports"])]
    ports = {(port["port"], port["protocol"]) for rule in ours for port in rule["ports"]}
    if ports != {(53, "UDP"), (53, "TCP"), (6379, "TCP"), (443, "TCP")}:
        yield f"{name}: egress is open to {ports}"
    if any("to" not in rule for rule in ours):
        yield f"{name}: egress leads everywhere"
    if not any({"port": health, "protocol": "TCP"} in rule["ports"] for rule in policy["spec"]["ingress"]):
        yield f"{name}: Prometheus cannot come in"


def comparable(objects, kind):
    """The spec of the one object of a kind, without what names differ in on purpose."""
    spec = copy.deepcopy(render.of_kind(objects, kind)[0]["spec"])
    if kind in render.WORKLOADS:
        spec.pop("serviceName", None)
        template = spec["template"]
        template["metadata"].pop("annotations", None)
        if template["metadata"]["labels"].get("consentry") != "sidecar":
            raise AssertionError("the pod has not the label consentry: sidecar")
        for volume in template["spec"]["volumes"]:
            volume.get("configMap", {}).pop("name", None)
        render.sidecar([{"kind": kind, "spec": spec}]).pop("imagePullPolicy", None)
        for list_of in ("containers", "initContainers", "volumes"):
            template["spec"].setdefault(list_of, []).sort(key=lambda one: one["name"])
    text = json.dumps(spec, sort_keys=True)
    labels = r'"app\.kubernetes\.io/instance": "[^"]*", "app\.kubernetes\.io/name": "[^"]*"|"app\.kubernetes\.io/name": "example"'
    return json.loads(re.sub(labels, '"name": "it"', text))


def chart_and_kustomize_agree():
    kustomize, chart = render.kustomizations(), render.charts()
    pairs = [("base", "default", ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"]),
             ("plain", "plain", []), ("statefulset", "volume", ["Service"])]
    for one, other, kinds in pairs:
        for kind in kinds:
            if comparable(kustomize[one], kind) != comparable(chart[other], kind):
                yield difference(one, other, kind, comparable(kustomize[one], kind), comparable(chart[other], kind))
        ours, theirs = (comparable(objects, render.workload(objects)["kind"])["template"]["spec"]
                        for objects in (kustomize[one], chart[other]))
        if one == "base":
            continue
        # The examples around the app differ; the sidecar and its volumes do not.
        for what in ("volumes", "terminationGracePeriodSeconds", "securityContext"):
            if ours[what] != theirs[what]:
                yield difference(one, other, what, ours[what], theirs[what])
        sidecars = [next(c for c in spec["containers"] + spec["initContainers"] if c["name"] == "consentry") for spec in (ours, theirs)]
        if sidecars[0] != sidecars[1]:
            yield difference(one, other, "consentry", *sidecars)
    texts = {render.configuration(objects) for objects in (kustomize["base"], chart["default"], chart["dependant"])}
    if len(texts) != 1:
        yield "deploy/kubernetes/config/consentry.yaml and config in the chart's values.yaml differ"
    claims = [render.workload(objects)["spec"]["volumeClaimTemplates"] for objects in (kustomize["statefulset"], chart["volume"])]
    if claims[0] != claims[1]:
        yield difference("statefulset", "volume", "volumeClaimTemplates", *claims)


def difference(one, other, what, ours, theirs):
    ours, theirs = (json.dumps(value, sort_keys=True, indent=1).splitlines() for value in (ours, theirs))
    lines = [f"-{line.strip()}" for line in ours if line not in theirs] + [f"+{line.strip()}" for line in theirs if line not in ours]
    return f"{what}: kustomize {one} and chart {other} differ: {' '.join(lines)[:800]}"
