"""What people read: the STATUS column, Docker's spelling, events, the tree; and what they write for options."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import click
import pytest

from jocker_client.cli import creation, events, render, template, tree
from jocker_protocol.errors import InvalidParams


def ago(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - seconds)) + ".000000000Z"


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"status": "running"}, "Up 5 minutes"),
        ({"status": "running", "health": "healthy"}, "Up 5 minutes (healthy)"),
        ({"status": "running", "health": "starting"}, "Up 5 minutes (health: starting)"),
        ({"status": "running", "health": "unhealthy"}, "Up 5 minutes (unhealthy)"),
        ({"status": "stopping", "health": "healthy"}, "Up 5 minutes (Stopping)"),
        ({"status": "restarting", "exit_code": 1, "health": "unhealthy"}, "Restarting (1) 2 minutes ago"),
        ({"status": "exited", "exit_code": 0}, "Exited (0) 2 minutes ago"),
        ({"status": "created"}, "Created"),
        ({"status": "removing"}, "Removal In Progress"),
        ({"status": "dead"}, "Dead"),
    ],
)
def test_status_as_docker_says_it(facts: dict[str, Any], shown: str) -> None:
    assert render.status({"started_at": ago(330), "finished_at": ago(150), "health": "", **facts}) == shown


def state(status: str) -> dict[str, Any]:
    probe = {"start": "s", "end": "e", "exit_code": 1, "output": "o"}
    return {
        "id": "1", "restart_count": 2, "exec_ids": [],
        "state": {
            "status": status, "pid": 0, "exit_code": 0, "oom_killed": False,
            "health": {"status": "unhealthy", "failing_streak": 3, "log": [probe]},
        },
        "config": {"labels": {"some_key": "v"}},
    }  # fmt: skip


def test_inspect_is_spelled_as_docker_spells_it() -> None:
    spelled = render.docker(state("running"))
    assert spelled == {
        "Id": "1", "RestartCount": 2, "ExecIDs": [],
        "State": {
            "Status": "running", "Running": True, "Paused": False, "Restarting": False, "Dead": False,
            "Pid": 0, "ExitCode": 0, "OOMKilled": False,
            "Health": {
                "Status": "unhealthy", "FailingStreak": 3,
                "Log": [{"Start": "s", "End": "e", "ExitCode": 1, "Output": "o"}],
            },
        },
        "Config": {"Labels": {"some_key": "v"}},
    }  # fmt: skip
    flags = ("Running", "Restarting", "Dead")
    shown = {status: [render.docker(state(status))["State"][flag] for flag in flags] for status in ("restarting", "dead", "exited")}  # fmt: skip
    assert shown == {
        "restarting": [True, True, False],
        "dead": [False, False, True],
        "exited": [False, False, False],
    }


def test_a_template_shows_a_label_that_is_not_there_and_refuses_a_field_that_is_not() -> None:
    spelled = render.docker(state("running"))
    assert template.render("{{.Config.Labels.none}}{{.Config.Labels.some_key}}", spelled) == "<no value>v"
    with pytest.raises(InvalidParams, match=r"no field \.Labls; there are: Labels"):
        template.render("{{.Config.Labls}}", spelled)


PORTS = render.Map({"80/tcp": [{"HostIp": "::", "HostPort": "8080"}], "53/udp": None})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{with index .Ports "80/tcp"}}{{(index . 0).HostIp}}{{else}}none{{end}}', "::"),
        ("{{range $p, $all := .Ports}}{{$p}}={{if $all}}{{(index $all 0).HostPort}}{{else}}-{{end}} {{end}}", "53/udp=- 80/tcp=8080 "),
        ("{{range $n, $v := .List}}{{if $n}}, {{end}}{{$v}}{{end}}", "a, b"),
        ("{{range .None}}x{{else}}nothing{{end}}", "nothing"),
        ("{{range .List}}{{$.Name}}{{.}} {{end}}", "na nb "),
        ('{{if eq .Name "m"}}1{{else if and .List (not .None)}}2{{else}}3{{end}}', "2"),
        ("{{$x := len .List}}{{$x}}{{/* said */}}", "2"),
        ("a {{- .Name -}} b", "anb"),
        ('{{.Name | printf "%s|%v" "a"}}', "a|n"),
        ('{{join .List ","}} {{json .List}} {{"a\\"b"}} {{`c`}} {{index .List 1}}', 'a,b ["a","b"] a"b c b'),
        ("{{index .Ports `443/tcp`}}", "<no value>"),
        ("{{if gt (len .List) 1}}many{{end}}", "many"),
    ],
)  # fmt: skip
def test_templates_as_people_write_them_for_docker(text: str, shown: str) -> None:
    assert template.render(text, {"Name": "n", "List": ["a", "b"], "None": [], "Ports": PORTS}) == shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{(index .List 0}}", r"a \( without its \)"),
        ("{{index .List 7}}", "index 7 of a list of 2"),
        ("{{.List)}}", "too much"),
        ("{{nope .List}}", "no function 'nope'; there are index"),
        ("{{$x}}", r"no variable '\$x'"),
        ("{{if .List}}", "has no {{end}}"),
        ("{{end}}", "without its"),
        ("{{if .List}}{{else}}{{else}}{{end}}", "after {{else}}"),
        ("{{}}", "nothing in"),
        ("{{.List .List}}", "neither a value nor a function"),
        ("{{.List", "without its }}"),
        ("{{len 5}}", "len cannot do that"),
    ],
)
def test_templates_that_are_wrong_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        template.render(text, {"List": ["a", "b"]})


EVENT = {
    "seq": 7, "time": "2026-11-24T12:00:00.000000001Z", "type": "container", "action": "die", "id": "ab",
    "attributes": {"name": "x", "image": "base", "exitCode": "0"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "shown"),
    [
        ("", "2026-11-24T12:00:00.000000001Z container die ab (exitCode=0, image=base, name=x)"),
        ("{{.Type}} {{.Action}} {{.Actor.ID}} {{.ID}} {{.Time}}", "container die ab ab 1795521600"),
        ("{{.Status}} {{.From}} {{.Scope}} {{.TimeNano}}", "die base local 1795521600000000001"),
        (
            "{{.Actor.Attributes.name}} {{index .Actor.Attributes `exitCode`}} {{.Actor.Attributes.none}}",
            "x 0 <no value>",
        ),
    ],
)
def test_events_as_docker_prints_them(format: str, shown: str) -> None:
    assert events.line(EVENT, format) == shown


def test_an_event_without_attributes_has_no_brackets() -> None:
    assert events.line({**EVENT, "attributes": {}}, "").endswith(" ab")


@pytest.mark.parametrize("format", ["json", "{{json .}}"])
def test_events_as_json_have_the_names_of_dockers_api(format: str) -> None:
    assert json.loads(events.line(EVENT, format)) == {
        "status": "die", "id": "ab", "from": "base", "Type": "container", "Action": "die",
        "Actor": {"ID": "ab", "Attributes": EVENT["attributes"]},
        "scope": "local", "time": 1795521600, "timeNano": 1795521600000000001,
    }  # fmt: skip


def node(name: str, *children: dict[str, Any]) -> dict[str, Any]:
    kind = "supervisor" if children else "actor"
    facts = {"state": "running", "restarts": 0, "mailbox": 0, "handled": 5, "detail": ""}
    return {"name": name, "kind": kind, **facts, "children": list(children)}


def test_the_tree_has_branches_and_is_cut_to_the_terminal() -> None:
    text = tree.draw(node("root", node("a", node("b")), node(f"c/{'0123456789abcdef' * 4}")))
    names = [line.partition("running")[0].rstrip() for line in text.splitlines()[1:]]
    assert names == ["root", "├── a", "│   └── b", "└── c/0123456789ab"]
    drawn = tree.frame(text, os.terminal_size((10, 4)))
    assert drawn == "\x1b[HNAME      \x1b[K\nroot      \x1b[K\n├── a     \x1b[K\n\x1b[J"


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", {"name": "no"}),
        ("on-failure", {"name": "on-failure"}),
        ("on-failure:5", {"name": "on-failure", "maximum_retry_count": 5}),
        ("on-startup", {"name": "on-startup"}),
    ],
)
def test_restart_policies(text: str, policy: dict[str, Any]) -> None:
    assert creation.restart_policy(text) == policy


@pytest.mark.parametrize("text", ["", "sometimes", "on-failure:", "on-failure:-1", "always:3"])
def test_restart_policies_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError, match="--restart"):
        creation.restart_policy(text)


def test_removal_and_restart_exclude_each_other() -> None:
    assert creation.restart_policy("no", auto_remove=True) == {"name": "no"}
    with pytest.raises(click.UsageError, match="--rm"):
        creation.restart_policy("always", auto_remove=True)


NOTHING = {
    "health_cmd": "", "health_interval": "", "health_timeout": "", "health_retries": None,
    "health_start_period": "", "health_start_interval": "", "no_healthcheck": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "check"),
    [
        ({}, None),
        ({"no_healthcheck": True}, {"test": ["NONE"]}),
        ({"health_retries": 0}, {"retries": 0}),
        (
            {"health_cmd": "a b", "health_interval": "1m30s", "health_start_period": "500ms"},
            {"test": ["CMD-SHELL", "a b"], "interval": 90.0, "start_period": 0.5},
        ),
    ],
)
def test_health_options(given: dict[str, Any], check: dict[str, Any] | None) -> None:
    assert creation.healthcheck({**NOTHING, **given}) == check


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"no_healthcheck": True, "health_retries": 0}, "exclude each other"),
        ({"health_cmd": "c", "health_start_period": "5"}, "--health-start-period: '5' is no span"),
    ],
)
def test_health_options_that_make_no_sense(given: dict[str, Any], says: str) -> None:
    with pytest.raises(click.UsageError, match=says):
        creation.healthcheck({**NOTHING, **given})
