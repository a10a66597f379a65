"""`jocker events`: how it ends, and what it lets through."""

from __future__ import annotations

import signal
import subprocess

from engines import BIN, Engine


def test_it_ends_when_its_reader_does(shared: Engine) -> None:
    shared.jocker("run", "-d", "--name", "talker", "base", "sh", "-c", "echo once; sleep 100")
    for command in ("events --since 1h", "logs -f talker"):  # both go on, with nothing more to say
        done = subprocess.run(
            ["sh", "-c", f"{BIN}/jocker {command} | head -n 1"],
            env=shared.env, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.stdout.count("\n") == 1 and done.stderr == ""
    shared.jocker("rm", "-f", "talker")


def test_until_ends_it_and_filters_add_up(shared: Engine) -> None:
    shared.jocker("run", "--rm", "--name", "one", "--label", "tier=web", "base", "true")
    shared.jocker("run", "--rm", "--name", "two", "base", "sh", "-c", "exit 3", check=False)
    past = ("events", "--since", "1h", "--until", "0s")
    template = ("--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}")
    both = ("-f", "container=one", "-f", "container=two")
    assert shared.jocker(*past, *template, *both, "-f", "action=die").stdout == "die one 0\ndie two 3\n"
    assert "create one <no value>\n" in shared.jocker(*past, *template, "-f", "label=tier=web").stdout
    assert shared.jocker(*past, "-f", "type=volume", "-f", "container=one").stdout == ""
    wrong = shared.jocker(*past, "-f", "contaner=one", check=False)
    assert wrong.returncode == 1 and "did you mean 'container'" in wrong.stderr
    wrong = shared.jocker("events", "--since", "yesterday", check=False)
    assert wrong.returncode == 64 and "is no time" in wrong.stderr


def test_an_engine_that_goes_is_told(own: Engine) -> None:
    following = own.popen("events", "--since", "1h", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert following.stdout is not None and "image import" in following.stdout.readline().decode()
    own.kill(signal.SIGTERM)
    said = following.communicate(timeout=30)[1].decode()
    assert following.returncode == 1 and said.startswith("jocker: ") and said.count("\n") == 1, said
    own.start()
