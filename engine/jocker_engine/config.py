"""The configuration file: YAML, typed, every key with its default here and explained in etc/jocker_config.yaml."""

from __future__ import annotations

import difflib
import os
import sys
from ipaddress import ip_network
from typing import Any, Literal

import msgspec
import yaml

FREEBSD = sys.platform.startswith("freebsd")
DEFAULT_FILE = "/usr/local/etc/jocker_config.yaml" if FREEBSD else "/etc/jocker/jocker_config.yaml"

Platform = Literal["auto", "freebsd", "linux", "portable"]
LogLevel = Literal["debug", "info", "warning", "error"]


class ConfigError(Exception):
    """The configuration cannot be used; one line that names file and key. Exit status 78 (sysexits.h EX_CONFIG)."""


class Config(msgspec.Struct, kw_only=True):
    """All keys. Paths are absolute."""

    root: str = "/var/db/jocker" if FREEBSD else "/var/lib/jocker"
    api_socket: str = "/var/run/jocker.sock"
    platform: Platform = "auto"
    storage: str = ""
    """A storage driver by name; "" leaves the choice to `platform`."""
    runtime: str = ""
    zroot: str = "zroot/jocker" if FREEBSD else ""
    """The dataset that storage zfs keeps layers and containers below; it is used where it is named."""
    volume_root: str = ""
    """The dataset that volumes are below; "": `zroot`/volumes."""
    base_layer_dataset: str = ""
    """What FROM scratch is, a dataset or a snapshot of one; "": an empty image."""
    freebsd_mirror: str = "https://download.freebsd.org"
    """Where `image create fetch-auto` finds releases/MACHINE/ARCH/RELEASE/base.txz."""
    network: str = ""
    default_network: str = ""
    """host, none, or a network; "": the default network where networks can be made, else host."""
    default_network_name: str = "default"
    default_loopback_name: str = "jocker0"
    """The default network's interface on the host, if that name is free."""
    default_subnet: str = "10.13.37.0/24"
    """The default network's addresses; others are chosen where something else has these."""
    default_gateway_if: str = ""
    """The host's interface through which the default network leaves it; "": any."""
    stop_timeout: int = 10
    """Seconds between a container's stop signal and KILL, unless it says otherwise."""
    log_level: LogLevel = "info"
    container_log_max_size: int = 50 * 1024 * 1024
    """Bytes after which a container's log is rotated; 0: never."""
    container_log_max_files: int = 2

    def overrides(self) -> dict[str, str]:
        """The drivers that are named one by one."""
        named = {"storage": self.storage, "runtime": self.runtime, "network": self.network}
        return {part: name for part, name in named.items() if name}


def load(path: str | None) -> Config:
    """The configuration in this file; without a name, in the default file if there is one.

    Raises ConfigError: unreadable, not YAML, an unknown key (with the likely one), a value of the wrong type.
    """
    if path is None:
        if not os.path.exists(DEFAULT_FILE):
            return Config()
        path = DEFAULT_FILE
    try:
        with open(path, encoding="utf-8") as file:
            raw = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    return parse({} if raw is None else raw, path)


def parse(raw: Any, path: str) -> Config:
    """A Config from what YAML gave; `path` is for the messages."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines, not a {type(raw).__name__}")
    known = [field.name for field in msgspec.structs.fields(Config)]
    for key in raw:
        if key not in known:
            likely = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean `{likely[0]}`?" if likely else f"; known keys: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key `{key}`{hint}")
    for key, value in raw.items():
        try:
            msgspec.convert({key: value}, Config)
        except msgspec.ValidationError as error:
            reason = str(error).split(" - at ")[0]
            raise ConfigError(
                f"{path}: key `{key}`: {reason[0].lower()}{reason[1:]}, not {value!r}"
            ) from None
    config = msgspec.convert(raw, Config)
    config.api_socket = config.api_socket.removeprefix("unix://")
    for key in ("root", "api_socket"):
        if not os.path.isabs(getattr(config, key)):
            raise ConfigError(f"{path}: key `{key}`: must be an absolute path, not {getattr(config, key)!r}")
    for key in ("stop_timeout", "container_log_max_size", "container_log_max_files"):
        if getattr(config, key) < 0:
            raise ConfigError(f"{path}: key `{key}`: must not be negative")
    _check_networks(config, path)
    return config


def _check_networks(config: Config, path: str) -> None:
    try:
        ip_network(config.default_subnet)
    except ValueError as error:
        raise ConfigError(f"{path}: key `default_subnet`: {error}") from None
    for key in ("default_loopback_name", "default_gateway_if"):
        if len(getattr(config, key)) > 15 or "/" in getattr(config, key):
            raise ConfigError(f"{path}: key `{key}`: no interface has the name {getattr(config, key)!r}")
    for key in ("default_network_name", "default_loopback_name"):
        if getattr(config, key) in ("", "host", "none"):
            raise ConfigError(f"{path}: key `{key}`: must be a name of its own, not {getattr(config, key)!r}")
