"""Remote control and events, both ways, as Celery's workers and clients speak them."""
