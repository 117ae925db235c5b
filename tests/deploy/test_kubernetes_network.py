"""Who reaches what, by network policies and the ingress."""

import pytest

from service.gateway.app import ROUTERS
from tests.deploy.manifests import NAME, Object, all_pods, build, named, of_kind, settings_of
from tests.deploy.network import End, allowed

INSIDE = {"/livez", "/readyz", "/metrics"}
"""Routes that are not for users."""


def test_the_network_lets_through_what_is_needed_and_no_more(objects: tuple[Object, ...]) -> None:
    pods = {name: End(one.labels, ports=one.ports) for name, one in all_pods(objects).items()}
    gateway, worker = pods["creps-gateway"], pods["creps-worker"]
    monitored = bool(of_kind(objects, "PodMonitor"))
    collector = End({"app": "otel-collector"}, {"kubernetes.io/metadata.name": "monitoring"})
    traced = "OTEL_EXPORTER_OTLP_ENDPOINT" in settings_of(objects)
    bucket = settings_of(objects)["CREPS_OUTPUTS"].startswith("s3:")
    proxy = End({}, {"kubernetes.io/metadata.name": "ingress-nginx"})
    prometheus = End({NAME: "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"})
    stranger, neighbour = End({}, {"kubernetes.io/metadata.name": "elsewhere"}), End({"app": "debug"})
    dns, outside = End({}, {"kubernetes.io/metadata.name": "kube-system"}), End(address="198.51.100.7")

    assert allowed(objects, proxy, gateway, 8000)
    assert not allowed(objects, proxy, worker, 9000)
    assert allowed(objects, prometheus, gateway, 8000) == monitored
    assert allowed(objects, prometheus, worker, 9000) == monitored
    for end in (stranger, neighbour, outside):
        assert not allowed(objects, end, gateway, 8000)
        assert not allowed(objects, end, worker, 9000)
    assert not allowed(objects, gateway, worker, 9000)
    for client in (gateway, worker):
        assert allowed(objects, client, dns, 53, "UDP")
        assert allowed(objects, client, outside, 443) == bucket
        assert not allowed(objects, client, outside, 80)
        assert allowed(objects, client, End(address="169.254.170.23"), 80) == bucket
        assert allowed(objects, client, collector, 4318) == traced
        assert not allowed(objects, client, stranger, 4318)
        assert not allowed(objects, client, stranger, 8080)
    cache = pods["creps-cache"]
    assert allowed(objects, gateway, cache, 6379)
    for end in (worker, proxy, prometheus, stranger, neighbour, outside):
        assert not allowed(objects, end, cache, 6379)
    assert not allowed(objects, cache, outside, 443)
    if redis := pods.get("creps-redis"):
        for client in (gateway, worker):
            assert allowed(objects, client, redis, 6379)
            assert not allowed(objects, client, outside, 6379)
        for end in (cache, proxy, prometheus, stranger, neighbour, outside):
            assert not allowed(objects, end, redis, 6379)
        assert not allowed(objects, redis, outside, 443)
    else:
        assert all(allowed(objects, client, outside, 6379) for client in (gateway, worker))


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_an_overlay_as_it_is_opens_nothing_to_the_outside(variant: str) -> None:
    objects = build(variant)
    assert not of_kind(objects, "Ingress")
    assert all(service["spec"].get("type", "ClusterIP") == "ClusterIP" for service in of_kind(objects, "Service"))


def test_the_ingress_shows_users_every_route_and_no_other() -> None:
    objects = build("gpu + all")
    (ingress,) = of_kind(objects, "Ingress")
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    for path in paths:
        service = path["backend"]["service"]
        ports = named(objects, "Service", service["name"])["spec"]["ports"]
        assert service["port"]["name"] in [port["name"] for port in ports]
    routes = {str(getattr(route, "path", "")) for router in ROUTERS for route in router.routes}
    routes |= INSIDE | {"/openapi.json", "/docs", "/docs/{path:path}"}
    for route in routes:
        shown = any(
            route == path["path"] or (path["pathType"] == "Prefix" and route.startswith(path["path"] + "/"))
            for path in paths
        )
        assert shown == (route not in INSIDE), route
