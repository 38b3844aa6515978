"""Whether the alerts are sound and tested, lead to a heading that helps, and speak of what there is.

Which metrics there are, with which labels, stands in docs/metrics.md, which a test holds to the code; which words a label may
have stands in the code, or in docs/errors.md, which a test holds to it, too.
"""

import json
import pathlib
import re
import tempfile

import yaml

import render

FOLDER = render.DEPLOY / "monitoring"
# What Prometheus itself brings, and the labels that its service discovery adds.
FOREIGN_METRICS = {"up"}
FOREIGN_LABELS = {"namespace", "pod", "job", "le"}


def rule_groups():
    return yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())["spec"]


def alerts():
    return [rule for group in rule_groups()["groups"] for rule in group["rules"]]


def rules():
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        (home / "rules.yaml").write_text(yaml.safe_dump(rule_groups()))
        (home / "rules-test.yaml").write_text((FOLDER / "rules-test.yaml").read_text())
        render.run("promtool", "check", "rules", "--lint=all", "--lint-fatal", home / "rules.yaml")
        render.run("promtool", "test", "rules", home / "rules-test.yaml", cwd=home)
    tested = set(re.findall(r'alertname="(\w+)"', (FOLDER / "rules-test.yaml").read_text()))
    for rule in alerts():
        name = rule["alert"]
        if name not in tested:
            yield f"{name} fires in no test"
        if rule["labels"].get("severity") not in ("critical", "warning"):
            yield f"{name} has no severity"
        for key in ("summary", "description", "runbook_url"):
            if not rule["annotations"].get(key):
                yield f"{name} has no {key}"
        if rule["annotations"]["summary"].endswith("."):
            yield f"{name}: its summary is a sentence with a full stop"
        if rule["annotations"]["runbook_url"] != f"https://consentry.example/docs/operations.md#{name.lower()}":
            yield f"{name}: its runbook_url leads elsewhere"
    if len(alerts()) < 15:
        yield f"only {len(alerts())} alerts were found"


def runbook():
    text = (render.ROOT / "docs/operations.md").read_text()
    headings = re.findall(r"^### (Consentry\w+)$", text, re.M)
    names = [rule["alert"] for rule in alerts()]
    for name in names:
        if headings.count(name) != 1:
            yield f"docs/operations.md has {headings.count(name)} headings {name}"
            continue
        told = text.split(f"### {name}\n")[1].split("\n#")[0].strip()
        if len(told) < 120:
            yield f"docs/operations.md says too little under {name}"
    yield from (f"docs/operations.md has a heading {name}, and there is no such alert" for name in headings if name not in names)


def documented():
    """Metrics and their labels, with the series of histograms."""
    found = {}
    for line in (render.ROOT / "docs/metrics.md").read_text().splitlines():
        row = re.match(r"\| `(consentry_\w+)` \|([^|]*)\|", line)
        if not row:
            continue
        name, labels = row.group(1), set(re.findall(r"`(\w+)`", re.sub(r":.*?(?=, `|$)", "", row.group(2))))
        found[name] = labels
        if name.endswith("_seconds"):
            found |= {name + end: labels for end in ("_bucket", "_count", "_sum")}
    return found


def words(label, metric):
    """The words that a label of a metric may have; None where they are names of the configuration."""
    source = lambda path: (render.ROOT / path).read_text()
    if metric == "consentry_token_requests_total" and label == "outcome":
        return set(re.findall(r'\w+ = "(\w+)"', source("src/words/failure.rs"))) | {"granted", "invalid_grant", "not_sent"}
    if metric == "consentry_calls_total" and label == "outcome":
        return set(re.findall(r"^\| `([a-z-]+)` \|", source("docs/errors.md"), re.M)) | {f"{n}xx" for n in range(1, 6)}
    row = next(line for line in source("docs/metrics.md").splitlines() if line.startswith(f"| `{metric}` |"))
    listed = re.search(rf"`{label}`: ((?:`\w+`(?:, )?)+)", row.split("|")[2])
    if listed:
        return set(re.findall(r"`(\w+)`", listed.group(1)))
    if label == "cause":
        return set(re.findall(r"`(\w+)`", row.split("|")[3]))
    return {"bank", "consentry"} if label == "answered_by" else None


