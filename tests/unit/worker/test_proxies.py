"""What workers that fetch are told of proxies."""

from __future__ import annotations

from jocker_engine.platform.work import proxies


def test_proxies_of_the_environment() -> None:
    assert proxies({"PATH": "/bin", "HOME": "/"}) == {}
    assert proxies({"https_proxy": "http://p:1", "PATH": "/bin"}) == {
        "https_proxy": "http://p:1",
        "no_proxy": "localhost,127.0.0.1,::1",
    }
    assert (
        proxies({"HTTP_PROXY": "http://p:1", "NO_PROXY": "x.org"})["no_proxy"]
        == "x.org,localhost,127.0.0.1,::1"
    )
    assert proxies({"HTTP_PROXY": "http://p:1", "no_proxy": "*"})["no_proxy"] == "*"
