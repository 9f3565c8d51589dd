"""Everything over TLS, on a Redis whose certificate is signed by an authority of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbcanvas
from nbcanvas import connect, group, signature, submit
from nbcanvas.errors import ServerLost
from tests.cluster.fleet import Fleet
from tests.servers import Redis, free_port, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

PASSWORD = "quite-secret"


class Secured(Redis):
    """A redis-server with a port for TLS beside the plain one, by which the fixture sees it is there."""

    def __init__(self, folder, *arguments):
        self.tls_port = free_port()
        super().__init__(folder, password=PASSWORD, arguments=("--tls-port", str(self.tls_port), *arguments))


def made(folder, *command):
    subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.fail("openssl is not installed: run `make system`")
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "rsa:2048", "-nodes")
    made(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=An authority")
    made(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    made(folder, "x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
    files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem")
    arguments = [str(folder / one) if one.endswith((".pem", ".key")) else one for one in files]
    server = Secured(folder, *arguments, "--tls-auth-clients", "no")
    yield f"rediss://:{PASSWORD}@localhost:{server.tls_port}/0", folder / "ca.pem"
    server.stop()


@pytest.fixture
def fleet(secured):
    url, authority = secured
    with Fleet(f"{url}?ssl_ca_certs={authority}&ssl_cert_reqs=required") as fleet:
        fleet.ours(pool="threads", name="ours@tls")
        fleet.celery(pool="solo", name="theirs@tls")
        yield fleet


def asked(*arguments):
    command = [str(Path(sys.executable).parent / "nbcanvas"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_workers_clients_and_remote_control(fleet, secured):
    url, authority = secured
    app = connect(f"{url}?ssl_ca_certs={authority}")  # verified, though nothing says so
    try:
        run = submit(group(signature("add", (n, n)) for n in range(40)) | signature("tsum"))
        assert run.get(timeout=60) == sum(range(40)) * 2
        until(lambda: set(app.control.inspect(timeout=5).ping() or ()) == {"ours@tls", "theirs@tls"})
    finally:
        nbcanvas.disconnect()
    found = asked("-b", f"{url}?ssl_ca_certs={authority}", "status", "-t", "10")
    assert found.returncode == 0
    assert "2 nodes online" in found.stdout
    assert not any(PASSWORD in worker.log for worker in fleet.workers)


def test_a_server_without_tls_does_not_hang_the_client(redis_server):
    found = asked("-b", redis_server.url.replace("redis:", "rediss:"), "status")
    assert found.returncode == 69
    assert "does not answer in time" in found.stderr


@pytest.mark.parametrize("command", [("status",), ("result", "an-id"), ("call", "add")])
def test_a_certificate_that_nobody_vouches_for_is_refused(secured, command):
    """By each of the doors: kombu's own transport would take any certificate."""
    url, _ = secured
    found = asked("-b", url, "--result-backend", url, *command)
    assert found.returncode == 69
    assert "certificate verify failed" in found.stderr
    assert PASSWORD not in found.stderr + found.stdout


def test_connecting_says_so_too(secured):
    url, _ = secured
    with pytest.raises(ServerLost, match="certificate verify failed") as caught:
        connect(url)
    assert PASSWORD not in str(caught.value)
