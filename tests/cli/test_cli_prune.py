"""`container prune`, `system prune`: what nobody uses goes, and nothing else."""

from __future__ import annotations

from engines import Engine


def test_containers_that_do_not_run(shared: Engine) -> None:
    running = shared.jocker("run", "-d", "--label", "mine", "base", "sleep", "100").stdout
    old = shared.jocker(
        "run", "-d", "--label", "mine", "--label", "keep=1", "base", "sh", "-c", "echo x > /written"
    ).stdout
    shared.jocker("wait", old.strip())
    created = shared.jocker("create", "--label", "mine", "base").stdout
    prune = ("container", "prune", "--filter", "label=mine")
    asked = shared.jocker(*prune, input="n\n")
    assert "all stopped containers" in asked.stderr and asked.stdout == ""
    unanswered = shared.jocker(*prune, check=False)
    assert unanswered.returncode == 1 and unanswered.stderr.endswith("say so with --force\n")
    assert "Deleted" not in shared.jocker(*prune, "-f", "--filter", "until=1h").stdout
    wrong = shared.jocker(*prune, "-f", "--filter", "until=soon", check=False)
    assert wrong.returncode == 1 and "neither a time" in wrong.stderr and wrong.stderr.count("\n") == 1
    pruned = shared.jocker(*prune, "--filter", "label!=keep", input="y\n").stdout
    assert pruned.startswith(f"Deleted Containers:\n{created}\nTotal reclaimed space: ")
    pruned = shared.jocker(*prune, "-f").stdout
    assert old in pruned and not pruned.endswith("space: 0B\n")
    assert shared.jocker("ps", "-aq", "--no-trunc", "-f", "label=mine").stdout == running
    shared.jocker("rm", "-f", running.strip())


def test_the_system(shared: Engine) -> None:
    kept = shared.jocker("run", "-d", "base", "sleep", "100").stdout.strip()
    gone = shared.jocker("create", "-v", "/data", "base").stdout.strip()
    shared.jocker("build", "-t", "named", "--label", "mine", "-", input="FROM base\nRUN echo 1 > /1\n")
    shared.jocker("build", "-t", "named", "--label", "mine", "-", input="FROM base\nRUN echo 2 > /2\n")
    shared.jocker("volume", "create", "kept")
    refused = shared.jocker("system", "prune", "--volumes", "-f", "--filter", "until=1h", check=False)
    assert refused.returncode == 64 and "leave --volumes out" in refused.stderr
    asked = shared.jocker("system", "prune", input="n\n").stderr
    assert "- all stopped containers\n" in asked and "volumes" not in asked
    said = shared.jocker("system", "prune", "--volumes", "-f").stdout
    assert f"Deleted Containers:\n{gone}\n" in said and "Deleted Images:\ndeleted: sha256:" in said
    assert "Deleted Volumes:\n" in said  # those of the containers, which go first
    assert shared.jocker("ps", "-aq", "--no-trunc").stdout.strip() == kept
    assert "kept" in shared.jocker("volume", "ls", "-q").stdout and "named" in shared.jocker("images").stdout
    said = shared.jocker("system", "prune", "-a", "-f", "--filter", "label=mine").stdout
    assert "untagged: named:latest" in said and "base" in shared.jocker("images").stdout
    shared.jocker("rm", "-f", kept)
    shared.jocker("volume", "rm", "kept")
