"""Names of containers: what is allowed, and random ones for those who give none."""

from __future__ import annotations

import re
import secrets

from jocker_protocol.errors import InvalidParams

_ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")

_MOODS = (
    "agile amber ample azure bold brave breezy bright brisk calm candid clever cosy crisp curious daring deft "
    "eager earnest fair fleet fond gentle glad golden happy hardy honest jolly keen kind lively loyal lucid "
    "mellow merry mild neat nimble noble patient placid polite proud quick quiet ready serene sharp shy silent "
    "sly sober spry steady sunny swift tidy vivid warm wise witty zesty"
).split()
_BEINGS = (
    "badger beaver bison bittern crane curlew dolphin dormouse eagle egret falcon ferret finch fox gannet gecko "
    "goshawk heron hare hedgehog ibex ibis jackdaw kestrel kite lapwing lark lemur linnet lynx magpie marmot "
    "marten merlin mole newt nuthatch osprey otter ouzel owl petrel pika pipit plover puffin quail raven redstart "
    "robin salmon seal shrew siskin skink snipe sparrow starling stoat stork swan swift tern thrush toad vole wagtail "
    "weasel whimbrel wren"
).split()


def random_name() -> str:
    """Such as "brisk_otter". The caller sees to it that it is not taken."""
    return f"{secrets.choice(_MOODS)}_{secrets.choice(_BEINGS)}"


def check_name(name: str, what: str = "container") -> str:
    """The name, if it is allowed. Raises InvalidParams."""
    if not _ALLOWED.fullmatch(name):
        raise InvalidParams(
            f"name: {name!r} is no name for a {what}: it must begin with a letter or digit, "
            "go on with letters, digits, `_`, `.`, `-`, and have at most 128 characters"
        )
    return name
