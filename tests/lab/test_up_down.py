from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.labs import Omlab, until
from omtools.lab.state import Being


def kill(pid: int) -> None:
    being = Being.of(pid)
    assert being.kill()


def test_up_status_list_down(omlab: Omlab) -> None:
    assert "mCii (1, 10.77.0.1), metrakilate (2, 10.77.0.2)" in omlab.ok("up")
    found = omlab.status()
    assert found["mode"] == "namespaces"
    assert [node["name"] for node in found["nodes"]] == ["mCii", "metrakilate"]
    assert all(node["alive"] and node["agent"] for node in found["nodes"])
    assert omlab("status").returncode == 0
    assert json.loads(omlab.ok("list", "--json"))[1] == {
        "number": 2, "name": "metrakilate", "address": "10.77.0.2",
    }  # fmt: skip
    assert omlab.ok("list").splitlines()[0].split() == ["1", "mCii", "10.77.0.1"]
    assert "down" in omlab.ok("down")
    assert omlab.status() == {"up": False}
    assert omlab("status").returncode == 1
    assert omlab("list").returncode == 41


def test_up_twice_changes_nothing(omlab: Omlab) -> None:
    first = json.loads(omlab.ok("up", "--json"))
    second = json.loads(omlab.ok("up", "--json"))
    assert first == second


def test_down_twice_and_down_of_nothing(omlab: Omlab) -> None:
    omlab.ok("down")
    omlab.ok("up")
    omlab.ok("down")
    assert "No lab was up" in omlab.ok("down")


def test_more_nodes_and_another_number_is_refused(omlab: Omlab) -> None:
    omlab.ok("up", "--nodes", "5")
    names = [node["name"] for node in json.loads(omlab.ok("list", "--json"))]
    assert len(set(names)) == 5
    for name in names:
        assert omlab.ok("exec", name, "--", "hostname").strip() == name
    done = omlab("up", "--nodes", "3")
    assert done.returncode == 40
    assert "5 nodes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("count", ["0", "-1", "251"])
def test_impossible_numbers_of_nodes(my_omlab: Omlab, count: str) -> None:
    done = my_omlab("up", "--nodes", count)
    assert done.returncode == 40
    assert done.stderr.count("\n") == 1


def test_bad_lab_name(my_omlab: Omlab) -> None:
    done = my_omlab("up", OMLAB_NAME="../etc")
    assert done.returncode == 40
    assert "OMLAB_NAME" in done.stderr


