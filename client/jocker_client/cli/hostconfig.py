"""Docker's spelling of what a container was made with: `HostConfig` of `inspect`, for templates written for docker."""

from __future__ import annotations

from typing import Any

from .render import Map


def host_config(detail: dict[str, Any]) -> dict[str, Any]:
    """Of a container as `container.inspect` gives it; names, units and nulls are those of Docker's Engine API."""
    limits, security = detail["limits"], detail["security"]
    options = [name for name, key in (("no-new-privileges", "no_new_privileges"),) if security.get(key)]
    if security.get("seccomp"):
        options.append(f"seccomp={security['seccomp']}")
    mounts = detail["mounts"]
    return {
        "Binds": [
            f"{each['source']}:{each['target']}" + (":ro" if each.get("read_only") else "")
            for each in mounts
            if each["type"] != "tmpfs" and each.get("source")
        ],
        "Tmpfs": {
            each["target"]: ",".join(each.get("options", ())) for each in mounts if each["type"] == "tmpfs"
        },
        "NetworkMode": detail["network"],
        "PortBindings": _bindings(detail["port_wishes"]),
        "ExtraHosts": detail["extra_hosts"] or None,
        "Dns": detail["dns"],
        "DnsSearch": detail["dns_search"],
        "DnsOptions": detail["dns_options"],
        "AutoRemove": detail["auto_remove"],
        "RestartPolicy": {
            "Name": detail["restart_policy"]["name"],
            "MaximumRetryCount": detail["restart_policy"]["maximum_retry_count"],
        },
        "Init": detail["init"],
        "Memory": limits.get("memory", 0),
        "MemorySwap": limits.get("memory_swap", 0) or 2 * limits.get("memory", 0),
        "MemoryReservation": limits.get("memory_reservation", 0),
        "NanoCpus": round(limits.get("cpus", 0) * 10**9),
        "CpuShares": limits.get("cpu_shares", 0),
        "CpusetCpus": limits.get("cpuset_cpus", ""),
        "PidsLimit": limits.get("pids") or None,
        "ShmSize": limits.get("shm_size", 0) or 64 << 20,
        "OomScoreAdj": limits.get("oom_score_adj", 0),
        "Ulimits": [
            {"Name": each["name"], "Soft": each["soft"], "Hard": each["hard"]}
            for each in limits.get("ulimits", ())
        ],
        "StorageOpt": {"size": str(limits["storage"])} if limits.get("storage") else None,
        "Privileged": security.get("privileged", False),
        "ReadonlyRootfs": security.get("read_only", False),
        "CapAdd": security.get("cap_add") or None,
        "CapDrop": security.get("cap_drop") or None,
        "SecurityOpt": options or None,
        "GroupAdd": security.get("group_add") or None,
        "Sysctls": security.get("sysctls") or None,
        "Devices": [
            {
                "PathOnHost": each["source"],
                "PathInContainer": each.get("target") or each["source"],
                "CgroupPermissions": each.get("permissions", "rwm"),
            }
            for each in security.get("devices", ())
        ],
        "PidMode": security.get("pid", ""),
        "IpcMode": security.get("ipc", "") or "private",
        "UTSMode": security.get("uts", ""),
    }


def _bindings(wishes: list[dict[str, Any]]) -> Map:
    """As they were asked for: the port is "" for one that is chosen, "8000-8010" for one of these."""
    made = Map()
    for each in wishes:
        first, last = each.get("host_port", 0), each.get("host_port_last", 0)
        port = f"{first}-{last}" if last else str(first or "")
        key = f"{each['container_port']}/{each.get('protocol', 'tcp')}"
        made.setdefault(key, []).append({"HostIp": each.get("host_ip", ""), "HostPort": port})
    return made
