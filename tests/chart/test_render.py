"""What the chart renders, by both Helms, with the default values and the extreme ones; and what must hold whatever the values are."""

from collections.abc import Iterator
from typing import Any

import pytest

from chart.extremes import ALL_OFF, ALL_ON, EXTREMES, SERVICE_MONITORS
from chart.helm import CHART, NAMESPACE, Helm, HelmError, find_object, one_of
from lab.kube_client import Json

every_extreme = pytest.mark.parametrize("values", [pytest.param(values, id=name) for name, values in EXTREMES.items()])


def pods(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Every pod of the chart: the name of what makes it, and its spec."""
    for one in objects:
        if one["kind"] in ("Deployment", "DaemonSet"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]


def containers(objects: list[Json]) -> dict[str, Json]:
    return {container["name"]: container for _, spec in pods(objects) for container in spec["containers"]}


def node_pod(objects: list[Json]) -> Json:
    spec: Json = one_of(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


@every_extreme
def test_lint_has_nothing_to_say(helm: Helm, values: Json) -> None:
    said = helm.run("lint", "--strict", str(CHART), values=values)
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@pytest.mark.needs("helm3", "helm4")
@every_extreme
def test_both_helms_render_the_same(tmp_path: Any, values: Json) -> None:
    first, second = (Helm(name, tmp_path).render(values) for name in ("helm3", "helm4"))
    assert first == second


@every_extreme
def test_every_object_is_labelled_and_named_once(helm: Helm, values: Json) -> None:
    objects = helm.render(values)
    ours = [one for one in objects if one["metadata"]["name"] != "extra"]
    for one in ours:
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "kubecarp"
        assert labels["app.kubernetes.io/instance"] == "kubecarp"
        assert labels.items() >= {name: text for name, text in values.get("commonLabels", {}).items() if name != "release"}.items()
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))


@every_extreme
def test_selectors_find_the_pods(helm: Helm, values: Json) -> None:
    objects = helm.render(values)
    workloads = [one for one in objects if one["kind"] in ("Deployment", "DaemonSet")]
    found = {one["kind"]: one["spec"]["template"]["metadata"]["labels"] for one in workloads}
    for one in workloads:
        assert one["spec"]["selector"]["matchLabels"].items() <= found[one["kind"]].items()
        assert set(one["spec"]["selector"]["matchLabels"]) == {f"app.kubernetes.io/{word}" for word in ("name", "instance", "component")}
    for one in objects:
        selector = one["spec"].get("podSelector", one["spec"].get("selector")) if one["kind"] in ("NetworkPolicy", "PodMonitor") else None
        if selector:
            assert any(selector["matchLabels"].items() <= labels.items() for labels in found.values())


# ---- what a container may do ------------------------------------------------------------------------------------


@every_extreme
def test_no_container_may_more_than_it_must(helm: Helm, values: Json) -> None:
    objects = helm.render(values)
    assert set(containers(objects)) == {"operator", "sidecar", "agent", "check"}
    for name, container in containers(objects).items():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"]["drop"] == ["ALL"], name
        assert not security.get("privileged"), name
        added = security["capabilities"].get("add", [])
        if name == "sidecar":
            assert (security["runAsUser"], added) == (0, ["NET_ADMIN", "NET_RAW"])
            assert security["seccompProfile"] in (
                {"type": "RuntimeDefault"},
                {"type": "Localhost", "localhostProfile": "kubecarp/sidecar.json"},
            )
        else:
            assert (security["runAsUser"], security["runAsGroup"], security["runAsNonRoot"], added) == (65532, 65532, True, []), name
    for name, spec in pods(objects):
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.get("hostPID"), name
        assert not spec.get("hostIPC"), name


@every_extreme
def test_the_agent_has_the_token_and_the_sidecar_has_none(helm: Helm, values: Json) -> None:
    spec = node_pod(helm.render(values))
    assert spec["automountServiceAccountToken"] is False
    holders = {
        container["name"]
        for container in spec["containers"]
        for mount in container["volumeMounts"]
        if mount["mountPath"].startswith("/var/run/secrets")
    }
    assert holders == {"agent"}
    token = next(volume["projected"]["sources"] for volume in spec["volumes"] if volume["name"] == "token")
    assert [next(iter(source)) for source in token] == ["serviceAccountToken", "configMap", "downwardAPI"]


@every_extreme
def test_sidecar_and_agent_share_a_folder_and_a_socket(helm: Helm, values: Json) -> None:
    objects = helm.render(values)
    spec, by_name = node_pod(objects), containers(objects)
    mounts = {name: {mount["name"]: mount["mountPath"] for mount in by_name[name]["volumeMounts"]} for name in ("sidecar", "agent")}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert mounts["sidecar"] == {"state": "/var/lib/kubecarp", "run": "/run/kubecarp"}
    assert mounts["agent"].items() >= {"agent": "/var/lib/kubecarp/agent", "run": "/run/kubecarp"}.items()
    assert volumes["agent"]["hostPath"]["path"] == volumes["state"]["hostPath"]["path"] + "/agent"
    assert spec["securityContext"]["supplementalGroups"] == [65532]
    config = "--config=/var/lib/kubecarp/agent/sidecar.json"
    assert config in by_name["sidecar"]["args"]
    assert config in by_name["agent"]["args"]


@every_extreme
def test_a_node_pod_can_hold_addresses(helm: Helm, values: Json) -> None:
    daemonset = one_of(helm.render(values), "DaemonSet")
    spec = daemonset["spec"]["template"]["spec"]
    assert spec["hostNetwork"] is True
    assert spec["shareProcessNamespace"] is True, "a killed sidecar would take its guardian along"
    assert spec["terminationGracePeriodSeconds"] >= 30
    sidecar, agent = spec["containers"]
    assert "cpu" not in (sidecar["resources"] or {}).get("limits", {})
    patience = sidecar["livenessProbe"]["periodSeconds"] * sidecar["livenessProbe"]["failureThreshold"]
    assert patience >= 60, "a busy sidecar is not a dead one"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == sidecar["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert agent["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_by_default_a_node_pod_runs_everywhere_and_leaves_one_at_a_time(helm: Helm) -> None:
    daemonset = one_of(helm.render(), "DaemonSet")
    spec = daemonset["spec"]["template"]["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert daemonset["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert spec["dnsPolicy"] == "ClusterFirstWithHostNet"


# ---- values that reach where they should ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image, expected",
    [
        ({}, "kubecarp:0.1.0"),
        ({"tag": "edge"}, "kubecarp:edge"),
        ({"repository": "r.example.com/x", "tag": "edge", "digest": f"sha256:{'0' * 64}"}, f"r.example.com/x@sha256:{'0' * 64}"),
    ],
    ids=["default", "tag", "digest"],
)
def test_image(helm: Helm, image: Json, expected: str) -> None:
    assert {container["image"] for container in containers(helm.render({"image": image})).values()} == {expected}


def test_metrics_leave_the_node_only_when_somebody_scrapes_them(helm: Helm) -> None:
    def listener(values: Json) -> tuple[str, str]:
        agent = containers(helm.render(values))["agent"]
        address = next(word for word in agent["args"] if word.startswith("--sidecar-metrics-address="))
        return address.partition("=")[2], agent["livenessProbe"]["httpGet"]["host"]

    assert listener({}) == ("127.0.0.1:9120", "127.0.0.1")
    assert listener(SERVICE_MONITORS) == ("0.0.0.0:9120", "127.0.0.1")
    assert listener(ALL_ON) == ("[::]:19120", "::1")


def test_the_api_server_is_reached_without_the_service_network(helm: Helm) -> None:
    objects = helm.render(ALL_ON)
    for name in ("operator", "agent", "check"):
        env = {one["name"]: one.get("value") for one in containers(objects)[name]["env"]}
        assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == ("api.example.com", "7443"), name
    assert "env" not in containers(objects)["sidecar"]
    assert {spec["dnsPolicy"] for _, spec in pods(objects)} == {"Default"}, "the cluster's DNS is behind the Service network"
    by_address = helm.render({"apiServer": {"host": "192.0.2.250"}})
    assert node_pod(by_address)["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert not any(name.startswith("KUBERNETES") for name in (one["name"] for one in containers(helm.render())["operator"]["env"]))


def test_everything_off_leaves_the_two_programs(helm: Helm) -> None:
    objects = [one for one in helm.render(ALL_OFF) if "helm.sh/hook" not in one["metadata"].get("annotations", {})]
    assert sorted(one["kind"] for one in objects) == ["DaemonSet", "Deployment"]


def test_nothing_of_prometheus_by_default(helm: Helm) -> None:
    assert not [one["kind"] for one in helm.render() if "monitoring.coreos.com" in one["apiVersion"] or one["kind"] == "Service"]


def test_alerts_are_switched_and_labelled_one_by_one(helm: Helm) -> None:
    every = one_of(helm.render(ALL_ON), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert len(every) == 8
    assert all(rule["labels"] == {"severity": "page", "team": "network"} for rule in every)
    some = one_of(helm.render(SERVICE_MONITORS), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert [(rule["alert"], rule["labels"]) for rule in some] == [("KubecarpNoMaster", {"severity": "critical"})]
    assert NAMESPACE in some[0]["expr"]


def test_monitors_scrape_every_metrics_port(helm: Helm) -> None:
    ports = {
        (name, port["name"])
        for name, one in containers(helm.render()).items()
        for port in one.get("ports", [])
        if "metrics" in port["name"]
    }
    assert ports == {("operator", "metrics"), ("sidecar", "metrics"), ("agent", "agent-metrics")}
    objects = helm.render(ALL_ON)
    scraped = {
        one["metadata"]["name"]: [end["port"] for end in one["spec"]["podMetricsEndpoints"]]
        for one in objects
        if one["kind"] == "PodMonitor"
    }
    assert scraped == {"virtual-addresses-operator": ["metrics"], "virtual-addresses-node": ["metrics", "agent-metrics"]}
    objects = helm.render(SERVICE_MONITORS)
    services = {
        one["metadata"]["name"]: {port["name"]: port["port"] for port in one["spec"]["ports"]}
        for one in objects
        if one["kind"] == "Service"
    }
    assert services == {"kubecarp-operator": {"metrics": 9122}, "kubecarp-node": {"metrics": 9120, "agent-metrics": 9121}}


def test_the_kept_crds_are_a_choice(helm: Helm) -> None:
    def policies(crds: Json) -> list[str | None]:
        objects = [one for one in helm.render({"crds": crds}) if one["kind"] == "CustomResourceDefinition"]
        return [one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for one in objects]

    assert policies({}) == ["keep", "keep"]
    assert policies({"keep": False}) == [None, None]
    assert policies({"install": False}) == []


@pytest.mark.parametrize("release, expected", [("kubecarp", "kubecarp"), ("vip", "vip-kubecarp"), ("a" * 53, "a" * 53)])
def test_names(helm: Helm, release: str, expected: str) -> None:
    objects = helm.render(release=release)
    assert one_of(objects, "DaemonSet")["metadata"]["name"] == f"{expected}-node"
    assert all(len(one["metadata"]["name"]) <= 63 for one in objects if "namespace" in one["metadata"])


def test_releases_in_two_namespaces_share_no_object_but_the_crds(helm: Helm) -> None:
    def identities(namespace: str) -> set[tuple[str, str, str]]:
        objects = helm.render(namespace=namespace)
        return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects}

    assert {kind for kind, _, _ in identities("one") & identities("two")} == {"CustomResourceDefinition"}


# ---- values that are refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, complaint",
    [
        ({"nodes": {}}, "'nodes' not allowed"),
        ({"node": {"tolerationz": []}}, "'tolerationz' not allowed"),
        ({"node": {"sidecar": {"resources": {"request": {}}}}}, "'request' not allowed"),
        ({"prometheus": {"prometheusRule": {"alerts": {"noMasters": {"enabled": False}}}}}, "'noMasters' not allowed"),
        ({"crds": {"enabled": False}}, "'enabled' not allowed"),
        ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
        ({"operator": {"vhidRange": "all"}}, "/operator/vhidRange"),
        ({"operator": {"vhidRange": "0-99"}}, "/operator/vhidRange"),
        ({"operator": {"vhidRange": "1-256"}}, "/operator/vhidRange"),
        ({"operator": {"vhidRange": "200-99"}}, "operator.vhidRange 200-99 begins above its end"),
        ({"networkPolicy": {"enabled": True, "apiServerPorts": []}}, "/networkPolicy/apiServerPorts"),
        ({"operator": {"replicas": "two"}}, "/operator/replicas"),
        ({"node": {"metricsHost": "localhost"}}, "/node/metricsHost"),
        ({"node": {"sidecar": {"seccompProfile": {"type": "Localhost"}}}}, "localhostProfile"),
        ({"node": {"sidecar": {"seccompProfile": {"type": "Unconfined"}}}}, "/node/sidecar/seccompProfile/type"),
        ({"commonLabels": {"app.kubernetes.io/component": "x"}}, "/commonLabels"),
        ({"apiServer": {"host": "https://api.example.com"}}, "/apiServer/host"),
        ({"operator": {"replicas": 2, "leaderElection": False}}, "the operators would work against each other"),
        ({"prometheus": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}}, "scrape everything twice"),
    ],
)
def test_a_wrong_value_is_refused(helm: Helm, values: Json, complaint: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(values)
    assert complaint in str(refused.value)


def test_an_old_kubernetes_is_refused(helm: Helm) -> None:
    helm.render({}, "--kube-version", "1.31.0-eks-1")
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.31\.0-0"):
        helm.render({}, "--kube-version", "1.30.9")


def test_a_parent_chart_may_set_globals(helm: Helm) -> None:
    assert find_object(helm.render({"global": {"anything": "x"}}), "DaemonSet")
