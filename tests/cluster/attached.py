"""Tasks that take a moment, for either library."""

import time


def define(app):
    import redis

    store = redis.Redis.from_url(str(app.conf.result_backend))

    @app.task(name="slow")
    def slow(x):
        time.sleep(0.3)
        return x

    @app.task(name="held")
    def held(x):
        """Return when the test has put something into the list ``gate``; after two minutes by itself."""
        for _ in range(120):
            if store.blpop(["gate"], 1):
                break
        return x

    @app.task(name="total")
    def total(numbers):
        return sum(numbers)

    @app.task(name="fails")
    def fails():
        raise ZeroDivisionError("division by zero")

    @app.task(name="long")
    def long(x):
        time.sleep(1)
        return x

    @app.task(name="seldom", rate_limit="1/h")
    def seldom():
        return 1

    @app.task(name="hours")
    def hours():
        for _ in range(600):
            time.sleep(0.1)
