"""The OCI image configuration, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jocker_engine.images import oci
from jocker_protocol.types import Healthcheck, HistoryEntry, ImageConfig

TIME = "2026-01-02T03:04:05.000000000Z"
DIFF = "sha256:" + "a" * 64


def text(config: ImageConfig) -> str:
    history = [HistoryEntry(created=TIME, created_by="RUN x", layer="not told", comment="c")]
    return oci.write(
        created=TIME,
        author="me",
        architecture="amd64",
        os="linux",
        config=config,
        diff_ids=[DIFF],
        history=history,
    )


words = st.text(max_size=8)
lists = st.lists(words, max_size=3)
configs = st.builds(
    ImageConfig,
    env=lists,
    cmd=st.none() | lists,
    entrypoint=st.none() | lists,
    shell=st.none() | lists,
    user=words,
    working_dir=words,
    stop_signal=words,
    exposed_ports=st.lists(words, unique=True).map(sorted),
    volumes=st.lists(words, unique=True).map(sorted),
    labels=st.dictionaries(words, words),
    on_build=lists,
    healthcheck=st.none()
    | st.builds(Healthcheck, test=lists, interval=st.integers(0, 100).map(float), retries=st.integers(0, 9)),
)


@given(configs)
def test_what_is_written_is_read(config: ImageConfig) -> None:
    found = oci.Read(text(config).encode(errors="surrogatepass"))
    assert found.config == config
    assert (found.architecture, found.os, found.created, found.author) == ("amd64", "linux", TIME, "me")
    assert found.diff_ids == [DIFF]
    assert found.history == [HistoryEntry(created=TIME, created_by="RUN x", comment="c")]


def test_the_names_are_those_of_the_specification() -> None:
    check = Healthcheck(test=["CMD", "true"], interval=1.5, start_period=2, retries=3)
    config = ImageConfig(
        env=["A=b"], exposed_ports=["80/tcp"], volumes=["/v"], labels={"l": "x"}, healthcheck=check
    )
    document = json.loads(text(config))
    assert document["config"] == {
        "Env": ["A=b"],
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}},
        "Labels": {"l": "x"},
        "Healthcheck": {
            "Test": ["CMD", "true"],
            "Interval": 1_500_000_000,
            "StartPeriod": 2_000_000_000,
            "Retries": 3,
        },
    }
    assert document["rootfs"] == {"type": "layers", "diff_ids": [DIFF]}
    assert document["history"] == [{"created": TIME, "created_by": "RUN x", "comment": "c"}]


@pytest.mark.parametrize(
    "document",
    [
        [], "x", {"config": 5}, {"config": {"Env": "A"}}, {"config": {"Cmd": [1]}}, {"config": {"Labels": {"a": 1}}},
        {"rootfs": {"diff_ids": ["sha256:../x"]}}, {"history": [5]}, {"created": "yesterday"},
        {"config": {"Healthcheck": {"Interval": "1s"}}},
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_a_line(document: Any) -> None:
    with pytest.raises(oci.BadConfig) as error:
        oci.Read(json.dumps(document).encode())
    assert "\n" not in str(error.value)


def test_what_is_no_json_is_refused() -> None:
    for wrong in (b"", b"\xff", b"{" * 100_000):
        with pytest.raises(oci.BadConfig):
            oci.Read(wrong)


def test_what_is_missing_or_null_is_nothing() -> None:
    found = oci.Read(b'{"config": {"Env": null, "Labels": null, "Cmd": null}, "history": null}')
    assert found.config == ImageConfig()
