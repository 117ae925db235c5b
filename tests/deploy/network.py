"""Which connections NetworkPolicies let through, as Kubernetes reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from tests.deploy.manifests import Object, of_kind, selects

OURS = {"kubernetes.io/metadata.name": "creps"}


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod with its labels and its namespace's, or an address outside the cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: Mapping[str, str] = field(default_factory=lambda: OURS)
    address: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)


def allowed(objects: Sequence[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether both ends' policies let ``source`` open a connection to that port of ``target``."""
    policies = of_kind(objects, "NetworkPolicy")
    return _passes(policies, "Egress", source, target, target, port, protocol) and _passes(
        policies, "Ingress", target, source, target, port, protocol
    )


def _passes(
    policies: Sequence[Object], direction: str, ours: End, other: End, target: End, port: int, protocol: str
) -> bool:
    if ours.address or ours.namespace != OURS:
        return True  # not ours to restrict
    specs = [policy["spec"] for policy in policies]
    isolating = [
        spec for spec in specs if direction in spec["policyTypes"] and selects(spec["podSelector"], ours.labels)
    ]
    rules = [rule for spec in isolating for rule in spec.get(direction.lower(), ())]
    peers = "to" if direction == "Egress" else "from"
    return not isolating or any(
        _is_peer(rule.get(peers), other) and _is_port(rule.get("ports"), target, port, protocol) for rule in rules
    )


def _is_peer(peers: Sequence[Object] | None, other: End) -> bool:
    return not peers or any(_matches(peer, other) for peer in peers)


def _matches(peer: Object, other: End) -> bool:
    if "ipBlock" in peer:
        return other.address is not None and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.address:
        return False
    in_namespace = (
        selects(peer["namespaceSelector"], other.namespace)
        if "namespaceSelector" in peer
        else (other.namespace == OURS)
    )
    return in_namespace and selects(peer.get("podSelector", {}), other.labels)


def _is_port(ports: Sequence[Object] | None, target: End, port: int, protocol: str) -> bool:
    return not ports or any(
        one["protocol"] == protocol and target.ports.get(str(one["port"]), one["port"]) == port for one in ports
    )
