"""Addresses and subnets."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jocker_engine.networks import ipam
from jocker_protocol.errors import Conflict, InvalidParams
from jocker_protocol.types import Subnet


def pool(subnet: str, *taken: str, **more: str) -> ipam.Pool:
    return ipam.Pool(ipam.complete(Subnet(subnet=subnet, **more)), taken)


def test_the_lowest_free_address_is_taken_and_one_given_back_is_taken_again() -> None:
    addresses = pool("10.1.2.0/29", "10.1.2.3")
    assert [addresses.take() for _ in range(3)] == ["10.1.2.2", "10.1.2.4", "10.1.2.5"]
    addresses.free("10.1.2.4")
    assert addresses.take() == "10.1.2.4"
    assert addresses.take() == "10.1.2.6"
    with pytest.raises(Conflict, match="all addresses of"):
        addresses.take()
    addresses.free("10.1.2.2")
    assert addresses.take() == "10.1.2.2"


@pytest.mark.parametrize(
    ("subnet", "gateway", "first", "room"),
    [
        ("10.1.2.0/24", "10.1.2.1", "10.1.2.2", 253),
        ("10.1.2.0/30", "10.1.2.1", "10.1.2.2", 1),
        ("10.1.2.0/31", "10.1.2.0", "10.1.2.1", 1),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.2", None),
        ("172.16.0.0/12", "172.16.0.1", "172.16.0.2", None),
        ("fd00:1::/64", "fd00:1::1", "fd00:1::2", None),
        ("fd00:1::/126", "fd00:1::1", "fd00:1::2", 2),
        ("fd00:1::/127", "fd00:1::", "fd00:1::1", 1),
    ],
)
def test_any_prefix_length(subnet: str, gateway: str, first: str, room: int | None) -> None:
    complete = ipam.complete(Subnet(subnet=subnet))
    assert complete.gateway == gateway
    addresses = ipam.Pool(complete)
    assert addresses.take() == first
    if room is not None:
        for _ in range(room - 1):
            addresses.take()
        with pytest.raises(Conflict):
            addresses.take()


def test_gateway_and_range_are_respected() -> None:
    addresses = pool("10.1.2.0/24", gateway="10.1.2.129", ip_range="10.1.2.128/30")
    assert [addresses.take() for _ in range(3)] == ["10.1.2.128", "10.1.2.130", "10.1.2.131"]
    with pytest.raises(Conflict):
        addresses.take()
    assert addresses.claim("10.1.2.5") == "10.1.2.5"  # asked for, it may lie outside the range
    with pytest.raises(Conflict, match=r"10\.1\.2\.5 is in use"):
        addresses.claim("10.1.2.5")
    with pytest.raises(Conflict):
        addresses.claim("10.1.2.129")
    assert pool("10.1.2.0/29").take(avoid=["10.1.2.2", "10.1.2.3"]) == "10.1.2.4"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"subnet": "10.1.2.3/24"}, "did you mean 10.1.2.0/24"),
        ({"subnet": "10.1.2.0"}, "has no prefix length"),
        ({"subnet": "10.1.2.0/33"}, "is no subnet"),
        ({"subnet": "nonsense/24"}, "is no subnet"),
        ({"subnet": "10.1.2.0/32"}, "has no room"),
        ({"subnet": "fd00::/128"}, "has no room"),
        ({"subnet": "127.0.0.0/8"}, "is reserved"),
        ({"subnet": "224.0.0.0/24"}, "is reserved"),
        ({"subnet": "fe80::/64"}, "is reserved"),
        ({"subnet": "10.1.2.0/24", "gateway": "10.1.3.1"}, "no address of a host in 10.1.2.0/24"),
        ({"subnet": "10.1.2.0/24", "gateway": "10.1.2.255"}, "no address of a host"),
        ({"subnet": "10.1.2.0/24", "gateway": "fd00::1"}, "no IPv4 address"),
        ({"subnet": "10.1.2.0/24", "gateway": "x"}, "no IP address"),
        ({"subnet": "10.1.2.0/24", "ip_range": "10.1.3.0/25"}, "not inside"),
        ({"subnet": "10.1.2.0/24", "ip_range": "fd00::/64"}, "not inside"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        ipam.complete(Subnet(**given))


def test_addresses_that_are_asked_for() -> None:
    addresses = pool("10.1.2.0/24")
    assert addresses.check("10.1.2.9", "ip") == "10.1.2.9"
    for wrong in ("10.1.2.0", "10.1.2.255", "10.1.3.1", "fd00::1", "x"):
        with pytest.raises(InvalidParams, match="ip: "):
            addresses.check(wrong, "ip")
    assert pool("fd00:0:0::/64").check("fd00::00:5", "ip6") == "fd00::5"


def test_overlaps_are_named() -> None:
    others = [("192.168.0.0/16", "eth0"), ("10.1.2.128/25", "network b"), ("fd00::/8", "tun0")]
    assert ipam.overlap("10.1.2.0/24", others) == ("10.1.2.128/25", "network b")
    assert ipam.overlap("192.168.7.0/24", others) == ("192.168.0.0/16", "eth0")
    assert ipam.overlap("10.1.3.0/24", others) is None
    assert ipam.overlap("fd12::/64", others) == ("fd00::/8", "tun0")
    assert ipam.overlap("10.1.3.0/24", [("0.0.0.0/0", "default route")]) is None


def test_subnets_that_are_chosen() -> None:
    assert ipam.choose([("10.13.37.0/24", "default")]) == "10.13.38.0/24"
    assert ipam.choose([("10.13.0.0/16", "eth0")]) == "172.16.0.0/24"
    with pytest.raises(Conflict, match="name one with --subnet"):
        ipam.choose([("10.0.0.0/8", "eth0"), ("172.16.0.0/12", "eth1")])
    assert ipam.choose6("a") != ipam.choose6("b")
    assert ipam.complete(Subnet(subnet=ipam.choose6("a"))).gateway.endswith("::1")


def test_a_thousand_allocations_are_fast() -> None:
    addresses = pool("10.0.0.0/8")
    began = time.process_time()
    taken = [addresses.take() for _ in range(10_000)]
    for address in taken[::2]:
        addresses.free(address)
    assert sorted(addresses.take() for _ in range(5_000)) == sorted(taken[::2])
    assert time.process_time() - began < 5


def test_hardware_addresses_are_local_unicast_and_follow_the_address() -> None:
    assert ipam.mac("10.13.37.2") == "02:42:0a:0d:25:02"
    assert ipam.mac("fd00::2").startswith("02:42:") and ipam.mac("fd00::2") != ipam.mac("fd00::3")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 13)), max_size=60))
def test_no_address_is_given_twice(steps: list[tuple[bool, int]]) -> None:
    addresses, held = pool("10.1.2.0/28"), set()
    for take, number in steps:
        if take and len(held) < 13:
            address = addresses.take()
            assert address not in held
            held.add(address)
        elif held:
            address = sorted(held)[number % len(held)]
            addresses.free(address)
            held.remove(address)
