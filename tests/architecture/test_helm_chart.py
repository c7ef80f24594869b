"""The Helm chart fits the product: its manifests are valid, its commands exist, its pods may do no more than they need."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from support.helm_chart import (
    ABOUT,
    CHART,
    EXAMPLES,
    PLAIN,
    SCHEMA,
    URLS,
    VALUES,
    helm_library,
    only,
    pods,
    render,
    rendered,
)

SCHEMAS = "no kubernetes-validate here (pip install -e '.[charts]'): manifests go unvalidated"


# -- without Helm --------------------------------------------------------------------------------------------------


def test_the_chart_has_the_version_of_the_package() -> None:
    """Its labels say so."""
    project = tomllib.loads((CHART.parents[2] / "pyproject.toml").read_text())["project"]

    assert {ABOUT["version"], ABOUT["appVersion"]} == {project["version"]}


def test_the_schema_knows_every_value_and_no_other() -> None:
    """One that was added to the values alone would be refused, one that is in the schema alone would do nothing."""

    def compare(values: dict[str, Any], schema: dict[str, Any], where: str) -> None:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        assert schema["additionalProperties"] is False, where
        assert set(values) == set(schema["properties"]) - {"global", "app"}, where
        for name, value in values.items():
            if isinstance(value, dict) and "properties" in str(schema["properties"][name]):
                compare(value, schema["properties"][name], f"{where}.{name}")

    compare({**VALUES, "workers": {}}, {**SCHEMA, "properties": {**SCHEMA["properties"], "workers": {}}}, "values")
    compare(VALUES["defaults"], SCHEMA["definitions"]["worker"], "defaults")
    compare(VALUES["defaults"]["autoscaling"], SCHEMA["definitions"]["autoscaling"], "autoscaling")


# -- what Helm makes of it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES)
def test_helm_finds_nothing_to_complain_about(example: str) -> None:
    """Strictly: a warning would be one, too."""
    report = helm_library().lint(CHART, EXAMPLES[example], strict=True)

    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]
    assert report["errors"] == []


@pytest.mark.parametrize("version", [ABOUT["kubeVersion"].removeprefix(">=").partition("-")[0], "newest"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_kubernetes_knows_every_field(example: str, version: str) -> None:
    """From the oldest release that the chart names to the newest whose schemas there are; KEDA's is none of its kinds."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason=SCHEMAS)

    for manifest in rendered(example):
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes.validate(manifest, kubernetes.latest_version() if version == "newest" else version, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_seen() -> None:
    """Else the test above proves nothing."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason=SCHEMAS)
    deployment = {**only(rendered("plain"), "Deployment"), "sepc": {}}

    with pytest.raises(kubernetes.ValidationError, match="sepc"):
        kubernetes.validate(deployment, kubernetes.latest_version(), strict=True)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_name_is_there_once(example: str) -> None:
    """Two objects of one kind and name would overwrite each other; hooks count as all others."""
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered(example)]

    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_command_lines_are_understood(example: str) -> None:
    """As those of the other files in deploy/: a command or an option that there is not would be refused."""
    for name, pod in pods(rendered(example)).items():
        [container] = pod["containers"]
        line = [sys.executable, "-m", "cnstra", *container["args"], "--help"]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_pod_may_more_than_it_needs(example: str) -> None:
    """No root, nothing to write to but /tmp, no capability, and no token of the cluster."""
    for pod in pods(rendered(example)).values():
        [container] = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert (
            pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        )  # who may read keys that are mounted
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert only(rendered(example), "ServiceAccount")["automountServiceAccountToken"] is False


def test_pods_are_given_five_seconds_more_than_their_drain() -> None:
    """Else handlers are killed that would have ended."""
    found = pods(rendered("everything"))

    assert found["demo-cnstra-bank"]["terminationGracePeriodSeconds"] == 50 + 5
    assert found["demo-cnstra-shop"]["terminationGracePeriodSeconds"] == 25 + 5
    assert "--drain=50" in found["demo-cnstra-bank"]["containers"][0]["args"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_workers_are_probed_where_they_answer(example: str) -> None:
    """At the port that CNSTRA_HEALTH names: started and alive by /live, ready by /ready."""
    for one in rendered(example):
        if one["kind"] != "Deployment":
            continue
        [worker] = one["spec"]["template"]["spec"]["containers"]
        [health] = [variable["value"] for variable in worker["env"] if variable["name"] == "CNSTRA_HEALTH"]
        assert worker["ports"] == [{"name": "health", "containerPort": 8080, "protocol": "TCP"}]
        assert health == "0.0.0.0:8080"
        asked = {probe: worker[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {probe: get["path"] for probe, get in asked.items()} == {
            "startupProbe": "/live",
            "livenessProbe": "/live",
            "readinessProbe": "/ready",
        }
        assert {get["port"] for get in asked.values()} == {"health"}


def test_the_schema_is_migrated_before_anything_of_a_release_changes() -> None:
    """As a hook, with a Secret and a way through the network that are there before it and leave with it, since hooks precede all
    the rest: also in a namespace in which nothing may speak to anybody, and where an upgrade moves the database.
    """
    manifests = render({**PLAIN, "networkPolicy": {"enabled": True}})
    job = only(manifests, "Job")
    before = [only(manifests, kind, "demo-cnstra-migrate") for kind in ("Secret", "NetworkPolicy")]
    lasting = [only(manifests, kind, "demo-cnstra") for kind in ("Secret", "NetworkPolicy")]

    for hook in (job, *before):
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    for hook in before:
        assert int(hook["metadata"]["annotations"]["helm.sh/hook-weight"]) < int(
            job["metadata"]["annotations"]["helm.sh/hook-weight"]
        )
    assert all("annotations" not in one["metadata"] for one in lasting)
    assert secrets_of(job["spec"]["template"]["spec"]) == {("CNSTRA_DATABASE_URL", "demo-cnstra-migrate")}
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


def test_the_migration_alone_has_the_owners_url() -> None:
    """Where workers have fewer rights: from another key of the user's Secret, or in the hook's own Secret and no other."""
    given = pods(rendered("everything"))
    own = render({**PLAIN, "connections": {**URLS, "ownerUrl": "postgresql://owner:0wner@db/cnstra"}})

    [url] = [
        one for one in given["demo-cnstra-migrate"]["containers"][0]["env"] if one["name"] == "CNSTRA_DATABASE_URL"
    ]
    assert url["valueFrom"]["secretKeyRef"] == {"name": "shop-servers", "key": "owner"}
    assert "owner" not in json.dumps([given["demo-cnstra-bank"], given["demo-cnstra-shop"]])
    assert [one["metadata"]["name"] for one in own if "0wner" in json.dumps(one)] == ["demo-cnstra-migrate"]
    assert only(own, "Secret", "demo-cnstra-migrate")["stringData"] == {
        "CNSTRA_DATABASE_URL": "postgresql://owner:0wner@db/cnstra"
    }
    assert only(rendered("plain"), "Secret", "demo-cnstra-migrate")["stringData"] == {
        "CNSTRA_DATABASE_URL": URLS["databaseUrl"]
    }


def test_the_migration_finds_a_node_and_what_its_url_names() -> None:
    """As workers do, by values of its own; and it asks for something, which a namespace with a quota insists on."""
    job = only(rendered("everything"), "Job")["spec"]["template"]
    values = EXAMPLES["everything"]["migrate"]

    assert job["metadata"]["annotations"] == values["podAnnotations"]
    for name in ("nodeSelector", "tolerations", "affinity"):
        assert job["spec"][name] == values[name]
    assert values["volumes"][0] in job["spec"]["volumes"]
    assert values["volumeMounts"][0] in job["spec"]["containers"][0]["volumeMounts"]
    assert job["spec"]["containers"][0]["args"] == ["migrate", "--roles=shop"]
    assert set(only(rendered("plain"), "Job")["spec"]["template"]["spec"]["containers"][0]["resources"]) == {"requests"}


def test_an_image_has_a_tag_or_a_digest_of_the_users() -> None:
    """Never one of the chart's version: the image is not ours, and an upgrade of the chart would change it."""
    digest = f"sha256:{'0123456789abcdef' * 4}"
    images = [
        only(render({**PLAIN, "image": {"repository": "r.example:5000/shop", **one}}), "Deployment")
        for one in ({"tag": "17"}, {"digest": digest}, {"tag": "17", "digest": digest})
    ]

    assert [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in images] == [
        "r.example:5000/shop:17",
        f"r.example:5000/shop@{digest}",
        f"r.example:5000/shop:17@{digest}",
    ]


def secrets_of(pod: dict[str, Any]) -> set[tuple[str, str]]:
    """Which variables of a pod come from which Secret."""
    variables = [variable for variable in pod["containers"][0]["env"] if "valueFrom" in variable]
    return {(variable["name"], variable["valueFrom"]["secretKeyRef"]["name"]) for variable in variables}


def test_urls_are_in_one_secret_and_nowhere_else() -> None:
    """Of the chart, or of the user; pods begin anew when the chart's changes."""
    own, given = rendered("plain"), rendered("everything")
    other = render({**PLAIN, "connections": {**URLS, "brokerUrl": "redis://:0ther@broker/0"}})

    assert [one["kind"] for one in own if "s3cret" in json.dumps(one)] == ["Secret", "Secret"]
    assert [one for one in given if one["kind"] == "Secret"] == []
    both = {"CNSTRA_DATABASE_URL", "CNSTRA_BROKER_URL"}
    assert secrets_of(pods(own)["demo-cnstra-shop"]) == {(name, "demo-cnstra") for name in both}
    assert secrets_of(pods(given)["demo-cnstra-shop"]) == {(name, "shop-servers") for name in both}
    checksums = {
        only(one, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/connections"]
        for one in (own, other)
    }
    assert len(checksums) == 2
