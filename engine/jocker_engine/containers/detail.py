"""What `container.inspect` shows of a record."""

from __future__ import annotations

from jocker_protocol import types as t

from ..db.records import ContainerRecord
from ..house import House
from .surroundings import argv


async def describe(house: House, record: ContainerRecord, rootfs: str, execs: list[str]) -> t.ContainerDetail:
    """All there is to know; `rootfs` where it is mounted, "" where it is not."""
    words = argv(record.config)
    return t.ContainerDetail(
        id=record.id,
        name=record.name,
        created_at=record.created_at,
        image=record.image,
        image_id=record.image_id,
        path=words[0],
        args=words[1:],
        state=record.state,
        config=record.config,
        tty=record.tty,
        interactive=record.interactive,
        auto_remove=record.auto_remove,
        hostname=record.hostname,
        network=record.network,
        mounts=[
            t.Mount(
                type=mount.type,  # type: ignore[arg-type]
                target=mount.target,
                source=mount.source,
                read_only=mount.read_only,
                options=mount.options,
                no_copy=mount.no_copy,
            )
            for mount in record.mounts
        ],
        log_path=house.layout.container_log(record.id),
        rootfs=rootfs,
        platform=house.drivers.names(),
        stop_timeout=record.stop_timeout,
        restart_policy=record.restart_policy,
        restart_count=record.state.restart_count,
        depends_on=record.depends_on,
        init=record.init,
        jail_params=record.jail_params,
        limits=record.limits,
        security=record.security,
        exec_ids=execs,
        networks=await house.networks.endpoints(record.id),
        port_wishes=record.networking.ports,
        ports=await house.networks.ports(record.id),
        extra_hosts=record.networking.extra_hosts,
        dns=record.networking.dns,
        dns_search=record.networking.dns_search,
        dns_options=record.networking.dns_options,
    )
