"""What the Helm chart makes of its values: scaling, disruptions, the network; and which values it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from support.helm_chart import CHART, PLAIN, URLS, helm_library, only, render, rendered

_WORK = """
insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue, priority,
                               attempt, status, epoch, nonce, worker, created_at, available_at)
select gen_random_uuid(), 1, 0, graph, '', 'n', 'd', 'c', '0', queue, 0, 1, status, 1, 7, gen_random_uuid(), now(), now()
from (values ('Ann''s shop', 'default', 'ready'), ('Ann''s shop', 'slow', 'ready'), ('Ann''s shop', 'it.slow-1', 'running'),
             ('Ann''s shop', 'slow', 'scheduled'), ('bank', 'slow', 'ready'), ('bank', 'slow', 'running'),
             ('bank', 'slow', 'running'), ('bank', 'it.slow-1', 'ready')) w (graph, queue, status)
"""


def refusal(values: dict[str, Any]) -> str:
    """What Helm says of values that it does not take."""
    helm = helm_library()
    with pytest.raises(helm.HelmError) as refused:
        render(values)
    return str(refused.value)


def test_replicas_are_the_autoscalers_where_there_is_one() -> None:
    """Else each upgrade would set them back."""
    bank, shop = (only(rendered("everything"), "Deployment", f"demo-cnstra-{name}") for name in ("bank", "shop"))
    scaled = only(rendered("everything"), "ScaledObject")

    assert "replicas" not in bank["spec"]
    assert shop["spec"]["replicas"] == 2
    assert scaled["spec"]["scaleTargetRef"]["name"] == bank["metadata"]["name"]
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (2, 20)
    assert scaled["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-replicas": "0"}
    assert [one for one in rendered("plain") if one["kind"] == "ScaledObject"] == []


def test_the_autoscaler_says_nothing_that_keda_does_not_know() -> None:
    """Its schema is in no package, so the fields that its documentation has are named here."""
    scaled = only(rendered("everything"), "ScaledObject")
    [trigger] = scaled["spec"]["triggers"]

    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert set(scaled["spec"]) == {
        *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "advanced", "triggers")
    }
    assert scaled["spec"]["advanced"] == {
        "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}
    }
    assert set(scaled["spec"]["scaleTargetRef"]) == {"name", "envSourceContainerName"}
    assert set(trigger) == {"type", "metricType", "useCachedMetrics", "metadata"}
    assert (trigger["type"], trigger["metricType"]) == ("postgresql", "AverageValue")
    assert (
        trigger["useCachedMetrics"] is True
    )  # else Postgres is asked whenever somebody looks, whatever pollingInterval says
    assert set(trigger["metadata"]) == {"connectionFromEnv", "query", "targetQueryValue"}
    assert trigger["metadata"]["targetQueryValue"] == "8"  # all of these are strings to KEDA


def test_an_autoscaler_may_have_a_login_of_its_own() -> None:
    """One that can read a view, and nothing else."""
    scaling = {"enabled": True, "authenticationRef": "reader"}
    workers = {"shop": {"app": "shop:cns", "autoscaling": scaling}}

    [trigger] = only(render({**PLAIN, "workers": workers}), "ScaledObject")["spec"]["triggers"]

    assert trigger["authenticationRef"] == {"name": "reader"}
    assert set(trigger["metadata"]) == {"query", "targetQueryValue"}


def test_the_autoscalers_query_counts_what_waits_and_what_runs(database_url: str) -> None:
    """One whole number, for a graph and its queues or for all; nothing to do is 0."""
    asked: list[dict[str, Any]] = [
        {"autoscaling": {"enabled": True}},
        {"autoscaling": {"enabled": True, "graph": "Ann's shop"}},
        {"autoscaling": {"enabled": True}, "queues": ["slow", "it.slow-1"]},
        {"autoscaling": {"enabled": True, "graph": "Ann's shop"}, "queues": ["slow", "it.slow-1"]},
    ]
    queries = [
        only(render({**PLAIN, "workers": {"all": {"app": "shop:cns", **one}}}), "ScaledObject")["spec"]["triggers"][0][
            "metadata"
        ]["query"]
        for one in asked
    ]

    with psycopg.connect(database_url) as connection:
        nothing = [connection.execute(query.encode()).fetchall() for query in queries]
        connection.execute(_WORK)
        some = [connection.execute(query.encode()).fetchall() for query in queries]
    assert nothing == [[(0,)], [(0,)], [(0,)], [(0,)]]
    assert some == [[(7,)], [(3,)], [(6,)], [(2,)]]


def test_disruptions_take_one_pod_of_an_entry_at_a_time() -> None:
    """Each budget is about the pods of its own deployment, and so is each deployment."""
    for name in ("bank", "shop"):
        deployment, budget = (
            only(rendered("everything"), kind, f"demo-cnstra-{name}") for kind in ("Deployment", "PodDisruptionBudget")
        )
        assert budget["spec"]["maxUnavailable"] == 1
        assert (
            budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        )  # Postgres is away: no machine could be drained
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/component"] == name


def test_pods_of_an_entry_are_spread() -> None:
    """Over nodes, unless something else is asked for; a constraint without a selector would be about no pod at all."""
    bank, shop = (
        only(rendered("everything"), "Deployment", f"demo-cnstra-{name}")["spec"] for name in ("bank", "shop")
    )
    own = {
        "maxSkew": 2,
        "topologyKey": "rack",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"a": "b"}},
    }
    given = render({**PLAIN, "workers": {"shop": {"app": "shop:cns", "topologySpreadConstraints": [own]}}})

    for spec, key in ((bank, "topology.kubernetes.io/zone"), (shop, "kubernetes.io/hostname")):
        [constraint] = spec["template"]["spec"]["topologySpreadConstraints"]
        assert (constraint["topologyKey"], constraint["whenUnsatisfiable"]) == (key, "ScheduleAnyway")
        assert constraint["labelSelector"] == spec["selector"]
    assert only(given, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"] == [own]


def test_an_entry_may_take_back_what_the_defaults_say() -> None:
    """Zero, false and nothing are values: none is left where others scale, none while a dump is restored."""
    entry = {
        "app": "shop:cns",
        "replicas": 0,
        "drain": 0,
        "topologySpreadConstraints": [],
        "autoscaling": {"enabled": False},
    }
    manifests = render({**PLAIN, "defaults": {"autoscaling": {"enabled": True}}, "workers": {"shop": entry}})
    shop = only(manifests, "Deployment")["spec"]

    assert shop["replicas"] == 0
    assert shop["template"]["spec"]["terminationGracePeriodSeconds"] == 5
    assert "topologySpreadConstraints" not in shop["template"]["spec"]
    assert [one for one in manifests if one["kind"] == "ScaledObject"] == []


def test_the_network_is_shut_but_for_probes_and_servers() -> None:
    """For all pods of the release, the migration's among them; off, unless it is asked for."""
    policy = only(rendered("everything"), "NetworkPolicy", "demo-cnstra")["spec"]
    hook = only(rendered("everything"), "NetworkPolicy", "demo-cnstra-migrate")["spec"]

    assert [one for one in rendered("plain") if one["kind"] == "NetworkPolicy"] == []
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {"ports": [{"protocol": "TCP", "port": 8080}], "from": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}
    ]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["egress"]] == [[53, 53], [5433], [6379], [443]]
    assert policy["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.0/24"}}]
    assert (hook["policyTypes"], hook.get("ingress")) == (["Ingress", "Egress"], None)
    assert hook["egress"] == [rule for rule in policy["egress"] if rule["ports"][0]["port"] != 6379]
    for one in rendered("everything"):
        if one["kind"] in ("Deployment", "Job"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert policy["podSelector"]["matchLabels"].items() <= labels.items()
            assert (hook["podSelector"]["matchLabels"].items() <= labels.items()) is (one["kind"] == "Job")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no worker": ({"workers": {}}, "workers"),
    "no app": ({"workers": {"shop": {}}}, "app"),
    "an app that is none": ({"workers": {"shop": {"app": "shop"}}}, "app"),
    "a typing error": ({"workers": {"shop": {"app": "shop:cns", "proceses": 2}}}, "proceses"),
    "a name that Kubernetes would not take": ({"workers": {"Shop_1": {"app": "shop:cns"}}}, "Shop_1"),
    "a queue that would be SQL": ({"workers": {"shop": {"app": "shop:cns", "queues": ["x') or ('1"]}}}, "queues"),
    "no connection": ({"connections": {}}, "give existingSecret, or databaseUrl and brokerUrl"),
    "half a connection": ({"connections": {"databaseUrl": URLS["databaseUrl"]}}, "databaseUrl and brokerUrl"),
    "both kinds of connection": ({"connections": {"existingSecret": "mine", **URLS}}, "and not both"),
    "no image": ({"image": {"tag": "17"}}, "repository"),
    "an image of no version": ({"image": {"repository": "registry.example/shop"}}, "give tag, or digest"),
    "a digest that is none": ({"image": {"repository": "registry.example/shop", "digest": "latest"}}, "digest"),
    "a name that Kubernetes would refuse half way": ({"fullnameOverride": "Shop_1"}, "fullnameOverride"),
    "an entry whose pods would be the migration's": (
        {"workers": {"migrate": {"app": "shop:cns"}}},
        "workers.migrate: the pods of the migration have that name",
    ),
    "a drain that the pod would not know of": (
        {"workers": {"shop": {"app": "shop:cns", "extraArgs": ["--drain=100"]}}},
        "workers.shop.extraArgs: --drain=100 has a value of its own",
    ),
    "probes that would ask elsewhere": (
        {"env": [{"name": "CNSTRA_HEALTH", "value": "1234"}]},
        "env: CNSTRA_HEALTH is said by connections and health",
    ),
    "a budget that is none": ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "maxUnavailable"),
    "an owner's key in no Secret": (
        {"connections": {**URLS, "ownerUrlKey": "owner"}},
        "ownerUrlKey is one of existingSecret",
    ),
    "an owner's URL beside a Secret": (
        {"connections": {"existingSecret": "mine", "ownerUrl": URLS["databaseUrl"]}},
        "ownerUrl goes with databaseUrl",
    ),
    "a pooler that KEDA does not know": (
        {
            "connections": {**URLS, "databaseUrl": f"{URLS['databaseUrl']}?pooler=transaction"},
            "workers": {"shop": {"app": "shop:cns", "autoscaling": {"enabled": True}}},
        },
        "KEDA cannot use a databaseUrl with pooler=",
    ),
    "a wait that Kubernetes would refuse": (
        {"workers": {"shop": {"app": "shop:cns", "autoscaling": {"enabled": True, "scaleDownAfter": 7200}}}},
        "scaleDownAfter",
    ),
    "no replicas for timers": (
        {"workers": {"shop": {"app": "shop:cns", "autoscaling": {"enabled": True, "minReplicas": 0}}}},
        "minReplicas",
    ),
    "more at least than at most": (
        {"workers": {"shop": {"app": "shop:cns", "autoscaling": {"enabled": True, "minReplicas": 11}}}},
        "workers.shop.autoscaling: minReplicas is more than maxReplicas",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_cannot_be_meant_are_refused_and_named(what: str) -> None:
    """Before anything is in a cluster; and no password is in what is said."""
    values, named = REFUSED[what]

    said = refusal({**PLAIN, **values})

    assert named in said
    assert "s3cret" not in said


def test_the_notes_name_commands_that_there_are() -> None:
    """What a person reads after an installation."""
    with helm_library().Chart.load(CHART) as chart:
        notes = chart.render(PLAIN, name="demo", namespace="prod")["cnstra/templates/NOTES.txt"]

    assert "demo-cnstra-shop: shop:cns" in notes
    for command in re.findall(r"-- cnstra (.+)$", notes, re.MULTILINE):
        done = subprocess.run([sys.executable, "-m", "cnstra", *command.split(), "--help"], capture_output=True)
        assert done.returncode == 0
