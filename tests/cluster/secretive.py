"""One task, for workers whose broker has a password."""


def define(app):
    @app.task(name="add")
    def add(x, y):
        return x + y
