"""What of networks is shown as Docker shows it: NetworkSettings of a container, and a network itself."""

from __future__ import annotations

from typing import Any

from .render import Map, Spelled


def settings(detail: dict[str, Any]) -> dict[str, Any]:
    """A container's detail, with NetworkSettings."""
    ports: Map = Map((port, None) for port in detail["config"]["exposed_ports"])
    for each in detail["ports"]:
        key = f"{each['container_port']}/{each['protocol']}"
        ports[key] = [
            *(ports.get(key) or []),
            {"HostIp": each["host_ip"], "HostPort": str(each["host_port"])},
        ]
    networks = Map(
        (
            each["network"],
            {
                "NetworkID": each["network_id"],
                "IPAddress": each["ip"],
                "Gateway": each["gateway"],
                "GlobalIPv6Address": each["ip6"],
                "IPv6Gateway": each["gateway6"],
                "MacAddress": each["mac_address"],
                "Aliases": each["aliases"],
                "Interface": each["interface"],
            },
        )
        for each in detail["networks"]
    )
    first: dict[str, Any] = next(iter(networks.values()), {})
    top = ("IPAddress", "Gateway", "GlobalIPv6Address", "IPv6Gateway", "MacAddress")
    return {
        **{key: value for key, value in detail.items() if key not in ("networks", "ports")},
        "network_settings": Spelled(
            **{key: first.get(key, "") for key in top},
            Ports=ports,
            Networks=networks,
        ),
    }


def network(value: dict[str, Any]) -> dict[str, Any]:
    """A network."""
    lengths = {":" in each["subnet"]: each["subnet"].partition("/")[2] for each in value["subnets"]}

    def whole(address: str) -> str:
        return f"{address}/{lengths[':' in address]}" if address else ""

    return Spelled(
        Name=value["name"],
        Id=value["id"],
        Created=value["created_at"],
        Scope="local",
        Driver=value["driver"],
        EnableIPv6=True in lengths,
        IPAM={
            "Driver": "default",
            "Config": [
                {
                    "Subnet": each["subnet"],
                    "Gateway": each.get("gateway", ""),
                    **({"IPRange": each["ip_range"]} if each.get("ip_range") else {}),
                }
                for each in value["subnets"]
            ],
        },
        Internal=value["internal"],
        Interface=value["interface"],
        Nat=value["nat"],
        Mtu=value["mtu"],
        Default=value["default"],
        Containers=Map(
            (
                each["container"],
                {
                    "Name": each["name"],
                    "MacAddress": each["mac_address"],
                    "IPv4Address": whole(each["ip"]),
                    "IPv6Address": whole(each["ip6"]),
                    "Aliases": each["aliases"],
                },
            )
            for each in value["members"]
        ),
        Labels=Map(value["labels"]),
    )