def test_nodes_talk_and_know_names_and_are_apart(omlab: Omlab) -> None:
    omlab.ok("up")
    server = (
        "import socket; s=socket.create_server(('0.0.0.0', 7000)); print('up', flush=True);"
        "c,a=s.accept(); print(a[0], c.recv(9).decode())"
    )
    client = "import socket; socket.create_connection(('metrakilate', 7000)).sendall(b'hello')"
    argv = ("exec", "metrakilate", "--", sys.executable, "-c", server)
    with omlab.popen(*argv, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "up\n"
        omlab.ok("exec", "mCii", "--", sys.executable, "-c", client)
        assert listener.stdout.read() == "10.77.0.1 hello\n"
    omlab.ok("exec", "mCii", "--", "sh", "-c", "echo mine > /tmp/here; echo mine > ~/here")
    assert omlab("exec", "metrakilate", "--", "ls", "/tmp/here").returncode != 0
    assert not Path("/tmp/here").exists()
    assert omlab.ok("exec", "mCii", "--", "sh", "-c", "cat ~/here") == "mine\n"
    ours = os.readlink("/proc/self/ns/net")
    for kind in ("net", "pid", "mnt", "uts", "ipc"):
        seen = {omlab.ok("exec", node, "--", "readlink", f"/proc/self/ns/{kind}") for node in ("1", "2")}
        assert len(seen) == 2
        assert ours not in seen
    assert omlab.ok("exec", "mCii", "--", "ps", "-o", "pid=", "-p", "1").strip() == "1"
    assert omlab.ok("exec", "mCii", "--", "id", "-u").strip() == "0"


def test_configuration_of_a_node(my_omlab: Omlab) -> None:
    my_omlab.ok("up")
    config = my_omlab.directory / "metrakilate" / "etc"
    assert (config / "openmosix.map").read_text() == "1 10.77.0.1 1\n2 10.77.0.2 1\n"
    assert (config / "names").read_text() == "1 mCii\n2 metrakilate\n"
    assert "MYOMID=2\n" in (config / "openmosix.config").read_text()
    for key in ("ssh_host_ed25519_key", "id_ed25519"):
        private, public = (config / key).read_text(), (config / f"{key}.pub").read_text()
        assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
        assert (config / key).stat().st_mode & 0o077 == 0
        assert public.split()[0] == "ssh-ed25519"
    known = (config / "known_hosts").read_text()
    assert "[10.77.0.1]:4660" in known
    assert (config / "ssh_host_ed25519_key.pub").read_text().split()[1] in known
    assert (config / "id_ed25519.pub").read_text() in (config / "authorized_nodes").read_text()
    assert len((config / "authorized_keys").read_text().splitlines()) == 2


def test_a_dead_node_is_repaired(omlab: Omlab) -> None:
    omlab.ok("up")
    before = omlab.status()["nodes"]
    kill(before[1]["pid"])
    until(lambda: not omlab.status()["nodes"][1]["agent"], "its agent dies with it")
    assert omlab("status").returncode == 1
    done = omlab("exec", "metrakilate", "--", "true")
    assert done.returncode == 40
    assert "omlab up" in done.stderr
    omlab.ok("up")
    after = omlab.status()["nodes"]
    assert after[0] == before[0]
    assert after[1]["alive"]
    assert after[1]["agent"]
    assert after[1]["pid"] != before[1]["pid"]
    assert omlab.ok("exec", "2", "--", "hostname") == "metrakilate\n"
    probe = "import socket; s=socket.socket(); s.settimeout(5); print(s.connect_ex(('10.77.0.1', 9)))"
    refused = str(111)  # ECONNREFUSED: somebody is there and says no
    assert omlab.ok("exec", "2", "--", sys.executable, "-c", probe).strip() == refused


def test_a_dead_agent_is_restarted(omlab: Omlab) -> None:
    omlab.ok("up")
    before = omlab.status()["nodes"]
    kill(before[0]["agent_pid"])
    assert omlab("status").returncode == 1
    omlab.ok("up")
    after = omlab.status()["nodes"]
    assert after[0]["agent"]
    assert (after[0]["pid"], after[1]) == (before[0]["pid"], before[1])


def test_a_dead_hub_is_a_lab_that_is_down(omlab: Omlab) -> None:
    omlab.ok("up")
    state = json.loads((omlab.directory / "lab.json").read_text())
    kill(state["hub"]["pid"])
    assert omlab.processes() == []
    assert omlab("status").returncode == 1
    omlab.ok("up")
    assert omlab("status").returncode == 0


@pytest.mark.parametrize("milliseconds", range(0, 240, 20))
def test_up_killed_at_any_time(omlab: Omlab, milliseconds: int) -> None:
    with omlab.popen("up", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(milliseconds / 1000 + 0.05)
        process.kill()
    if milliseconds % 40:
        omlab.ok("up")
        assert omlab("status").returncode == 0
    omlab.ok("down")
    until(lambda: not omlab.processes(), "something outlives it")


def test_up_killed_while_it_waits_for_agents(omlab: Omlab) -> None:
    never_ready = f"{sys.executable} -c 'import signal; signal.pause()'"
    omlab.environment["OMLAB_AGENT"] = never_ready
    with omlab.popen("up") as process:
        until(lambda: len(omlab.processes()) >= 5, "lab, two nodes, two agents")
        process.kill()
    omlab.ok("down")


def test_an_agent_that_fails_is_quoted_and_nothing_remains(omlab: Omlab) -> None:
    omlab.environment["OMLAB_AGENT"] = f"{sys.executable} -c 'raise SystemExit(\"no port left\")'"
    done = omlab("up")
    assert done.returncode == 40
    assert "no port left" in done.stderr
    assert not omlab.directory.exists()


def test_an_agent_that_is_not_there(my_omlab: Omlab) -> None:
    done = my_omlab("up", OMLAB_AGENT="/nowhere/agent")
    assert done.returncode == 40
    assert "/nowhere/agent" in done.stderr or "No such file" in done.stderr
    assert not my_omlab.directory.exists()


def test_state_of_another_boot_kills_nobody(my_omlab: Omlab) -> None:
    my_omlab.ok("up")
    path = my_omlab.directory / "lab.json"
    state = json.loads(path.read_text())
    kill(state["hub"]["pid"])
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        own = {"pid": bystander.pid, "start": Being.of(bystander.pid).start}
        for change in ({"boot": "another", "hub": own}, {"hub": {**own, "start": 1}}):
            my_omlab.directory.parent.mkdir(mode=0o700, exist_ok=True)
            my_omlab.directory.mkdir(exist_ok=True)
            path.write_text(json.dumps({**state, **change}))
            my_omlab.ok("down")
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_unreadable_state_file(omlab: Omlab) -> None:
    omlab.ok("up")
    (omlab.directory / "lab.json").write_text("{")
    assert omlab("list").returncode == 41
    omlab.ok("down")
    assert omlab.processes() == []


def test_a_stopped_helper_does_not_hold_down_up(omlab: Omlab) -> None:
    omlab.ok("up")
    with omlab.popen("exec", "mCii", "--", "sleep", "1000") as helper:
        until(lambda: omlab.ok("exec", "1", "--", "ps", "-A", "-o", "args=").count("sleep 1000"), "it runs")
        helper.send_signal(signal.SIGSTOP)
        omlab.ok("down")
        assert helper.wait(10) != 0


def test_homes_with_forbidding_directories_are_removed(omlab: Omlab) -> None:
    omlab.ok("up")
    omlab.ok("exec", "1", "--", "sh", "-c", "mkdir -p ~/a/b; touch ~/a/b/c; chmod 500 ~/a/b; chmod 0 ~/a")


def test_from_inside_a_node_it_touches_nothing(omlab: Omlab) -> None:
    omlab.ok("up")
    for command in ("up", "down", "list"):
        done = omlab("exec", "mCii", "--", sys.executable, "-m", "omtools.commands.omlab", command)
        if omlab.user != "root" and done.returncode == 41:
            continue  # in there XDG_RUNTIME_DIR is not set, so it finds no lab at all
        assert done.returncode in (0, 40)
    assert omlab("status").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up being it")
def test_a_root_without_capabilities_is_treated_as_an_ordinary_user(my_omlab: Omlab) -> None:
    lost = ["setpriv", "--bounding-set=-sys_admin,-net_admin"]
    program = [*lost, sys.executable, "-m", "omtools.commands.omlab"]

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        argv = my_omlab.argv(*args, program=program)
        return subprocess.run(argv, env=my_omlab.environment, capture_output=True, text=True, check=False)

    assert run("up").returncode == 0
    assert my_omlab.status()["mode"] == "namespaces"
    done = run("exec", "mCii", "--", "readlink", "/proc/self/ns/user")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != os.readlink("/proc/self/ns/user")
    assert run("down").returncode == 0
