"""Network drivers `vnet` and `loopback`: bridges and epairs, or addresses on a cloned loopback; both with pf.

A container's stack is its jail's, so that an attachment has two halves: the epair on the host, and what is done
inside when the jail is there (netjoin.py), which jail(8) runs before any process. Whatever is ours is found by the
interface group and by its description, "jocker TAG ..."; nothing else is ever touched.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import partial

import trio

from ..commands import Commands, PlatformError
from ..interfaces import Endpoint, HostNetworks, Misfit, Network, NetworkState, Publication
from . import ifconfig, jails, netjoin, netstat, pf
from .ifconfig import Interface

_PFCTL = 15.0
"""Seconds: a pfctl that hangs must not hold up the end of a container."""
_RETRIES = (0.0, 0.1, 0.5, 1.0)
"""Seconds before each attempt to destroy an interface."""
_FORWARDING = {"inet": "net.inet.ip.forwarding", "inet6": "net.inet6.ip6.forwarding"}

log = logging.getLogger("jocker.platform")


class FreeBsdNetworks:
    """See interfaces.NetworkDriver. From the host itself published ports are not reached through pf: forwarder.py."""

    def __init__(self, name: str, root: str, commands: Commands) -> None:
        """`name`: "vnet", or "loopback" for kernels without VIMAGE."""
        self.name = name
        self.kinds: tuple[str, ...] = ("bridge", "loopback") if name == "vnet" else ("loopback",)
        self._commands = commands
        self._tag = hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:6]
        self._shared: dict[str, list[Endpoint]] = {}
        """Container -> its endpoints on loopback networks, whose addresses carry no name."""
        self._joins: dict[str, dict[str, Endpoint]] = {}
        """Container -> network -> what was attached since its jail was last made ready."""

    # --- networks ---

    def interface(self, network: str) -> str:
        return ifconfig.short("jkb", self._tag, network)

    async def create(self, network: Network) -> None:
        if network.mtu:
            raise PlatformError(f"mtu: the network driver {self.name} cannot set it; leave it out")
        interface = (await self._interfaces()).get(network.interface)
        wanted = self._description("network", network.id[:12])
        if interface is None:
            bridge = network.kind == "bridge"
            make = ifconfig.create_bridge if bridge else ifconfig.create_loopback
            await self._create(make(network.interface, wanted))
        elif interface.description != wanted or ifconfig.GROUP not in interface.groups:
            raise PlatformError(
                f"interface {network.interface} is there already and is not this network's; choose another name"
            )
        for each in network.subnets:
            address = (
                f"{each.gateway}/{_prefix(each.subnet) if network.kind == 'bridge' else _host(each.gateway)}"
            )
            if each.gateway and not (interface and ifconfig.has(interface, address)):
                await self._commands.run(ifconfig.add_address(network.interface, address))
        await self._commands.run(["ifconfig", network.interface, "up"])
        if not network.internal:
            await self._forward(network)
        if why := (await self._pf())[0]:
            log.warning("network %s: %s: its containers reach nothing outside", network.interface, why)
        else:
            await self._load(network, ())

    async def _create(self, argv: list[str]) -> None:
        """What a creation that failed has made all the same is destroyed: it has printed its name."""
        done = await self._commands.run(argv, check=False)
        if done.exit_code != 0:
            for name in done.stdout.split():
                await self._commands.run(ifconfig.destroy(name), check=False)
            raise PlatformError(
                f"cannot make an interface: {' '.join(done.stderr.split())}",
                argv=argv,
                exit_code=done.exit_code,
                stderr=done.stderr,
            )

    async def _forward(self, network: Network) -> None:
        for name in {_FORWARDING[ifconfig.family(each.subnet)] for each in network.subnets}:
            if await self._sysctl(name) == "0":
                await self._commands.run(["sysctl", f"{name}=1"])

    async def _sysctl(self, name: str) -> str:
        return (await self._commands.run(["sysctl", "-n", name], check=False)).stdout.strip()

    async def destroy(self, network: Network) -> None:
        await self._flush(pf.anchor(self._tag, network.id))
        interface = (await self._interfaces()).get(network.interface)
        if interface is not None and self._ours(interface):
            await self._destroy(network.interface)

    # --- containers ---

    async def attach(self, endpoint: Endpoint) -> str:
        attached = self._joins.setdefault(endpoint.container, {})
        kinds = {each.network.kind for each in attached.values()} | {endpoint.network.kind}
        if len(kinds) > 1:
            raise PlatformError("a container cannot be on a loopback network and on others at once")
        if endpoint.network.kind == "bridge":
            await self._plug(endpoint)
        else:
            for address in endpoint.addresses:
                host = _alone(address)
                await self._commands.run(ifconfig.add_address(endpoint.network.interface, host))
            self._shared.setdefault(endpoint.container, []).append(endpoint)
        attached[endpoint.network.id] = endpoint
        return self._join(endpoint.container).to_text()

    async def _plug(self, endpoint: Endpoint) -> None:
        """An epair: one end on the bridge, the other named, on the host, for the jail to take."""
        outer, inner = self._names(endpoint)
        if outer in (there := await self._interfaces()) and self._ours(there[outer]):
            await self._destroy(outer)  # of a start that was cut off
        a = (await self._commands.run(ifconfig.CREATE_EPAIR)).stdout.strip()
        b, made = ifconfig.other_end(a), a
        try:
            await self._commands.run(
                ifconfig.set_mac(a, ifconfig.mac(self._tag, endpoint.container, endpoint.network.id))
            )
            await self._commands.run(ifconfig.set_mac(b, endpoint.mac))
            description = self._description(endpoint.container[:12], endpoint.network.id[:12])
            await self._commands.run(ifconfig.name_host_end(a, outer, description))
            made = outer
            await self._commands.run(ifconfig.rename(b, inner))
            for name in (outer, inner):
                await self._commands.run(ifconfig.no_offload(name), check=False)  # older epairs have none
            await self._commands.run(ifconfig.add_member(endpoint.network.interface, outer))
        except BaseException:
            with trio.CancelScope(shield=True):
                for name in {made, a}:
                    await self._commands.run(ifconfig.destroy(name), check=False)
            raise

    def _join(self, container: str) -> netjoin.Join:
        endpoints = list(self._joins.get(container, {}).values())
        bridged = [each for each in endpoints if each.network.kind == "bridge"]
        if bridged:
            return netjoin.Join(
                vnet=True, commands=[line for each in bridged for line in self._inside(each, netjoin.JAIL)]
            )
        bare = [address.partition("/")[0] for each in endpoints for address in each.addresses]
        return netjoin.Join(
            vnet=False,
            ip4=[address for address in bare if ":" not in address],
            ip6=[address for address in bare if ":" in address],
        )

    def _inside(self, endpoint: Endpoint, jail: str) -> list[list[str]]:
        _, inner = self._names(endpoint)
        return ifconfig.inside(jail, inner, endpoint.addresses, endpoint.gateways)

    async def ready(self, container: str) -> None:
        """At a start jail(8) has done all of it; a container that runs gets here what was attached meanwhile."""
        endpoints = self._joins.pop(container, {})
        if not endpoints:
            return
        jail = await self._jail(container)
        if jail is None:
            return
        there = await self._interfaces()
        for endpoint in endpoints.values():
            if endpoint.network.kind == "bridge":
                if self._names(endpoint)[1] in there:  # still on the host
                    for command in self._inside(endpoint, jail):
                        await self._commands.run(command)
            else:
                await self._change_addresses(jail, add=endpoint.addresses)

    async def _change_addresses(
        self, jail: str, *, add: Sequence[str] = (), drop: Sequence[str] = ()
    ) -> None:
        """Of a running jail that shares the host's stack."""
        for parameter, six in (("ip4.addr", False), ("ip6.addr", True)):
            added, dropped = (
                {each.partition("/")[0] for each in some if (":" in each) is six} for some in (add, drop)
            )
            if not added and not dropped:
                continue
            done = await self._commands.run(["jls", "-j", jail, parameter], check=False)
            now = [each for each in done.stdout.strip().split(",") if each not in ("", "-")]
            wanted = [each for each in now if each not in dropped] + sorted(added - set(now))
            if wanted != now:
                value = f"{parameter}={','.join(wanted)}"
                await self._commands.run(["jail", "-m", f"name={jail}", value])

    async def detach(self, endpoint: Endpoint) -> None:
        self._joins.get(endpoint.container, {}).pop(endpoint.network.id, None)
        if endpoint.network.kind == "bridge":
            outer, _ = self._names(endpoint)
            interface = (await self._interfaces()).get(outer)
            if interface is not None and self._ours(interface):
                await self._destroy(outer)  # the other end goes too, even from a jail that is dying
            return
        if (jail := await self._jail(endpoint.container)) is not None:
            await self._change_addresses(jail, drop=endpoint.addresses)
        interface = (await self._interfaces()).get(endpoint.network.interface)
        for address in endpoint.addresses:
            if interface is not None and ifconfig.has(interface, _alone(address)):
                await self._commands.run(ifconfig.remove_address(interface.name, address))

    async def route(self, endpoint: Endpoint) -> None:
        if endpoint.network.kind == "bridge" and (jail := await self._jail(endpoint.container)) is not None:
            for gateway in endpoint.gateways:  # the old one went with its interface, as a rule
                await self._commands.run(ifconfig.default_route(jail, "delete", gateway), check=False)
                await self._commands.run(ifconfig.default_route(jail, "add", gateway))

    async def release(self, container: str) -> None:
        self._joins.pop(container, None)
        for endpoint in self._shared.pop(container, []):
            await self.detach(endpoint)
        prefix = self._description(container[:12], "")
        for interface in (await self._interfaces()).values():
            if self._ours(interface) and interface.description.startswith(prefix):
                await self._destroy(interface.name)

    # --- the packet filter ---

    async def publish(self, network: Network, publications: Sequence[Publication]) -> None:
        why, mend = await self._pf()
        if why and publications:
            raise PlatformError(f"cannot publish ports: {why}; {mend}")
        if not why:
            await self._load(network, publications)

    async def _load(self, network: Network, publications: Sequence[Publication]) -> None:
        text = pf.rules(network, publications, _outer(await self._interfaces())).encode()
        name = pf.anchor(self._tag, network.id)
        if not text:
            await self._flush(name)
            return
        for command in (pf.check(name), pf.load(name)):
            await self._commands.run(command, input=text, timeout=_PFCTL)

    async def _flush(self, name: str) -> None:
        for command in pf.flush(name):
            await self._commands.run(command, check=False, timeout=_PFCTL)

    async def _pf(self) -> tuple[str, str]:
        """(why, mend) when rules of ours have no effect."""
        info = await self._commands.run(pf.INFO, check=False, timeout=_PFCTL)
        if info.exit_code != 0:
            return pf.why_not(None, "")
        main = [(await self._commands.run(each, check=False, timeout=_PFCTL)).stdout for each in pf.MAIN]
        return pf.why_not(info.stdout, "".join(main))

    # --- what there is ---

    async def host(self) -> HostNetworks:
        routes = (await self._commands.run(netstat.ROUTES)).stdout
        return HostNetworks(
            routes=tuple(netstat.parse_routes(routes)),
            addresses={
                name: tuple(address.partition("/")[0] for address in each.addresses)
                for name, each in (await self._interfaces()).items()
            },
        )

    async def holder(self, protocol: str, port: int) -> str:
        done = await self._commands.run(netstat.listeners(protocol, port), check=False)
        return netstat.parse_holder(done.stdout)

    async def audit(self, expected: Sequence[NetworkState]) -> list[Misfit]:
        there = await self._interfaces()
        why, mend = await self._pf()
        found = []
        if why and expected:
            found.append(Misfit("firewall", "pf", f"{why}: containers reach nothing outside", mend, None))
        known = set()
        for state in expected:
            network = state.network
            known |= {network.interface, *(self._names(each)[0] for each in state.endpoints)}
            found += self._lost(state, there)
            if not why and await self._is_empty(state):
                found.append(
                    Misfit(
                        "firewall",
                        pf.anchor(self._tag, network.id),
                        f"the rules of network {network.interface} are gone",
                        "load them again",
                        partial(self._load, network, state.publications),
                    )
                )
            for name in {_FORWARDING[ifconfig.family(each.subnet)] for each in network.subnets}:
                if not network.internal and await self._sysctl(name) == "0":
                    found.append(
                        Misfit("system", name, "it is 0: nothing is forwarded", "set it to 1",
                               partial(self._forward, network))
                    )  # fmt: skip
        for interface in there.values():
            if self._ours(interface) and interface.name not in known:
                found.append(
                    Misfit("interface", interface.name, "no network or container has this interface of ours",
                           "destroy it", partial(self._destroy, interface.name))
                )  # fmt: skip
        anchors = {pf.anchor(self._tag, state.network.id) for state in expected}
        listed = await self._commands.run(pf.LIST, check=False, timeout=_PFCTL)
        for name in pf.parse_anchors(listed.stdout):
            if name.startswith(f"{pf.ANCHORS}/{self._tag}-") and name not in anchors:
                found.append(
                    Misfit("firewall", name, "no network has these rules of ours", "remove them",
                           partial(self._flush, name))
                )  # fmt: skip
        return [*found, *self._stray_addresses(expected, there)]

    def _stray_addresses(self, expected: Sequence[NetworkState], there: dict[str, Interface]) -> list[Misfit]:
        """On loopbacks of ours, of containers that have ended."""
        found = []
        for state in expected:
            interface = there.get(state.network.interface)
            if state.network.kind != "loopback" or interface is None:
                continue
            wanted = {_alone(each.gateway) for each in state.network.subnets if each.gateway}
            wanted |= {_alone(address) for each in state.endpoints for address in each.addresses}
            for address in interface.addresses:
                if address not in wanted:
                    command = ifconfig.remove_address(interface.name, address)
                    found.append(
                        Misfit("interface", interface.name, f"no container has its address {address}", "remove it",
                               partial(self._commands.run, command, check=False))
                    )  # fmt: skip
        return found

    def _lost(self, state: NetworkState, there: dict[str, Interface]) -> list[Misfit]:
        """What a network should have and has not."""
        network, interface = state.network, there.get(state.network.interface)
        if interface is None:
            return [
                Misfit("interface", network.interface, "the network's interface is gone", "make it again",
                       partial(self.create, network))
            ]  # fmt: skip
        found = []
        for each in network.subnets if network.kind == "bridge" else ():
            if each.gateway and not ifconfig.has(interface, f"{each.gateway}/{_prefix(each.subnet)}"):
                found.append(
                    Misfit("interface", network.interface, f"it has lost the address {each.gateway}", "add it again",
                           partial(self.create, network))
                )  # fmt: skip
        for endpoint in state.endpoints if network.kind == "bridge" else ():
            outer = self._names(endpoint)[0]
            if outer not in there:
                found.append(
                    Misfit("interface", outer, f"container {endpoint.container[:12]} has lost its interface",
                           "make it again", partial(self._again, endpoint))
                )  # fmt: skip
            elif outer not in interface.members:
                found.append(
                    Misfit("interface", outer, f"it is not on bridge {network.interface}", "add it",
                           partial(self._commands.run, ifconfig.add_member(network.interface, outer)))
                )  # fmt: skip
        for endpoint in state.endpoints if network.kind == "loopback" else ():
            for address in endpoint.addresses:
                if not ifconfig.has(interface, _alone(address)):
                    command = ifconfig.add_address(interface.name, _alone(address))
                    found.append(
                        Misfit("interface", interface.name, f"it has lost {address} of container "
                               f"{endpoint.container[:12]}", "add it again", partial(self._commands.run, command))
                    )  # fmt: skip
        return found

    async def _again(self, endpoint: Endpoint) -> None:
        await self.attach(endpoint)
        await self.ready(endpoint.container)

    async def _is_empty(self, state: NetworkState) -> bool:
        """Whether rules that should be there are not: a reboot, or somebody's flush, takes all of an anchor's."""
        if not pf.rules(state.network, state.publications, _outer(await self._interfaces())):
            return False
        shown = [
            (await self._commands.run(each, check=False, timeout=_PFCTL)).stdout
            for each in pf.show(pf.anchor(self._tag, state.network.id))
        ]
        return not "".join(shown).strip()

    async def _interfaces(self) -> dict[str, Interface]:
        return ifconfig.parse((await self._commands.run(ifconfig.ALL)).stdout)

    async def _jail(self, container: str) -> str | None:
        found = jails.running((await self._commands.run(jails.LISTING)).stdout, container)
        return None if found is None else found.name

    async def _destroy(self, name: str) -> None:
        """With retries: an interface may be on its way out of a jail that has just been removed."""
        for pause in _RETRIES:
            await trio.sleep(pause)
            await self._commands.run(ifconfig.destroy(name), check=False)
            if name not in await self._interfaces():
                return
        raise PlatformError(f"interface {name} cannot be destroyed; try `ifconfig {name} destroy`")

    def _names(self, endpoint: Endpoint) -> tuple[str, str]:
        """The end on the host, and the one in the jail. Never renamed: both are unique on this machine."""
        names = (self._tag, endpoint.container, endpoint.network.id)
        return ifconfig.short("jkh", *names), ifconfig.short("jkc", *names)

    def _description(self, *words: str) -> str:
        return " ".join(["jocker", self._tag, *words])

    def _ours(self, interface: Interface) -> bool:
        return ifconfig.GROUP in interface.groups and interface.description.startswith(f"jocker {self._tag} ")


def _outer(interfaces: dict[str, Interface]) -> dict[str, frozenset[str]]:
    """Interfaces that lead outside: with an address, up, and neither ours nor a loopback."""
    return {
        name: frozenset(ifconfig.family(address) for address in each.addresses)
        for name, each in interfaces.items()
        if each.addresses and "UP" in each.flags and "LOOPBACK" not in each.flags
        and ifconfig.GROUP not in each.groups
    }  # fmt: skip


def _prefix(subnet: str) -> str:
    return subnet.partition("/")[2]


def _host(address: str) -> str:
    """The prefix length of one address alone."""
    return "128" if ":" in address else "32"


def _alone(address: str) -> str:
    bare = address.partition("/")[0]
    return f"{bare}/{_host(bare)}"
