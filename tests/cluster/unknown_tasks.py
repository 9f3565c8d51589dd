"""Tasks that only workers know."""


def define(app):
    import redis

    store = redis.Redis.from_url(str(app.conf.result_backend))

    @app.task(name="add")
    def add(x, y):
        return x + y

    @app.task(name="fails")
    def fails(n):
        if not store.exists("mended"):
            raise ValueError(f"no {n}")
        return n

    @app.task(name="total")
    def total(numbers):
        return sum(numbers)

    @app.task(name="quiet", ignore_result=True)
    def quiet():
        return None
