"""``-A`` of a fleet's Celery workers."""

from tests.cluster.fleet import celerys_app, from_environment

app = from_environment(celerys_app)
app.set_current()
