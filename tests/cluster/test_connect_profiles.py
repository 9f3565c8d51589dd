"""What is meant by a URL, a profile, or nothing: from pyproject.toml and the environment; said without its password."""

import pickle
import ssl

import pytest

from nbcanvas import App, current_app
from nbcanvas.app.profiles import Target, is_loopback, target
from nbcanvas.app.secret import Hidden
from nbcanvas.errors import ImproperlyConfigured
from nbcanvas.servers.urls import masked

FILE = """
[tool.nbcanvas.profiles.default]
broker = "redis://localhost:6379/0"

[tool.nbcanvas.profiles.staging]
broker = "rediss://worker@redis.example:6379/1"
password_env = "STAGING"
backend = "db+sqlite:///results.sqlite"
tls = { ca = "ca.pem", verify = "optional" }
settings = { task_default_queue = "hipri", broker_transport_options = { visibility_timeout = 60 } }

[tool.nbcanvas.profiles.inline]
broker = "amqp://me:${SECRET}@rabbit//"
backend = "${RESULTS}"

[tool.nbcanvas.profiles.shipping]
broker = "redis://localhost:6379/0"
ship = true
signing_key_file = "keys/one.key"
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(FILE)
    (tmp_path / "ca.pem").write_text("")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    return below


def test_a_profile_with_everything(project):
    found = target("staging", start=project, environ={"STAGING": "p@ss/w:rd"})
    assert found.broker == "rediss://worker:p%40ss%2Fw%3Ard@redis.example:6379/1"
    assert found.backend == f"db+sqlite:////{project.parents[1].as_posix().lstrip('/')}/results.sqlite".replace(
        "db+", ""
    )
    assert found.settings["task_default_queue"] == "hipri"
    assert found.settings["broker_transport_options"] == {"visibility_timeout": 60}
    ca = str(project.parents[1] / "ca.pem")
    assert found.settings["broker_use_ssl"] == {"ssl_cert_reqs": ssl.CERT_OPTIONAL, "ssl_ca_certs": ca}
    assert "redis_backend_use_ssl" not in found.settings
    assert not found.typed


def test_variables(project):
    found = target("inline", start=project, environ={"SECRET": "a/b", "RESULTS": "redis://:x@h/1"})
    assert found.broker == "amqp://me:a%2Fb@rabbit//"
    assert found.backend == "redis://:x@h/1"
    assert target("shipping", start=project, environ={}).signing_key_file == str(
        project.parents[1] / "keys" / "one.key"
    )


def test_nothing_is_the_environment_then_the_default_profile(project, tmp_path_factory):
    both = {
        "CELERY_BROKER_URL": "redis://c/0",
        "NBCANVAS_BROKER_URL": "redis://n/0",
        "CELERY_RESULT_BACKEND": "redis://r/0",
    }
    found = target(environ=both, start=project)
    assert (found.broker, found.backend) == ("redis://n/0", "redis://r/0")
    assert target(environ={"CELERY_BROKER_URL": "redis://c/0"}, start=project).backend is None
    assert target(environ={}, start=project).broker == "redis://localhost:6379/0"
    with pytest.raises(ImproperlyConfigured, match="connect to what"):
        target(environ={}, start=tmp_path_factory.mktemp("empty"))


def test_a_url(project):
    assert target("redis://h:1/0").typed is False
    assert target("redis://:x@h:1/0").typed is True
    assert target("redis://:${P}@h:1/0", environ={"P": "x"}).typed is False
    assert target("staging", "redis://other/0", start=project, environ={"STAGING": "x"}).backend == "redis://other/0"


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("stagin", "", "did you mean 'staging'"),
        ("staging", "", "STAGING"),
        ("inline", "", "SECRET"),
        ("bad", "[tool.nbcanvas.profiles.bad]\nbrokr = 'redis://h'", "did you mean 'broker'"),
        ("bad", "[tool.nbcanvas.profiles.bad]\nbackend = 'redis://h'", "names no broker"),
        ("bad", "[tool.nbcanvas.profiles.bad]\nbroker = 'localhost'", "not a URL"),
        ("bad", "[tool.nbcanvas.profiles.bad]\nbroker = 'redis://h'\ntls = {ca = 'no.pem'}", "no such file"),
        (
            "bad",
            "[tool.nbcanvas.profiles.bad]\nbroker = 'redis://h'\ntls = {verify = 'maybe'}",
            "required, optional, none",
        ),
        ("bad", "[tool.nbcanvas.profiles.bad]\nbroker = 'redis://h'\ntls = {certs = 'x'}", "ca, cert, key, verify"),
        ("bad", "[tool.nbcanvas.profiles.bad]\nbroker = 'redis://h'\nsettings = {task_rotes = 1}", "task_routes"),
        ("bad", "[tool.nbcanvas.profiles]\nbad = 1", "tables"),
        ("bad", "[tool", "pyproject.toml"),
    ],
)
def test_what_is_wrong_is_said(project, name, change, says):
    file = project.parents[1] / "pyproject.toml"
    file.write_text(FILE + change if "profiles]" not in change else change)
    with pytest.raises(ImproperlyConfigured, match=says):
        target(name, start=project, environ={})


# -- without its password ---------------------------------------------------------------------------------------------

PASSWORD = "gehe1m"
URLS = [
    f"redis://:{PASSWORD}@h:1/0",
    f"redis://me:{PASSWORD}@h:1/0",
    f"rediss://me:{PASSWORD}@h:1/0?ssl_cert_reqs=none",
    f"redis://h:1/0?password={PASSWORD}",
    f"amqp://me:{PASSWORD}@h//",
    f"amqp://me:x/{PASSWORD}@h//",
    f"amqp://me:x@{PASSWORD}@h//",
    f"amqps://me:{PASSWORD}@h/v;amqps://me:{PASSWORD}@h2/v",
    f"sentinel://:{PASSWORD}@h1:1;sentinel://:{PASSWORD}@h2:1",
    f"db+postgresql://me:{PASSWORD}@h/results",
    f"sqs://key:{PASSWORD}@",
    f"https://h/?token={PASSWORD}",
    f"unix://:{PASSWORD}@/tmp/redis.sock",
]


@pytest.mark.parametrize("inside", [f"it's {PASSWORD}", f'"{PASSWORD}"', f"a@b'{PASSWORD}", f"<{PASSWORD}>"])
def test_a_password_that_should_have_been_quoted_is_not_shown(inside):
    url = f"redis://me:{inside}@h:1/0"
    assert masked(url) == "redis://me:********@h:1/0"
    assert PASSWORD not in repr(Hidden(url))
    assert masked("redis://h:1/0 is not there (me@h)") == "redis://h:1/0 is not there (me@h)"


@pytest.mark.parametrize("url", URLS)
def test_urls_are_shown_without_it(url):
    assert PASSWORD not in masked(url)
    assert PASSWORD not in masked(f"cannot connect to {url}: refused")
    assert PASSWORD not in repr(Hidden(url))
    assert PASSWORD not in repr({"broker_url": [Hidden(url)]})
    assert str(Hidden(url)) == url
    assert PASSWORD not in repr(Target("x", url, url))
    with pytest.raises(TypeError):
        pickle.dumps(Hidden(url))


@pytest.mark.parametrize(
    "typo", [f"redis:/:{PASSWORD}@h", f":{PASSWORD}@h:1", f"redis//:{PASSWORD}@h", f"{PASSWORD}@h"]
)
def test_what_is_no_url_is_not_repeated(typo, project):
    with pytest.raises(ImproperlyConfigured) as caught:
        target(typo, start=project)
    assert PASSWORD not in str(caught.value)


def test_this_machine():
    assert all(
        map(is_loopback, ["redis://localhost/0", "redis://:x@127.0.0.1:1/0", "redis://[::1]:2", "unix:///tmp/s"])
    )
    assert not any(
        map(
            is_loopback,
            ["redis://h/0", "rediss://:x@10.0.0.1:1/0", "redis://localhost.example/0", "redis://127.example/0"],
        )
    )


def test_what_a_profile_sets_goes_with_its_servers(tmp_path):
    kept = current_app()
    results = f"db+sqlite:///{tmp_path}/results.sqlite"
    first = App("first", backend=results, task_default_queue="mine", set_as_current=False)
    tls = {"ssl_ca_certs": "ca.pem"}
    try:
        second = first.connected("rediss://h/0", None, broker_use_ssl=tls, task_default_queue="hipri", enable_utc=True)
        second.conf.timezone = "Europe/Rome"
        second.conf.enable_utc = False
        third = second.connected("redis://h/0", None, task_default_queue="lopri")
        assert (second.conf.broker_use_ssl, second.conf.task_default_queue) == (tls, "hipri")
        assert (third.conf.broker_use_ssl, third.conf.task_default_queue) == (False, "lopri")
        assert (third.conf.timezone, third.conf.enable_utc) == ("Europe/Rome", False)  # somebody said so meanwhile
        home = third.connected()
        assert (home.conf.task_default_queue, home.conf.result_backend) == ("mine", results)
        assert third.conf.result_backend is None
        for app in (first, second, third, home):
            app.close()
    finally:
        kept.set_current()