def names():
    metrics = documented()
    if len(metrics) < 20:
        yield f"only {len(metrics)} metrics were found in docs/metrics.md"
    board = json.loads((FOLDER / "dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    queries = {f"the alert {rule['alert']}": rule["expr"] for rule in alerts()}
    queries |= {f"the panel {panel['title']}, {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}
    queries |= {f"the variable {variable['name']}": variable["query"]["query"]
                for variable in board["templating"]["list"] if variable["type"] == "query"}
    seen = set()
    for where, query in queries.items():
        for metric, _, selector in re.findall(r"\b(consentry_\w+|up)\b(\{([^}]*)\})?", query):
            seen.add(metric)
            known = metrics.get(metric, set()) | FOREIGN_LABELS
            if metric not in metrics and metric not in FOREIGN_METRICS:
                yield f"{where} asks for {metric}, which docs/metrics.md does not know"
                continue
            for label, value in re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"', selector):
                if label not in known:
                    yield f"{where}: {metric} has no label {label}"
                allowed = words(label, metric) if metric in metrics and label not in FOREIGN_LABELS and "$" not in value else None
                for word in value.split("|") if allowed is not None else []:
                    if word not in allowed:
                        yield f"{where}: the label {label} of {metric} is never {word}"
        # Labels that are grouped by belong to the metrics of the query.
        every = set().union(*(metrics.get(metric, set()) for metric in re.findall(r"\bconsentry_\w+", query)), FOREIGN_LABELS)
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            yield from (f"{where} groups by {label}" for label in re.split(r",\s*", grouped) if label not in every)
    base = lambda metric: re.sub(r"_(bucket|count|sum)$", "", metric)
    shown = {base(metric) for query in queries.values() for metric in re.findall(r"\bconsentry_\w+", query)}
    yield from (f"{metric} is on no panel and in no alert" for metric in sorted({base(m) for m in metrics} - shown))
    yield from dashboard(board, panels)


def dashboard(board, panels):
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        yield "two panels have the same id"
    spots = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    if len(spots) != len(set(spots)) or any(p["gridPos"]["x"] + p["gridPos"]["w"] > 24 for p in board["panels"]):
        yield "two panels stand in the same place, or one stands beside the board"
    if any(target["datasource"]["uid"] != "${datasource}" for panel in panels for target in panel["targets"]):
        yield "a panel is bound to one Prometheus"
    # promtool reads the queries as it reads rules, with something in the place of Grafana's variables.
    filled = [target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h") for panel in panels for target in panel["targets"]]
    with tempfile.TemporaryDirectory() as home:
        path = pathlib.Path(home) / "rules.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": [
            {"record": f"query_{nth}", "expr": query} for nth, query in enumerate(filled)]}]}))
        render.run("promtool", "check", "rules", path)


def resources():
    from cloudcoil.models.prometheus_operator import v1  # takes seconds to load

    objects = render.kustomizations()["monitoring"] + render.of_kind(render.charts()["all"], "PodMonitor")
    seen = 0
    for one in objects:
        if one["apiVersion"] != "monitoring.coreos.com/v1":
            continue
        seen += 1
        model = getattr(v1, one["kind"]).model_validate(one)
        kept = json.loads(model.model_dump_json(by_alias=True, exclude_unset=True))
        for part in lost(one, kept):
            yield f"{one['kind']}/{one['metadata']['name']}: the operator knows no {part}"
    if seen != 3:
        yield f"{seen} resources of the operator were found"
    monitors = [one for one in objects if one["kind"] == "PodMonitor"]
    ports = {port["name"] for port in render.sidecar(render.kustomizations()["base"])["ports"]}
    if any(endpoint["port"] not in ports for one in monitors for endpoint in one["spec"]["podMetricsEndpoints"]):
        yield "a PodMonitor looks for a port that the sidecar has not"
    labels = render.workload(render.kustomizations()["base"])["spec"]["template"]["metadata"]["labels"]
    if not monitors[0]["spec"]["selector"]["matchLabels"].items() <= labels.items():
        yield "the PodMonitor does not find the sidecar's pods"


def lost(given, kept, path=""):
    """Places of `given` that are not in `kept`, because a model did not know them."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}".lstrip(".")
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for nth, (value, other) in enumerate(zip(given, kept)):
            yield from lost(value, other, f"{path}[{nth}]")
