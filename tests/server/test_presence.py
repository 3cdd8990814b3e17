"""The file by which a server is found: there while it lives, gone with it, and true about its last reload."""

import os
import signal
import stat
import subprocess
import sys

from penstock.errors import Mistake
from penstock.server.presence import FOLDER, Presence, Reloaded, look, servers

URL = "http://127.0.0.1:1"


def test_a_server_is_found_and_tells_what_became_of_its_reloads(tmp_path):
    presence = Presence(tmp_path / "home", URL)
    (found,) = servers(tmp_path / "home")
    refused = Reloaded(False, "penstock.toml", "abc", (), tuple(Mistake(f"key{n}", "is wrong.", n) for n in range(50)))
    presence.tell(refused)
    (then,) = servers(tmp_path / "home")
    presence.tell(Reloaded(True, "penstock.toml", "def"))
    (now,) = servers(tmp_path / "home")
    presence.close()

    assert (found.pid, found.url, found.reloads, found.last) == (os.getpid(), URL, 0, None)
    assert (then.reloads, then.last) == (1, refused)
    assert (now.reloads, now.last.hash) == (2, "def")
    assert servers(tmp_path / "home") == []


def test_nobody_else_may_read_it(tmp_path):
    presence = Presence(tmp_path, URL)
    mode = stat.S_IMODE((tmp_path / FOLDER / str(os.getpid())).stat().st_mode)
    presence.close()

    assert mode == 0o600


def test_where_there_is_no_home_there_is_no_server(tmp_path):
    assert servers(tmp_path / "none") == []
    assert look(tmp_path / "none") is None


def test_the_file_of_a_server_that_was_killed_is_removed(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom penstock.server.presence import Presence\n"
        f"one = Presence(Path({str(tmp_path)!r}), {URL!r})\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    process.stdout.readline()
    alive = servers(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert [one.pid for one in alive] == [process.pid]
    assert servers(tmp_path) == []
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_forked_process_that_forgets_it_does_not_keep_it_alive(tmp_path):
    presence = Presence(tmp_path, URL)
    reads, writes = os.pipe()
    hears, tells = os.pipe()
    child = os.fork()
    if not child:
        presence.forget()
        os.write(tells, b".")
        os.read(reads, 1)
        os._exit(0)
    os.read(hears, 1)
    os.close(presence._file)  # as if this process had died
    found = servers(tmp_path)
    os.write(writes, b".")
    os.waitpid(child, 0)
    for one in (reads, writes, hears, tells):
        os.close(one)

    assert found == []


def test_what_is_no_server_s_file_is_left_alone(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "notes.new").write_text("?")

    assert servers(tmp_path) == []
    assert (folder / "notes.new").exists()


def test_a_file_that_cannot_be_understood_is_no_server(tmp_path):
    presence = Presence(tmp_path, URL)
    os.pwrite(presence._file, b"?", 0)
    found = servers(tmp_path)
    presence.close()

    assert found == []
