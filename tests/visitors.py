"""Stamping visitors of Celery's guide, for the StampingVisitor of either library."""

__all__ = ["InGroup"]


class InGroup:
    """The guide's InGroupVisitor, without its base."""

    in_group = False

    def on_group_start(self, group, **headers):
        self.in_group = True
        return {"in_group": [self.in_group], "stamped_headers": ["in_group"]}

    def on_group_end(self, group, **headers):
        self.in_group = False

    def on_chain_start(self, chain, **headers):
        return {"in_group": [self.in_group], "stamped_headers": ["in_group"]}

    def on_signature(self, sig, **headers):
        return {"in_group": [self.in_group], "stamped_headers": ["in_group"]}
