"""The supervision tree, on one page. `rest_for_one`: what is below stands on what is above."""

from __future__ import annotations

from .api.handlers import handlers
from .api.listener import Api
from .api.streams import StreamBroker
from .containers.manager import SUPERVISOR as CONTAINERS
from .containers.manager import ContainersManager
from .containers.startup import Startup
from .db.database import Database
from .db.reserve import Reserve
from .events import Journal
from .house import House
from .images.cache import Cache
from .images.cachemounts import CacheMounts
from .images.contexts import Contexts
from .images.digests import DIGESTS, Digester
from .images.manager import BUILDS, ImagesManager
from .networks.access import MANAGER as NETWORKS
from .networks.access import NAMES
from .networks.manager import SUPERVISOR as EACH_NETWORK
from .networks.manager import NetworksManager
from .networks.names import Names
from .otp import ChildSpec, DynamicSupervisor, Supervisor, System
from .volumes.manager import VolumesManager
from .zygote import ZygoteActor


def tree(system: System, house: House) -> Supervisor:
    """Everything that runs in an engine."""

    def digester() -> Digester:
        return Digester(house.layout, house.commands, house.drivers.storage, house.store)

    def images() -> Supervisor:
        return Supervisor(
            "images.all",
            [
                ChildSpec(DIGESTS, digester),
                ChildSpec(BUILDS, lambda: DynamicSupervisor(BUILDS, intensity=100)),
                ChildSpec("contexts", lambda: Contexts(house)),
                ChildSpec("cachemounts", lambda: CacheMounts(house)),
                ChildSpec("cache", lambda: Cache(house)),
                ChildSpec("images", lambda: ImagesManager(house)),
            ],
            strategy="one_for_all",
        )

    def networks() -> Supervisor:
        return Supervisor(
            "networks.root",
            [
                ChildSpec(EACH_NETWORK, lambda: DynamicSupervisor(EACH_NETWORK, intensity=100)),
                ChildSpec(NAMES, lambda: Names(house.store, house.layout.container)),
                ChildSpec(NETWORKS, lambda: NetworksManager(house)),
            ],
            strategy="rest_for_one",
        )

    def containers() -> Supervisor:
        return Supervisor(
            "containers.root",
            [
                ChildSpec(CONTAINERS, lambda: DynamicSupervisor(CONTAINERS, intensity=100)),
                ChildSpec("containers", lambda: ContainersManager(house)),
            ],
            strategy="rest_for_one",
        )

    def api() -> Api:
        broker = StreamBroker()
        return Api([house.config.api_socket], handlers(system, house, broker), broker)

    return Supervisor(
        "root",
        [
            ChildSpec("db", lambda: Database(house.layout.database, Reserve(house.layout.reserve))),
            ChildSpec("events", lambda: Journal(house.store)),
            ChildSpec(
                "platform",
                lambda: Supervisor("platform", [ChildSpec("zygote", lambda: ZygoteActor(house.layout.run))]),
            ),
            ChildSpec("volumes", lambda: VolumesManager(house)),
            ChildSpec("networks.root", networks),
            ChildSpec("images.all", images),
            ChildSpec("containers.root", containers),
            ChildSpec("startup", lambda: Startup(house), restart="temporary"),
            ChildSpec("api", api),
        ],
        strategy="rest_for_one",
    )
