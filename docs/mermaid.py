"""Mermaid graphs, without edges that a longer path implies."""

from __future__ import annotations


def reduced(edges: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the transitive reduction of an acyclic graph, sorted by the flow."""

    def reach(start: str, skip: tuple[str, str]) -> set[str]:
        seen, todo = set[str](), [start]
        while todo:
            here = todo.pop()
            for edge in edges - {skip}:
                if edge[0] == here and edge[1] not in seen:
                    seen.add(edge[1])
                    todo.append(edge[1])
        return seen

    needed = [edge for edge in edges if edge[1] not in reach(edge[0], edge)]
    depth = {name: len(reach(name, ("", ""))) for edge in edges for name in edge}
    return sorted(needed, key=lambda edge: (-depth[edge[0]], edge))


def flowchart(edges: list[tuple[str, str]], direction: str = "LR") -> str:
    """Return the graph as a Markdown block; direction LR is left to right, TD top down."""
    lines = [f"flowchart {direction}", *(f"    {a} --> {b}" for a, b in edges)]
    return "\n```mermaid\n" + "\n".join(lines) + "\n```\n"
