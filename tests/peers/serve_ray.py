"""A cluster of Ray on this machine, head and nodes with CPUs: `python serve_ray.py NODES CPUS`.

Says its address, then does what each line of its input says, and says the line again when it is done:
`remove` kills the newest node, `add` starts one, `head` kills the head. Uses nothing of ours.
"""

import sys

from ray.cluster_utils import Cluster

#: Of the object store of each: nothing is put there.
OBJECTS = 100 * 1024 * 1024

nodes, cpus = int(sys.argv[1]), int(sys.argv[2])
head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECTS}
cluster = Cluster(initialize_head=True, head_node_args=head)


def add() -> None:
    started.append(cluster.add_node(num_cpus=cpus, object_store_memory=OBJECTS))


started = []
for _ in range(nodes):
    add()
print(cluster.address, flush=True)
for line in sys.stdin:
    match line.strip():
        case "add":
            add()
        case "remove":
            cluster.remove_node(started.pop(), allow_graceful=False)
        case "head":
            cluster.remove_node(cluster.head_node, allow_graceful=False)
    print(line.strip(), flush=True)
