"""Trees of objects that sites announce with their replies."""

from collections.abc import Callable, Sequence

from server.flower_internals import ObjectTree


def is_complete(tree: ObjectTree, stored_children: Callable[[str], Sequence[str] | None]) -> bool:
    """Whether a tree names the same children of an object each time, the ones that are already stored among them.

    Flower keeps the children of an object from where it is named first, and builds the tree again from them. From a few
    hundred objects, named without their children the second time, a tree of any size could be built.

    Args:
        tree: The tree.
        stored_children: Returns the children of an object that is stored; None if it is not.
    """
    children, waiting = dict[str, Sequence[str]](), [tree]
    while waiting:
        node = waiting.pop()
        waiting.extend(node.children)
        named = [child.object_id for child in node.children]
        if node.object_id not in children:
            stored = stored_children(node.object_id)
            children[node.object_id] = named if stored is None else stored
        if named != children[node.object_id]:
            return False
    return True
