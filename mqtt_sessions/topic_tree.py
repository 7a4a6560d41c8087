"""All subscriptions by filter: exact ones in a dict, wildcards in a tree of levels.

Spec: MQTT 5.0 §4.7, §3.3.2.1 [MQTT-3.3.2-3].
"""

from __future__ import annotations

from collections.abc import Iterator

from mqtt_sessions.state import Route, SessionState

__all__ = ["Bucket", "TopicTree"]

Bucket = Route | dict[SessionState, Route]
"""The subscriptions to one filter: the only one, or each by its session."""


class _Node:
    """One level of a wildcard filter."""

    __slots__ = ("bucket", "children")

    def __init__(self) -> None:
        self.bucket: Bucket | None = None
        self.children: dict[str, _Node] | None = None


def _with(bucket: Bucket | None, route: Route) -> Bucket:
    if bucket is None:
        return route
    if isinstance(bucket, Route):
        return {bucket.session: bucket, route.session: route}
    bucket[route.session] = route
    return bucket


def _without(bucket: Bucket | None, route: Route) -> Bucket | None:
    if isinstance(bucket, dict):
        del bucket[route.session]
        return next(iter(bucket.values())) if len(bucket) == 1 else bucket
    assert bucket is route
    return None


class TopicTree:
    """Which subscriptions a topic name matches."""

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, Bucket] = {}
        self._root = _Node()

    def add(self, route: Route) -> bool:
        """Take in a subscription; whether it is the first one of its filter. *Cost* O(levels)."""
        topic_filter = route.topic_filter
        if "+" not in topic_filter and "#" not in topic_filter:
            bucket = self._exact.get(topic_filter)
            self._exact[topic_filter] = _with(bucket, route)
            return bucket is None
        node = self._root
        for level in topic_filter.split("/"):
            children = node.children
            if children is None:
                children = node.children = {}
            child = children.get(level)
            if child is None:
                child = children[level] = _Node()
            node = child
        bucket = node.bucket
        node.bucket = _with(bucket, route)
        return bucket is None

    def remove(self, route: Route) -> bool:
        """Take out a subscription; whether it was the last one of its filter. *Cost* O(levels)."""
        topic_filter = route.topic_filter
        if "+" not in topic_filter and "#" not in topic_filter:
            bucket = _without(self._exact[topic_filter], route)
            if bucket is None:
                del self._exact[topic_filter]
                return True
            self._exact[topic_filter] = bucket
            return False
        path: list[tuple[dict[str, _Node], str, _Node]] = []
        node = self._root
        for level in topic_filter.split("/"):
            assert node.children is not None
            child = node.children[level]
            path.append((node.children, level, child))
            node = child
        node.bucket = _without(node.bucket, route)
        if node.bucket is not None:
            return False
        for siblings, level, child in reversed(path):
            if child.bucket is not None or child.children:
                break
            del siblings[level]
        return True

    def match(self, topic_name: str) -> list[Bucket]:
        """The subscriptions that a topic name matches, filter by filter.

        *Cost* O(1) without wildcards, else O(levels + branches that match).

        Spec: MQTT 5.0 §4.7.1, §4.7.2 [MQTT-4.7.2-1], §4.7.3 [MQTT-4.7.3-4].
        """
        exact = self._exact.get(topic_name)
        found = [] if exact is None else [exact]
        if not self._root.children:
            return found
        # MQTT-4.7.2-1: a leading wildcard does not match a topic that begins with $
        wild = topic_name[0] != "$"
        nodes = [self._root]
        for level in topic_name.split("/"):
            below: list[_Node] = []
            for node in nodes:
                children = node.children
                if not children:
                    continue
                if wild:
                    rest = children.get("#")
                    if rest is not None and rest.bucket is not None:
                        found.append(rest.bucket)
                    any_one = children.get("+")
                    if any_one is not None:
                        below.append(any_one)
                child = children.get(level)
                if child is not None:
                    below.append(child)
            wild = True
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            if node.bucket is not None:
                found.append(node.bucket)
            if node.children:
                rest = node.children.get("#")  # NN-12.9: # includes the parent level
                if rest is not None and rest.bucket is not None:
                    found.append(rest.bucket)
        return found

    def filters(self) -> Iterator[str]:
        """All filters that have a subscription. *Cost* O(filters)."""
        yield from self._exact
        stack = [("", child, level) for level, child in (self._root.children or {}).items()]
        while stack:
            prefix, node, level = stack.pop()
            if node.bucket is not None:
                yield prefix + level
            stack += [
                (prefix + level + "/", child, below)
                for below, child in (node.children or {}).items()
            ]
