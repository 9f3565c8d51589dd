"""``-A`` of a fleet's workers of our own."""

from tests.cluster.fleet import from_environment, our_app

app = from_environment(our_app)
app.set_current()
